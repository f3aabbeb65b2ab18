"""Files and folders of embeddings: write and read .npy and .npz."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.atomic import atomic_file, replace_folder, write_together
from speechbrain_music.utils.errors import UserError, did_you_mean

KINDS = (".npy", ".npz")
INDEX, SETTINGS = "index.csv", "settings.json"  # in a folder of .npy files
COLUMNS = ("path", "duration")
OPTIONS = ("layers", "pool", "chunk", "overlap")  # of an encoder: embeddings depend on them


class Embeddings(NamedTuple):
    """Embeddings of N files: (N,) seconds, and (N, D) or (N, L, D) float32.

    Unpooled ones are (1, T, D) or (1, L, T, D), of one file, or in a folder the paths of .npy
    files. `settings` are those of `MusicEncoder.encode_files`, with `model` (a fingerprint),
    `source` and `stamps`: of each file, when it was embedded, its size and modification time.
    """

    paths: list
    durations: np.ndarray
    values: np.ndarray
    settings: dict


def check_out(out, pool, count):
    """Raise a UserError, before anything is computed, if `out` cannot hold those of `count` files.

    `out` ends in .npy or .npz, or is a new folder for the unpooled embeddings of files.
    """
    out, kinds = Path(out), " or ".join(KINDS)
    check_output(out)
    if out.suffix not in KINDS:
        if pool != "none":
            raise UserError(f"{out} must end in {kinds}; a folder needs --pool none")
        is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
        if out.is_symlink() or not (is_free or (out / INDEX).is_file()):
            raise UserError(f"{out} already exists: choose another --out, or remove it")
        return
    if pool == "none" and count > 1:
        raise UserError(
            f"{out} cannot hold the unpooled embeddings of {count} files: name a folder, "
            f"--out {out.stem}, or pass --pool mean"
        )
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file that ends in {kinds}")
    sidecars = _sidecars(out)
    if out.suffix == ".npy" and any(map(Path.exists, sidecars)) and not _is_settings(sidecars[1]):
        raise UserError(
            f"{' and '.join(map(str, sidecars))} would be overwritten, and were not written by "
            "`sbmusic embed`: choose another --out"
        )


def write_embeddings(out, embeddings):
    """Write a file of `Embeddings`, whole or not at all; `read_embeddings` reads it.

    `out` ends in .npy (the matrix; next to it a .csv with `path` and `duration` of each row, and
    a .json with the settings) or .npz (`embeddings`, `paths`, `durations`, `settings`). Of unpooled
    embeddings, .npy has no .csv and .npz has `times`; the path is in the settings. Bytes of paths
    that are not UTF-8 are escaped.
    """
    out, (paths, durations, values, settings) = Path(out), embeddings
    paths = [printable(path) for path in paths]
    arrays = {"paths": np.array(paths), "durations": durations}
    csv, sidecar = _sidecars(out)
    if is_unpooled := settings["pool"] == "none":
        values, settings = values[0], settings | {"path": paths[0]}
        arrays = {"times": np.arange(values.shape[-2]) / TOKEN_RATE}
    text = json.dumps(settings, indent=2) + "\n"
    with atomic_file(out, "wb") as file:
        if out.suffix == ".npy":
            np.save(file, values)
            rows = csv_text(zip(paths, durations.round(3).tolist(), strict=True), COLUMNS)
            write_together({sidecar: text} if is_unpooled else {sidecar: text, csv: rows})
        else:
            np.savez(file, embeddings=values, **arrays, settings=text)


def read_embeddings(path, unpooled=False):
    """Read a file that `write_embeddings` wrote, without running code; an .npy is memory-mapped.

    With `unpooled`, also one with the embeddings over time of one path.
    Raises UserError if it is missing, damaged or something else.
    """
    path = Path(path)
    if not path.exists():
        near = did_you_mean(path, "")
        raise UserError(f"{path} does not exist{near and f'; {near}'}")
    if path.suffix not in KINDS or not path.is_file():
        raise UserError(
            f"{path} is not a file of embeddings: pass a file that `sbmusic embed` wrote, which "
            f"ends in {' or '.join(KINDS)}"
        )
    with damage_explained(path):
        if path.suffix == ".npy":
            csv, sidecar = _sidecars(path)
            values, text = np.load(path, mmap_mode="r"), sidecar.read_text("utf-8")
            arrays = {"embeddings": values, "settings": text}
            if csv.is_file():
                table = _read_csv(csv)
                arrays |= {"paths": table["path"], "durations": table["duration"]}
        else:
            with np.load(path) as stored:
                arrays = dict(stored)
        values, settings = arrays["embeddings"], read_settings(str(arrays["settings"]))
        if is_unpooled := settings["pool"] == "none":
            values = values[None]
            seconds = values.shape[-2] / TOKEN_RATE
            arrays |= {"paths": [settings["path"]], "durations": [seconds]}
        paths = list(map(str, arrays["paths"]))
        durations = np.asarray(arrays["durations"], float)
        if values.dtype.kind != "f" or not np.isfinite(durations).all():
            raise TypeError("embeddings and durations must be numbers")
    complete = values.shape[:1] == (len(paths),) == durations.shape and len(paths) > 0
    if not complete or values.ndim - is_unpooled not in (2, 3) or is_unpooled > unpooled:
        raise UserError(f"{path} does not hold one row per file: embed with --pool mean")
    return Embeddings(paths, durations, values, settings)


def write_folder(out, embeddings, names, staging):
    """Replace `out` by a folder with links to .npy files, an index and the settings.

    `names` are those of the files in the folder, which is made as `staging`.
    """
    paths, durations, npys, settings = embeddings
    rows = zip(map(printable, paths), durations, map(printable, names), strict=True)
    index = csv_text(rows, (*COLUMNS, "file"))
    shutil.rmtree(staging, ignore_errors=True)  # left by a kill
    for npy, name in zip(npys, names, strict=True):
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(npy, staging / name)
        except OSError:  # a file system without links
            shutil.copyfile(npy, staging / name)
    text = json.dumps(settings, indent=2) + "\n"
    write_together({staging / INDEX: index, staging / SETTINGS: text})
    replace_folder(staging, out)


def read_folder(folder):
    """Read a folder that `write_folder` wrote, as `Embeddings` whose values are paths of .npy.

    Raises UserError if it is damaged, or holds files that its index does not name.
    """
    with damage_explained(folder):
        table = _read_csv(folder / INDEX)
        settings = read_settings((folder / SETTINGS).read_text("utf-8"))
        files = [folder / file for file in table["file"]]
        paths, durations = table["path"].tolist(), table["duration"].to_numpy(float)
    found = {printable(file) for file in folder.rglob("*") if not file.is_dir()}
    others = found - {str(file) for file in (*files, folder / INDEX, folder / SETTINGS)}
    if others:
        raise UserError(f"{min(others)} would be lost: choose another --out, or move that file")
    return Embeddings(paths, durations, files, settings)


@contextmanager
def damage_explained(path, remedy="embed the files again"):
    """Turn errors of reading a damaged file or folder into a UserError with the remedy."""
    try:
        yield
    except Exception as error:  # a damaged archive or table may raise anything
        raise UserError(
            f"{path} holds no embeddings of `sbmusic embed`, or is damaged "
            f"({str(error) or type(error).__name__:.200}): {remedy}"
        ) from error


def read_settings(text):
    """Return the settings of JSON; raise a ValueError or RecursionError for others."""
    settings = json.loads(text)
    if not isinstance(settings, dict) or not {"model", "source", *OPTIONS} <= settings.keys():
        raise ValueError(f"its settings lack one of model, source, {', '.join(OPTIONS)}")
    return settings


def _read_csv(path):
    return pd.read_csv(path, dtype={"path": str}, keep_default_na=False)


def _sidecars(npy):
    """Files next to an .npy, which can hold nothing but numbers: rows and settings."""
    return npy.with_suffix(".csv"), npy.with_suffix(".json")


def _is_settings(path):
    try:
        return bool(read_settings(path.read_text("utf-8")))
    except (OSError, ValueError, RecursionError):
        return False
