"""The corpora of a pre-training run: hours of audio, from its manifests."""

import csv
import json
from collections import Counter
from pathlib import Path

# At the root of composed music, see data_prep.replica.
COMPOSED = ("corpus.json", "replica.json")


def describe_corpora(train_csv, valid_csv, data_folder):
    """Hours of two manifests, and of each training corpus; {} if a manifest is gone.

    A column `corpus`, as in a merged manifest, tells corpora apart; `report.json` in the folder of
    the first manifest, else `data_folder`, names the folder of the music. `composed` of a corpus:
    whether a program made it (None if the music is gone).
    """
    try:
        train, valid = (_read_manifest(path) for path in (train_csv, valid_csv))
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    root = _root(train_csv, data_folder)
    hours, first = Counter(), {}
    for track in train:
        name = track.get("corpus") or root.name
        hours[name] += track["hours"]
        first.setdefault(name, Path(track["wav"].replace("$data_root", str(root), 1)))
    corpora = [
        {"name": name, "hours": hours[name], "composed": _is_composed(first[name])}
        for name in hours
    ]
    total = {"train": sum(hours.values()), "valid": sum(track["hours"] for track in valid)}
    return {"hours": total, "corpora": corpora}


def _read_manifest(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return [row | {"hours": float(row["duration"]) / 3600} for row in csv.DictReader(file)]


def _root(train_csv, data_folder):
    try:
        report = json.loads(Path(train_csv).with_name("report.json").read_text(encoding="utf-8"))
        return Path(report["data_folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return Path(data_folder or "unknown")


def _is_composed(wav):
    if not wav.exists():
        return None
    return any((folder / name).exists() for folder in wav.parents for name in COMPOSED)
