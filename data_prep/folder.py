"""Any folder of music -> a training and a validation manifest, and a report of what was skipped.

From a shell: `python -m speechbrain_music.data_prep.folder /my/music --out results/manifests`.
"""

import argparse
import difflib
import hashlib
import json
import logging
import os
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from speechbrain_music.data_prep import manifest
from speechbrain_music.dataio import audio
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

_BATCH = 1024  # headers in flight: a pool given all files at once would hold a task for each
_UNFIT = re.compile(r"[\r\n\ud800-\udfff]|\$data_root")  # surrogates: bytes that are not UTF-8


class PreparationError(UserError):
    """A folder that cannot be prepared. The message is one sentence with the remedy."""


def prepare_folder(data_folder, train_csv, valid_csv, valid_share=0.1, seed=0, min_seconds=0.8):
    """Writes the manifests of a folder of music, reading headers only.

    Every file in the folder and below it is taken by its extension, hidden ones aside. Files are
    held out in an order that depends on their paths and the seed alone, so that few change sides
    when the folder grows. Beside `train_csv` appear `report.json` (what is returned) and
    `skipped.csv`. Manifests that exist are kept as they are.

    Arguments
    ---------
    data_folder : str | Path
        The folder.
    train_csv, valid_csv : str | Path
        The manifests to write.
    valid_share : float
        Share of the files to hold out, in (0, 1); at least one file is.
    seed : int
        Chooses which.
    min_seconds : float
        Files shorter than this are skipped.

    Returns
    -------
    dict
        `data_folder`, `valid_share`, `seed`, `min_seconds`, `splits` (name -> `files`, `hours`),
        `skipped` (a count), `reasons` (reason -> count).

    Raises
    ------
    PreparationError
        If the folder is missing or has fewer than two usable files, if `valid_share` is out of
        range, if the manifests cannot be written, or exist and are another folder's.

    Example
    -------
    >>> import numpy, soundfile, tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("do.wav", "re.flac", "mi.ogg"):
    ...     soundfile.write(root / name, numpy.zeros(24000), 24000)
    >>> report = prepare_folder(root, root / "train.csv", root / "valid.csv")
    >>> [split["files"] for split in report["splits"].values()], report["skipped"]
    ([2, 1], 0)
    """
    if not 0 < valid_share < 1:
        raise PreparationError(f"valid_share is {valid_share}; it must lie between 0 and 1.")
    root = _existing_folder(data_folder)
    train_csv, valid_csv = Path(train_csv), Path(valid_csv)
    report_json = train_csv.with_name("report.json")
    settings = {"data_folder": str(root), "valid_share": valid_share}
    settings |= {"seed": seed, "min_seconds": min_seconds}
    if train_csv.exists() and valid_csv.exists():
        return _kept(report_json, settings)
    for path in (train_csv, valid_csv):  # said before the scan, which may take an hour
        place = next(p for p in path.absolute().parents if p.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise PreparationError(f"{path} cannot be written; choose another folder for it.")

    names, unlisted, others = _find(root)
    if not names and not unlisted:
        found = ", ".join(f"{ext} ({n})" for ext, n in others.most_common(8)) or "no files at all"
        raise PreparationError(
            f"{root} holds no audio: looked for {' '.join(sorted(audio.AUDIO_EXTENSIONS))}, "
            f"found {found}; give the folder that holds the music."
        )
    rows, skipped = _scan(root, names, min_seconds)
    skipped = sorted((_printable(name), reason) for name, reason in unlisted + skipped)
    if len(rows) < 2:
        first = "".join(f"; {name}: {reason}" for name, reason in skipped[:1])
        raise PreparationError(
            f"{root} has {len(rows)} usable of {len(rows) + len(skipped)} audio file(s), and two "
            f"are needed, one to train and one to hold out{first}."
        )
    rows.sort(key=lambda row: hashlib.sha1(f"{seed}:{row['ID']}".encode()).digest())
    held_out = min(max(1, round(valid_share * len(rows))), len(rows) - 1)
    splits = {"train": rows[held_out:], "valid": rows[:held_out]}
    report = settings | {
        "splits": {
            name: {"files": len(part), "hours": round(sum(r["duration"] for r in part) / 3600, 6)}
            for name, part in splits.items()
        },
        "skipped": len(skipped),
        "reasons": dict(sorted(Counter(reason for _, reason in skipped).items())),
    }
    files = {  # the manifests last: where both are, all is
        train_csv.with_name("skipped.csv"): manifest.csv_text(skipped, ("path", "reason")),
        report_json: json.dumps(report, indent=2) + "\n",
        valid_csv: manifest.manifest_text(splits["valid"]),
        train_csv: manifest.manifest_text(splits["train"]),
    }
    try:
        write_together(files)
    except OSError as error:
        raise PreparationError(
            f"The manifests could not be written ({error.strerror}); choose another folder "
            f"than {train_csv.parent} or make room there."
        ) from error
    _say(report)
    return report


def _existing_folder(data_folder):
    folder = Path(data_folder)
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise PreparationError(f"{folder} is a file; give the folder that holds it.")
    parent = next(p for p in folder.absolute().parents if p.is_dir())
    missing = folder.absolute().relative_to(parent).parts[0]
    siblings = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    close = difflib.get_close_matches(missing, siblings, n=1)
    hint = f"did you mean {parent / close[0]}?" if close else f"{parent} is as far as it goes."
    raise PreparationError(f"There is no folder {folder}; {hint}")


def _kept(report_json, settings):
    try:
        report = json.loads(report_json.read_text(encoding="utf-8"))
        source = report["data_folder"]
    except (OSError, ValueError, LookupError, TypeError):
        report, source = {}, "an unknown folder"
    if source != settings["data_folder"]:
        raise PreparationError(
            f"The manifests in {report_json.parent} were prepared from {source}, not from "
            f"{settings['data_folder']}; delete them or choose another folder for the new ones."
        )
    changed = [key for key, value in settings.items() if report.get(key) != value]
    if changed:
        what = "Kept the manifests in %s, made with another %s; delete them to have them renewed."
        logger.warning(what, report_json.parent, ", ".join(changed))
    _say(report)
    return report


def _find(root):
    names, others, unlisted, seen = [], Counter(), [], set()
    for folder, subfolders, files in os.walk(root, onerror=unlisted.append, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link in a circle, or to a folder we had
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if extension in audio.AUDIO_EXTENSIONS or extension in audio.FOREIGN_EXTENSIONS:
                names.append(Path(folder, name).relative_to(root).as_posix())
            else:
                others[extension or "no extension"] += 1
    skipped = [(os.path.relpath(error.filename, root), "cannot be listed") for error in unlisted]
    return names, skipped, others


def _scan(root, names, min_seconds):
    rows = []
    workers = min(32, 4 * (os.cpu_count() or 1))  # headers wait for the disk, not for a core
    bar = tqdm(total=len(names), desc="Reading headers", unit="file", disable=None)
    with bar, ThreadPoolExecutor(workers) as pool:
        for begin in range(0, len(names), _BATCH):
            batch = names[begin : begin + _BATCH]
            for row in pool.map(lambda name: _row(root, name, min_seconds), batch):
                rows.append(row)
                bar.update()
    skipped = [(name, row) for name, row in zip(names, rows, strict=True) if isinstance(row, str)]
    return [row for row in rows if not isinstance(row, str)], skipped


def _row(root, name, min_seconds):
    """The manifest's row of a file, or the reason why it has none."""
    if _UNFIT.search(name):
        return "its name has a line break, $data_root or bytes that are not UTF-8; rename it"
    path = root / name
    try:
        info = audio.audio_info(path)
    except audio.AudioError as error:
        return str(error).removeprefix(f"{path}: ").rstrip(".")
    seconds = info.frames / info.sample_rate
    if seconds < min_seconds:
        return f"shorter than {min_seconds:g} s"
    return {"ID": name, "duration": seconds, "wav": name, "start": 0, "stop": info.frames}


def _printable(name):
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _say(report):
    for name, split in report["splits"].items():
        logger.info("%s: %d files, %.2f hours", name, split["files"], split["hours"])
    for reason, count in report["reasons"].items():
        logger.info("skipped %d: %s", count, reason)


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_music.data_prep.folder",
        description="Prepare the manifests of a folder of music.",
    )
    parser.add_argument("data_folder", help="any folder of music, searched to the bottom")
    parser.add_argument("--out", required=True, type=Path, help="folder for train.csv, valid.csv")
    parser.add_argument("--valid_share", type=float, default=0.1, help="held out (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the held-out (default: 0)")
    args = parser.parse_args(argv)
    train_csv, valid_csv = args.out / "train.csv", args.out / "valid.csv"
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        prepare_folder(args.data_folder, train_csv, valid_csv, args.valid_share, args.seed)
    except PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
