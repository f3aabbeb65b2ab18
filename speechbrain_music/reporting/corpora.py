"""What a run has trained on, for its export: options, steps, hours of audio."""

from pathlib import Path

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.output import read_json
from speechbrain_music.utils.errors import UserError

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
    root, stored = data_folder or "unknown", read_json(Path(train_csv).with_name("report.json"))
    if isinstance(stored.get("data_folder"), str):
        root = Path(train_csv).absolute().parent / stored["data_folder"]
    try:
        train, valid = (read_manifest(path, root) for path in (train_csv, valid_csv))
    except UserError:
        return {}
    names, corpora = train.get("corpus", train["wav"].str[:0]).replace("", Path(root).name), []
    for name, part in train.groupby(names, sort=False):
        wav, hours = Path(part["wav"].iloc[0]), float(part["duration"].sum() / 3600)
        marks = (folder / mark for folder in wav.parents for mark in COMPOSED)
        composed = any(mark.exists() for mark in marks) if wav.exists() else None
        corpora.append({"name": name, "hours": hours, "composed": composed})
    tables = {"train": train, "valid": valid}
    hours = {split: float(table["duration"].sum() / 3600) for split, table in tables.items()}
    return {"hours": hours, "corpora": corpora}
