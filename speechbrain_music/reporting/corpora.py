"""What a pre-training run heard: hours of audio by corpus, from its manifests."""

import csv
import json
from collections import Counter
from pathlib import Path

# At the root of composed music, see data_prep.replica.
COMPOSED = ("corpus.json", "replica.json")


def heard(train_csv, valid_csv, data_folder):
    """Hours of two manifests, and of the training corpora.

    Arguments
    ---------
    train_csv, valid_csv : path
        Manifests; a column `corpus`, as a merged one has it, tells corpora apart. Beside the
        first, `report.json` says which folder they are of.
    data_folder : path
        What stands for `$data_root` where there is no such report.

    Returns
    -------
    dict
        `hours`: of "train" and "valid". `corpora`: a dict each with `name`, `hours` and
        `composed`, whether a program made the music (None where the music is gone). Empty if a
        manifest is gone.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name, seconds in (("train.csv", 7200), ("valid.csv", 1800)):
    ...     text = f"ID,duration,wav\\na,{seconds},$data_root/a.wav\\n"
    ...     _ = (folder / name).write_text(text)
    >>> found = heard(folder / "train.csv", folder / "valid.csv", "/data/my_music")
    >>> found["hours"], found["corpora"]
    ({'train': 2.0, 'valid': 0.5}, [{'name': 'my_music', 'hours': 2.0, 'composed': None}])
    """
    try:
        train, valid = (_pieces(path) for path in (train_csv, valid_csv))
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    root = _root(train_csv, data_folder)
    hours, first = Counter(), {}
    for piece in train:
        name = piece.get("corpus") or root.name
        hours[name] += piece["hours"]
        first.setdefault(name, Path(piece["wav"].replace("$data_root", str(root), 1)))
    corpora = [
        {"name": name, "hours": hours[name], "composed": _is_composed(first[name])}
        for name in hours
    ]
    total = {"train": sum(hours.values()), "valid": sum(piece["hours"] for piece in valid)}
    return {"hours": total, "corpora": corpora}


def _pieces(manifest):
    with open(manifest, encoding="utf-8-sig", newline="") as file:
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
