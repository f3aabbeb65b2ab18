"""The report of a preparation, and its files: all of them or none, and only what has changed."""

import json
import logging
from collections import Counter

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.disk import PreparationError
from speechbrain_music.utils.atomic import write_together

logger = logging.getLogger(__name__)


def counted(rows, files=None):
    """How many files and rows a split has, and hours.

    Example
    -------
    >>> counted([{"duration": 1800.0}, {"duration": 900.0}], files=1)
    {'files': 1, 'rows': 2, 'hours': 0.75}
    """
    hours = round(sum(row["duration"] for row in rows) / 3600, 6)
    return {"files": len(rows) if files is None else files, "rows": len(rows), "hours": hours}


def summary(skipped):
    """The part of a report that counts what was skipped, (path, reason) each.

    Example
    -------
    >>> summary([("a.mp3", "shorter than 1 s"), ("b.mp3", "shorter than 1 s")])
    {'skipped': 2, 'reasons': {'shorter than 1 s': 2}}
    """
    reasons = Counter(reason for _, reason in skipped)
    return {"skipped": len(skipped), "reasons": dict(sorted(reasons.items()))}


def refuse_others(report_json, data_folder):
    """A `PreparationError` if the report where manifests are is another folder's, or that report.

    Example
    -------
    >>> path = getfixture("tmp_path") / "report.json"
    >>> _ = path.write_text('{"data_folder": "/my/music"}')
    >>> refuse_others(path, "/my/music")
    {'data_folder': '/my/music'}
    >>> try:
    ...     refuse_others(path, "/other")
    ... except PreparationError as error:
    ...     print(str(error).partition(" were ")[2].partition(";")[0])
    prepared from /my/music, not from /other
    """
    try:
        report = json.loads(report_json.read_text(encoding="utf-8"))
        source = report["data_folder"]
    except (OSError, ValueError, LookupError, TypeError):
        report, source = {}, "an unknown folder"
    if source != str(data_folder):
        raise PreparationError(
            f"The manifests in {report_json.parent} were prepared from {source}, not from "
            f"{data_folder}; delete them or choose another folder for the new ones."
        )
    return report


def save(out, report, skipped, manifests):
    """Writes what has changed, all or nothing, the manifests last; says what there is.

    Arguments
    ---------
    out : Path
        For `skipped.csv` and `report.json`.
    report : dict
        With `splits` (name -> `files`, `hours`) and what `summary` gives.
    skipped : list of (str, str)
        Path and reason.
    manifests : dict
        Path -> text.

    Example
    -------
    >>> out = getfixture("tmp_path")
    >>> files = out, {"splits": {}, "reasons": {}}, [], {out / "train.csv": "ID\\n"}
    >>> save(*files)
    >>> first = (out / "train.csv").stat().st_ino
    >>> save(*files)
    >>> (out / "train.csv").stat().st_ino == first  # not written again
    True
    """
    rows = [(manifest.printable(name), reason) for name, reason in sorted(skipped)]
    files = {
        out / "skipped.csv": manifest.csv_text(rows, ("path", "reason")),
        out / "report.json": json.dumps(report, indent=2) + "\n",
        **manifests,
    }
    if not all(path.exists() and path.read_bytes() == files[path].encode() for path in files):
        write_together(files)
    say(report)


def say(report):
    """Logs a report's main figures.

    Example
    -------
    >>> say({"splits": {}, "reasons": {}, "deviations": ["test has 289 of 290"]})
    >>> getfixture("caplog").messages
    ['not as published: test has 289 of 290']
    """
    for name, split in report["splits"].items():
        logger.info("%s: %d files, %.2f hours", name, split["files"], split["hours"])
    for reason, count in report["reasons"].items():
        logger.info("skipped %d: %s", count, reason)
    for deviation in report.get("deviations", ()):
        logger.warning("not as published: %s", deviation)
