"""Several prepared corpora -> one, with weights.

python -m speechbrain_music.data_prep.merge manifests/fma manifests/mine=3 --out manifests/both

Tracks are drawn by duration x weight: with `=3` a second of that corpus is heard three times as
often. Then

python recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder ROOT \
    --train_csv manifests/both/train.csv --valid_csv manifests/both/valid.csv

where ROOT is said at the end: the folder that all corpora lie in.
"""

import json
import logging
import math
import os
import sys
from pathlib import Path

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.command import answer, make_parser
from speechbrain_music.data_prep.disk import PreparationError, as_user_error, check_output
from speechbrain_music.data_prep.report import counted, save, summary

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid")


@as_user_error
def merge(corpora, out):
    """Writes one manifest a split from several corpora's; test manifests are left alone.

    Arguments
    ---------
    corpora : dict
        Folder that a preparation wrote to -> weight, greater than 0.
    out : str | Path
        The folder to write to.

    Returns
    -------
    dict
        The report; its `data_folder` stands for `$data_root` in the new manifests.

    Raises
    ------
    PreparationError
        If a weight is none, a folder holds no corpus, or two corpora have the same name.

    Example
    -------
    >>> import numpy, soundfile
    >>> from speechbrain_music.data_prep.folder import prepare_folder
    >>> root = getfixture("tmp_path")
    >>> for name in ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"):
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     soundfile.write(root / name, numpy.zeros(8000), 8000)
    >>> for name in "ab":
    ...     csv = [root / "out" / name / f"{split}.csv" for split in SPLITS]
    ...     _ = prepare_folder(root / name, *csv)
    >>> report = merge({root / "out" / "a": 1.0, root / "out" / "b": 3.0}, root / "both")
    >>> table = manifest.read_manifest(root / "both" / "train.csv", root)
    >>> table[["corpus", "weight"]].values.tolist()
    [['a', 1.0], ['b', 3.0]]
    """
    out = Path(out)
    check_output(out / "train.csv")
    if not corpora:
        raise PreparationError("Name at least one folder that a preparation wrote to.")
    if (out / "train.csv").exists() and "corpora" not in _report(out):
        raise PreparationError(f"{out} holds a corpus of its own; choose another folder.")
    folders = {Path(folder): weight for folder, weight in corpora.items()}
    if len({folder.resolve().name for folder in folders}) < len(folders):
        raise PreparationError("Two corpora have the same name; rename the folder of one.")
    roots = {}
    for folder, weight in folders.items():
        if not (math.isfinite(weight) and weight > 0):
            raise PreparationError(f"The weight of {folder} is {weight}; it must be above 0.")
        roots[folder] = _report(folder)["data_folder"]
    root = os.path.commonpath(roots.values())
    rows = {split: [] for split in SPLITS}
    for folder, weight in folders.items():
        name = folder.resolve().name
        for split in SPLITS:
            table = manifest.read_manifest(folder / f"{split}.csv", roots[folder])
            for piece in table.itertuples():
                row = {column: getattr(piece, column) for column in manifest.COLUMNS}
                row |= {"ID": f"{name}/{piece.ID}", "wav": os.path.relpath(piece.wav, root)}
                rows[split].append(row | {"corpus": name, "weight": weight * piece.weight})
    report = {
        "data_folder": root,
        "corpora": {folder.resolve().name: weight for folder, weight in folders.items()},
        "splits": {split: counted(part) for split, part in rows.items()},
        **summary([]),
    }
    texts = {
        out / f"{split}.csv": manifest.manifest_text(part, ("corpus", "weight"))
        for split, part in rows.items()
    }
    save(out, report, [], texts)
    logger.info("pass --data_folder %s", root)
    return report


def _report(folder):
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return report | {"data_folder": report["data_folder"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PreparationError(
            f"{folder} holds no prepared corpus (train.csv, valid.csv, report.json); "
            "prepare it first."
        ) from error


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     main(["manifests/fma", "manifests/mine=three", "--out", "both"])
    error: A weight is no number (could not convert string to float: 'three'); write FOLDER=2.
    2
    """
    parser = make_parser("merge", __doc__, several="corpora")

    def prepare(corpora, out):
        pairs = [text.rpartition("=") if "=" in text else (text, "=", "1") for text in corpora]
        if len({folder for folder, _, _ in pairs}) < len(pairs):
            raise PreparationError("A folder is named twice; give it one weight.")
        try:
            weights = {folder: float(weight) for folder, _, weight in pairs}
        except ValueError as error:
            raise PreparationError(f"A weight is no number ({error}); write FOLDER=2.") from error
        return merge(weights, out)

    return answer(prepare, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
