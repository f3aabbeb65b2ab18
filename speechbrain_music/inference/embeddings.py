"""Files of embeddings: write and read .npy, .npz and .parquet."""

import importlib.util
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.errors import UserError, did_you_mean

KINDS = (".npy", ".npz", ".parquet")
INDEX, SETTINGS = "index.csv", "settings.json"  # in a folder of .npy files
COLUMNS = ("path", "duration")
OPTIONS = ("layers", "pool", "chunk", "overlap")  # of an encoder: embeddings depend on them


class StoreError(UserError):
    """Embeddings that cannot be written or read; the message says what to do."""


class Embeddings(NamedTuple):
    """Embeddings of N files: (N,) seconds, and (N, D) or (N, L, D) float32.

    Unpooled ones are (1, T, D) or (1, L, T, D), of one file. `settings` are those of
    `MusicEncoder.encode_files`, with `model` (a fingerprint), `source` and `stamps`: of each file,
    when it was embedded, its size and modification time.
    """

    paths: list
    durations: np.ndarray
    values: np.ndarray
    settings: dict


def check_out(out, pool, count):
    """Raise a UserError, before anything is computed, if `out` cannot hold those of `count` files.

    `out` ends in .npy, .npz or .parquet, or is a new folder for the unpooled embeddings of files.
    """
    out, kinds = Path(out), ", ".join(KINDS)
    check_output(out)
    if out.suffix not in KINDS:
        if pool != "none":
            raise StoreError(f"{out} must end in {kinds}; a folder needs --pool none")
        is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
        if out.is_symlink() or not (is_free or (out / INDEX).is_file()):
            raise StoreError(f"{out} already exists: choose another --out, or remove it")
        return
    if pool == "none" and count > 1:
        raise StoreError(
            f"{out} cannot hold the unpooled embeddings of {count} files: name a folder, "
            f"--out {out.stem}, or pass --pool mean"
        )
    if out.is_dir():
        raise StoreError(f"{out} is a folder: name a file that ends in {kinds}")
    if out.suffix == ".parquet":
        if pool == "none":
            raise StoreError(f"{out} holds one vector per file: pass --pool mean, or use .npy")
        _check_pyarrow()
    sidecars = _sidecars(out)
    if out.suffix == ".npy" and any(map(Path.exists, sidecars)) and not _is_settings(sidecars[1]):
        raise StoreError(
            f"{' and '.join(map(str, sidecars))} would be overwritten, and were not written by "
            "`sbmusic embed`: choose another --out"
        )


def write_embeddings(out, embeddings):
    """Write a file of `Embeddings`, whole or not at all; `read_embeddings` reads it.

    `out` ends in .npy (the matrix; next to it a .csv with `path` and `duration` of each row, and
    a .json with the settings), .npz (`embeddings`, `paths`, `durations`, `settings`) or .parquet
    (columns `path`, `duration`, `embedding`, of several layers `embedding_0` ...; the settings in
    the `attrs` of the table that pandas reads). Of unpooled embeddings, .npy has no .csv and .npz
    has `times`; the path is in the settings. Bytes of paths that are not UTF-8 are escaped.
    """
    out, (paths, durations, values, settings) = Path(out), embeddings
    paths = [printable(path) for path in paths]
    if out.suffix not in KINDS:
        raise StoreError(f"{out} must end in {', '.join(KINDS)}")
    arrays = {"paths": np.array(paths), "durations": durations}
    if is_unpooled := settings["pool"] == "none":
        values, settings = values[0], settings | {"path": paths[0]}
        arrays = {"times": np.arange(values.shape[-2]) / TOKEN_RATE}
    text = settings_text(settings)
    with atomic_file(out, "wb") as file:
        if out.suffix == ".npy":
            np.save(file, values)
            csv, sidecar = _sidecars(out)
            rows = csv_text(zip(paths, durations.round(3).tolist(), strict=True), COLUMNS)
            write_together({sidecar: text} if is_unpooled else {sidecar: text, csv: rows})
        elif out.suffix == ".npz":
            np.savez(file, embeddings=values, **arrays, settings=text)
        else:
            columns = {"embedding": values}
            if values.ndim == 3:
                layers = settings["layers"]
                layers = range(values.shape[1]) if layers == "all" else layers
                columns = {f"embedding_{n}": values[:, i] for i, n in enumerate(layers)}
            columns = {name: list(rows) for name, rows in columns.items()}
            table = pd.DataFrame({"path": paths, "duration": durations} | columns)
            table.attrs["settings"] = text
            table.to_parquet(file, engine="pyarrow", index=False)


