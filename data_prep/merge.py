"""Several prepared corpora -> one, with weights.

Tracks are drawn by duration x weight: with `manifests/mine=3` a second of that corpus is drawn
three times as often. With `manifests/music=75% manifests/speech=25%` a quarter of the audio that
is drawn is speech. The last line names the folder that all corpora lie in; pass it as
--data_folder with --train_csv and --valid_csv to pre-train on the merged manifests.
"""

import logging
import math
import os
from contextlib import suppress
from pathlib import Path

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.files import PreparationError, check_output
from speechbrain_music.data_prep.output import read_json, split_counts, write_output

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid")


def merge(corpora, out):
    """Merge the manifests in several folders, given as FOLDER, FOLDER=WEIGHT or FOLDER=SHARE%.

    Shares are of the audio that is drawn, relative to each other; all corpora have one, or none.
    Returns the report. Raises a `PreparationError` if a folder holds no prepared corpus, a weight
    is not above 0, two folders have the same name, or `out` holds a corpus of its own.
    """
    out = Path(out)
    check_output(out / "train.csv")
    if (out / "train.csv").exists() and "corpora" not in _read_report(out):
        raise PreparationError(f"{out} holds a corpus of its own; choose another folder.")
    parsed = [_parse_weight(str(text)) for text in corpora]
    weights = {folder.resolve().name: weight for folder, weight, _ in parsed}
    if len(weights) < len(corpora):
        raise PreparationError("Two corpora have the same name; rename the folder of one.")
    if len({is_share for *_, is_share in parsed}) > 1:
        raise PreparationError("Give every corpus a share in percent, or none of them.")
    roots = [_read_report(folder)["data_folder"] for folder, *_ in parsed]
    root = os.path.commonpath(roots)
    rows = {split: [] for split in SPLITS}
    for (folder, _, is_share), own_root, name in zip(parsed, roots, weights, strict=True):
        for split in SPLITS:
            table = manifest.read_manifest(folder / f"{split}.csv", own_root)
            table["ID"] = f"{name}/" + table["ID"]
            table["wav"] = [os.path.relpath(wav, root) for wav in table["wav"]]
            if is_share and split == "train":
                weights[name] /= (table["duration"] * table["weight"]).sum() / 3600
            table["weight"] *= weights[name]
            rows[split] += table.assign(corpus=name).to_dict("records")
    report = {
        "data_folder": root,
        "corpora": weights,
        "splits": {split: split_counts(part) for split, part in rows.items()},
        "skipped": 0,
        "reasons": {},
    }
    texts = {
        out / f"{split}.csv": manifest.manifest_text(part, ("corpus", "weight"))
        for split, part in rows.items()
    }
    write_output(out, report, [], texts)
    logger.info("pass --data_folder %s", root)
    return report


def _parse_weight(text):
    """The folder and the weight in a text, and whether it is a share in percent."""
    folder, _, weight = text.rpartition("=") if "=" in text else (text, "=", "1")
    with suppress(ValueError):
        if 0 < (number := float(weight.removesuffix("%"))) < math.inf:
            return Path(folder), number, weight.endswith("%")
    raise PreparationError(f"{weight!r} is not a weight above 0; write {folder}=2.")


def _read_report(folder):
    """The report of a corpus, with `data_folder` as an absolute path."""
    report = read_json(folder / "report.json")
    if not isinstance(report.get("data_folder"), str):
        raise PreparationError(
            f"{folder} holds no prepared corpus (train.csv, valid.csv, report.json); "
            "prepare it first."
        )
    return report | {"data_folder": os.path.abspath(folder / report["data_folder"])}
