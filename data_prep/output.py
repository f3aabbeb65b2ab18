"""Reports, and the files of a preparation: written all or none, and only if something changed."""

import json
import logging

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.files import PreparationError
from speechbrain_music.utils.atomic import write_together

logger = logging.getLogger(__name__)


def split_counts(rows):
    """The report on a split: `files`, `rows` and `hours`."""
    hours = round(sum(row["duration"] for row in rows) / 3600, 6)
    return {"files": len({row["wav"] for row in rows}), "rows": len(rows), "hours": hours}


def read_json(path):
    """The dict in a JSON file; an empty one if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def refuse_other_source(report_json, data_folder, data_set):
    """The report that exists, or a `PreparationError` if it is about another folder or data set."""
    report = read_json(report_json)
    folder = report.get("data_folder", "an unknown folder")
    whole = all(type(report.get(k)) is dict for k in ("settings", "splits", "reasons"))
    kind = report.get("data_set", "another command") if whole else "another command"
    if folder != str(data_folder) or kind != data_set:
        raise PreparationError(
            f"The manifests in {report_json.parent} were prepared from {folder} ({kind}), not from "
            f"{data_folder} ({data_set}); delete them or choose another folder for the new ones."
        )
    return report


def write_output(out, report, skipped, manifests):
    """Write manifests (path -> text), `skipped.csv` and `report.json`, and log the report.

    The manifests come last, so a kill leaves no manifest without a report. Files that would not
    change are not written again.
    """
    rows = [(manifest.printable(name), reason) for name, reason in sorted(skipped)]
    files = {
        out / "skipped.csv": manifest.csv_text(rows, ("path", "reason")),
        out / "report.json": json.dumps(report, indent=2) + "\n",
        **manifests,
    }
    if not all(path.exists() and path.read_bytes() == files[path].encode() for path in files):
        write_together(files)
    log_report(report)


def log_report(report):
    """Log the counts of each split, what was skipped, and deviations from published counts."""
    for name, split in report["splits"].items():
        hours = split["hours"]
        duration = f"{hours:.2f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
        logger.info("%s: %d files, %s", name, split["files"], duration)
    for reason, count in report["reasons"].items():
        logger.info("skipped %d: %s", count, reason)
    for deviation in report.get("deviations", ()):
        logger.warning("deviation: %s", deviation)