def read_embeddings(path, unpooled=False):
    """Read a file that `write_embeddings` wrote, without running code; an .npy is memory-mapped.

    With `unpooled`, also one with the embeddings over time of one path.
    Raises StoreError if it is missing, damaged or something else.
    """
    path = Path(path)
    if path.suffix not in KINDS or not path.is_file():
        if not path.exists():
            near = did_you_mean(path, os.listdir(path.parent) if path.parent.is_dir() else [], "")
            raise StoreError(f"{path} does not exist{near and f'; {near}'}")
        raise StoreError(
            f"{path} is not a file of embeddings: give a file that `sbmusic embed` wrote, which "
            f"ends in {', '.join(KINDS)}"
        )
    with _damage_explained(path):
        paths, durations, values, settings = _read(path)
        complete = values.shape[:1] == (len(paths),) == durations.shape and len(paths) > 0
        if values.dtype.kind != "f" or not np.isfinite(durations).all():
            raise TypeError("embeddings and durations must be numbers")
    is_unpooled = settings["pool"] == "none"
    if not complete or values.ndim - is_unpooled not in (2, 3) or is_unpooled > unpooled:
        raise StoreError(f"{path} does not hold one row per file: embed with --pool mean")
    return Embeddings(paths, durations, values, settings)


def read_index(folder):
    """Read a folder of .npy files, as `Embeddings` whose values are their paths.

    Raises StoreError if it is damaged, or holds files that its index does not name.
    """
    with _damage_explained(folder):
        table = _read_csv(folder / INDEX)
        settings = read_settings((folder / SETTINGS).read_text("utf-8"))
        files = [folder / file for file in table["file"]]
        paths, durations = table["path"].tolist(), table["duration"].to_numpy(float)
    found = {printable(file) for file in folder.rglob("*") if not file.is_dir()}
    others = found - {str(file) for file in (*files, folder / INDEX, folder / SETTINGS)}
    if others:
        raise StoreError(f"{min(others)} would be lost: choose another --out, or move that file")
    return Embeddings(paths, durations, files, settings)


@contextmanager
def _damage_explained(path):
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # a damaged archive or table may raise anything
        raise StoreError(
            f"{path} holds no embeddings of `sbmusic embed`, or is damaged "
            f"({str(error) or type(error).__name__:.200}): embed the files again"
        ) from error


def changed_settings(before, now):
    """Return "name old, now new" for all settings that embeddings depend on and that differ."""
    names = [name for name in ("model", *OPTIONS) if before[name] != now[name]]
    return ", ".join(f"{name} {before[name]!s:.99}, now {now[name]}" for name in names)


def _read(path):
    """Return what `Embeddings` holds; a damaged file may raise anything, or give other shapes."""
    table = None
    if path.suffix == ".npy":
        csv, sidecar = _sidecars(path)
        values, text = np.load(path, mmap_mode="r"), sidecar.read_text("utf-8")
        if csv.is_file():
            table = _read_csv(csv)
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            values, text = arrays["embeddings"], str(arrays["settings"])
            if "paths" in arrays:
                table = {"path": arrays["paths"], "duration": arrays["durations"]}
    else:
        _check_pyarrow()
        table = pd.read_parquet(path, engine="pyarrow")
        layers = [np.stack(table[name]) for name in table if name.startswith("embedding")]
        values = layers[0] if "embedding" in table else np.stack(layers, axis=1)
        text = table.attrs["settings"]
    settings = read_settings(text)
    if settings["pool"] == "none":
        table = {"path": [settings["path"]], "duration": [values.shape[-2] / TOKEN_RATE]}
        values = values[None]
    paths = [str(path) for path in table["path"]]
    return paths, np.asarray(table["duration"], float), values, settings


def _read_csv(path):
    return pd.read_csv(path, dtype={"path": str}, keep_default_na=False)


def read_settings(text):
    """Return the settings of JSON; raise a ValueError, TypeError or RecursionError for others."""
    settings = json.loads(text)
    if not isinstance(settings, dict) or not {"model", "source", *OPTIONS} <= settings.keys():
        raise ValueError(f"its settings lack one of model, source, {', '.join(OPTIONS)}")
    return settings


def settings_text(settings):
    """Return the settings as JSON."""
    return json.dumps(settings, indent=2) + "\n"


def _sidecars(npy):
    """Files next to an .npy, which can hold nothing but numbers: rows and settings."""
    return npy.with_suffix(".csv"), npy.with_suffix(".json")


def _is_settings(path):
    try:
        return bool(read_settings(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _check_pyarrow():
    if importlib.util.find_spec("pyarrow") is None:
        raise StoreError(
            ".parquet needs pyarrow: pip install -e '.[parquet]' in the clone, or use .npz"
        )
