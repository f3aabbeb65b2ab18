"""What a run has trained on, for its export: options, steps, hours of audio."""

import json
from pathlib import Path

import pandas as pd

# At the root of composed music, see data_prep.replica.
COMPOSED = ("corpus.json", "replica.json")


def describe_run(run, meta, train_csv, valid_csv):
    """What was trained: a dict of plain values, with those of `describe_corpora`.

    `run` are the values of the run's yaml, `meta` is the loaded checkpoint's (step, loss).
    """
    training = {"system": run["system"], "seed": run["seed"], "init_from": run.get("init_from")}
    training |= {"step": meta["step"], "held_out_loss": meta["loss"]}
    if "tokenizer" in run:
        training["quantizer"] = run["tokenizer"].config
    if "teacher_encoder" in run:
        layers = ", ".join(map(str, run["heads"].layers))
        teacher = run["teacher_encoder"].identity
        training["distillation"] = f"layers {layers} of the encoder with fingerprint {teacher}"
    return training | describe_corpora(train_csv, valid_csv, run["data_folder"])


def describe_corpora(train_csv, valid_csv, data_folder):
    """Hours of two manifests, and of each training corpus; {} if a manifest is gone.

    A column `corpus`, as in a merged manifest, tells corpora apart; `report.json` in the folder of
    the first manifest, else `data_folder`, names the folder of the music. `composed` of a corpus:
    whether a program made it (None if the music is gone).
    """
    try:
        train, valid = (
            pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            for path in (train_csv, valid_csv)
        )
        for table in (train, valid):
            table["hours"] = table["duration"].astype(float) / 3600
    except (OSError, ValueError, LookupError):
        return {}
    try:
        report = json.loads(Path(train_csv).with_name("report.json").read_text(encoding="utf-8"))
        root = Path(train_csv).absolute().parent / report["data_folder"]
    except (OSError, ValueError, LookupError, TypeError):
        root = Path(data_folder or "unknown")
    names, corpora = train.get("corpus", train["wav"].str[:0]).replace("", root.name), []
    for name, part in train.groupby(names, sort=False):
        wav = Path(part["wav"].iloc[0].replace("$data_root", str(root), 1))
        hours = float(part["hours"].sum())
        marks = (folder / mark for folder in wav.parents for mark in COMPOSED)
        composed = any(mark.exists() for mark in marks) if wav.exists() else None
        corpora.append({"name": name, "hours": hours, "composed": composed})
    total = {"train": float(train["hours"].sum()), "valid": float(valid["hours"].sum())}
    return {"hours": total, "corpora": corpora}
