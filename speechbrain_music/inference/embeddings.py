"""Files of embeddings: write and read .npy, .npz and .parquet."""

import importlib.util
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.errors import UserError

KINDS = (".npy", ".npz", ".parquet")
OPTIONS = ("layers", "pool", "chunk", "overlap")  # of an encoder: embeddings depend on them


class StoreError(UserError):
    """Embeddings that cannot be written or read; the message says what to do."""


class Embeddings(NamedTuple):
    """Pooled embeddings of many files.

    Arguments
    ---------
    paths : list of str
        Of N files.
    durations : np.ndarray
        (N,) seconds.
    values : np.ndarray
        (N, D), of several layers (N, L, D), float32.
    settings : dict
        How they were computed: `model` (a fingerprint), `source` (its name), `layers`, `pool`,
        `chunk` and `overlap`, as `MusicEncoder.encode_files` takes them.
    """

    paths: list
    durations: np.ndarray
    values: np.ndarray
    settings: dict


def check_out(out, pool, count):
    """Raise a UserError, before anything is computed, if `out` cannot hold the embeddings.

    Arguments
    ---------
    out : path
        Ends in .npy, .npz or .parquet, or is a new folder for the unpooled embeddings of several
        files.
    pool : str
        "mean", "mean_std" or "none".
    count : int
        Number of files.
    """
    out, kinds = Path(out), ", ".join(KINDS)
    check_output(out)
    if out.suffix not in KINDS:
        if pool != "none":
            raise StoreError(f"{out} must end in {kinds}; a folder needs --pool none")
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
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
    the `attrs` of the table that pandas reads). Bytes of paths that are not UTF-8 are escaped.
    """
    out = Path(out)
    writers = {".npy": _write_npy, ".npz": _write_npz, ".parquet": _write_parquet}
    if out.suffix not in writers:
        raise StoreError(f"{out} must end in {', '.join(KINDS)}")
    writers[out.suffix](out, embeddings._replace(paths=list(map(printable, embeddings.paths))))


def read_embeddings(path):
    """Read a file that `write_embeddings` wrote; no code is run from it.

    Arguments
    ---------
    path : path
        Ends in .npy, .npz or .parquet.

    Returns
    -------
    Embeddings
        The values of an .npy are memory-mapped.

    Raises
    ------
    StoreError
        If it is missing, damaged or something else.

    Example
    -------
    >>> import tempfile
    >>> two = Embeddings(["a.wav", "b.wav"], np.ones(2), np.eye(2, dtype="f4"), {"pool": "mean"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/two.npz", two)
    ...     found = read_embeddings(f"{folder}/two.npz")
    >>> found.paths, found.values.shape, found.settings
    (['a.wav', 'b.wav'], (2, 2), {'pool': 'mean'})
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix not in readers or not path.is_file():
        raise StoreError(
            f"{path} is not a file of embeddings: give a file that `sbmusic embed` wrote, which "
            f"ends in {', '.join(KINDS)}"
        )
    try:
        paths, durations, values, settings = readers[path.suffix](path)
        found = Embeddings(paths, durations, values, json.loads(settings))
        complete = len(values) == len(paths) == len(durations) and "pool" in found.settings
    except StoreError:
        raise
    except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
        raise StoreError(
            f"{path} holds no embeddings of `sbmusic embed`, or is damaged "
            f"({str(error) or type(error).__name__}): embed the files again"
        ) from error
    if not complete or values.ndim not in (2, 3):
        raise StoreError(f"{path} does not hold one row per file: embed with --pool mean")
    return found


def write_tokens(out, path, npy, settings):
    """Write the unpooled embeddings of one audio file, whole or not at all.

    `out` ends in .npy (next to it a .json with the settings) or .npz (`embeddings`, `times` in
    seconds, `settings`). `npy` holds the embeddings; for an .npy it is moved.
    """
    settings = settings_text(settings | {"path": printable(path)})
    if out.suffix == ".npy":
        write_together({_sidecars(out)[1]: settings})
        os.replace(npy, out)
        return
    values = np.load(npy, mmap_mode="r")
    times = np.arange(values.shape[-2]) / TOKEN_RATE
    with atomic_file(out, "wb") as file:
        np.savez(file, embeddings=values, times=times, settings=settings)


def settings_text(settings):
    """Return the settings as JSON."""
    return json.dumps(settings, indent=2) + "\n"


def _write_npy(out, embeddings):
    rows = zip(embeddings.paths, embeddings.durations.round(3).tolist(), strict=True)
    table, settings = _sidecars(out)
    with atomic_file(out, "wb") as file:
        np.save(file, embeddings.values)
        write_together(
            {
                settings: settings_text(embeddings.settings),
                table: csv_text(rows, ("path", "duration")),
            }
        )


def _read_npy(path):
    import pandas as pd

    table, settings = _sidecars(path)
    rows = pd.read_csv(table, dtype={"path": str}, keep_default_na=False)
    values = np.load(path, mmap_mode="r")
    return rows["path"].tolist(), rows["duration"].to_numpy(), values, settings.read_text("utf-8")


def _write_npz(out, embeddings):
    with atomic_file(out, "wb") as file:
        np.savez(
            file,
            embeddings=embeddings.values,
            paths=np.array(embeddings.paths),
            durations=embeddings.durations,
            settings=settings_text(embeddings.settings),
        )


def _read_npz(path):
    with np.load(path) as arrays:
        paths, durations = arrays["paths"].tolist(), arrays["durations"]
        return paths, durations, arrays["embeddings"], str(arrays["settings"])


def _write_parquet(out, embeddings):
    import pandas as pd

    values, layers = embeddings.values, embeddings.settings["layers"]
    table = pd.DataFrame({"path": embeddings.paths, "duration": embeddings.durations})
    if values.ndim == 2:
        table["embedding"] = list(values)
    else:
        layers = range(values.shape[1]) if layers == "all" else layers
        for index, layer in enumerate(layers):
            table[f"embedding_{layer}"] = list(values[:, index])
    table.attrs["settings"] = settings_text(embeddings.settings)
    with atomic_file(out, "wb") as file:
        table.to_parquet(file, engine="pyarrow", index=False)


def _read_parquet(path):
    import pandas as pd

    _check_pyarrow()
    table = pd.read_parquet(path, engine="pyarrow")
    layers = [np.stack(table[name]) for name in table if name.startswith("embedding")]
    values = layers[0] if "embedding" in table else np.stack(layers, axis=1)
    durations = table["duration"].to_numpy()
    return table["path"].tolist(), durations, values, table.attrs["settings"]


def _sidecars(npy):
    """Files next to an .npy, which can hold nothing but numbers: rows and settings."""
    return npy.with_suffix(".csv"), npy.with_suffix(".json")


def _is_settings(path):
    try:
        return "pool" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _check_pyarrow():
    if importlib.util.find_spec("pyarrow") is None:
        raise StoreError(
            ".parquet needs pyarrow: pip install 'speechbrain-music[parquet]', or choose .npz"
        )
