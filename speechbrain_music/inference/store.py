"""Embeddings of many files in one file, with what made them: .npy, .npz or .parquet."""

import importlib.util
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.errors import UserError

KINDS = (".npy", ".npz", ".parquet")
OPTIONS = ("layers", "pool", "chunk", "overlap")  # of an encoder: what embeddings depend on
# Beside a .npy, which can hold nothing but numbers.
ROWS, SETTINGS = ".csv", ".json"


class StoreError(UserError):
    """Embeddings that cannot be written or read. The message is one sentence with the remedy.

    Example
    -------
    >>> read_embeddings("song.mp3")
    Traceback (most recent call last):
    ...
    speechbrain_music.inference.store.StoreError: song.mp3 is no file of embeddings: give what \
`sbmusic embed` wrote, which ends in .npy, .npz, .parquet
    """


class Embeddings(NamedTuple):
    """Pooled embeddings.

    Arguments
    ---------
    paths : list of str
        Of N files.
    durations : np.ndarray
        (N,) seconds.
    values : np.ndarray
        (N, D), of several layers (N, L, D), float32.
    settings : dict
        How they were made: `model` (a fingerprint), `source` (its name), `layers`, `pool`,
        `chunk` and `overlap`, as `MusicEncoder.encode_files` takes them.

    Example
    -------
    >>> found = Embeddings(["a.wav"], np.ones(1), np.zeros((1, 13, 512), "f4"), {"layers": "all"})
    >>> found._replace(values=found.values[:, 6], settings={"layers": 6}).values.shape
    (1, 512)
    """

    paths: list
    durations: np.ndarray
    values: np.ndarray
    settings: dict


def check_place(out, pool):
    """Refuses a file that could not be written, or would take another file's place beside it.

    Raises
    ------
    StoreError
        If `out` is a folder, or a .parquet of frames or without pyarrow, or if what stands where
        a .npy's rows and settings go is something else.

    Example
    -------
    >>> check_place("a.parquet", "none")
    Traceback (most recent call last):
    ...
    speechbrain_music.inference.store.StoreError: a.parquet would hold one vector a file: pass \
--pool mean, or use .npy
    """
    out = Path(out)
    if out.is_dir():
        raise StoreError(f"{out} is a folder: name a file that ends in {', '.join(KINDS)}")
    if out.suffix == ".parquet":
        if pool == "none":
            raise StoreError(f"{out} would hold one vector a file: pass --pool mean, or use .npy")
        _check_pyarrow()
    beside = [out.with_suffix(suffix) for suffix in (ROWS, SETTINGS)]
    if out.suffix == ".npy" and any(p.exists() for p in beside) and not _is_ours(beside[1]):
        raise StoreError(
            f"{' and '.join(map(str, beside))} would be written over, and are something else: "
            "choose another --out"
        )


def write_embeddings(out, embeddings):
    """Writes a file of embeddings, whole or not at all.

    Arguments
    ---------
    out : path
        Ends in .npy (the matrix; beside it a .csv with `path` and `duration` of each row, and a
        .json with the settings), .npz (`embeddings`, `paths`, `durations`, `settings`) or
        .parquet (columns `path`, `duration`, `embedding`, of several layers `embedding_0` ...;
        the settings in the `attrs` of the table that pandas reads).
    embeddings : Embeddings
        Names that are not UTF-8 are written with backslashes.

    Raises
    ------
    StoreError
        If the name ends otherwise.

    Example
    -------
    >>> path = getfixture("tmp_path") / "two.npz"
    >>> values = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> settings = {"layers": -1, "pool": "mean"}
    >>> two = Embeddings(["a.wav", "b.wav"], np.array([1.0, 2.5]), values, settings)
    >>> write_embeddings(path, two)
    >>> np.load(path)["paths"].tolist(), read_embeddings(path).values.shape
    (['a.wav', 'b.wav'], (2, 3))
    """
    out = Path(out)
    if out.suffix not in KINDS:
        raise StoreError(f"{out} must end in {', '.join(KINDS)}")
    paths = [printable(path) for path in embeddings.paths]
    embeddings = embeddings._replace(paths=paths)
    {".npy": _write_npy, ".npz": _write_npz, ".parquet": _write_parquet}[out.suffix](
        out, embeddings
    )


def write_frames(out, path, file, settings):
    """Writes the embeddings of one file by time, whole or not at all.

    Arguments
    ---------
    out : path
        Ends in .npy (beside it a .json with the settings) or .npz (`embeddings`, `times` in
        seconds, `path`, `settings`).
    path : str
        Of the audio file.
    file : path
        An .npy of (T, D) or (L, T, D), on the same disk; for a .npy it is moved.
    settings : dict
        As of `Embeddings`.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/frames.npy", np.zeros((3, 16), "f4"))
    ...     write_frames(f"{folder}/a.npz", "a.wav", f"{folder}/frames.npy", {"pool": "none"})
    ...     np.load(f"{folder}/a.npz")["times"]
    array([0.  , 0.04, 0.08])
    """
    out, settings = Path(out), settings | {"path": printable(path)}
    if out.suffix == ".npy":
        write_together({out.with_suffix(SETTINGS): settings_text(settings)})
        os.replace(file, out)
        return
    values = np.load(file, mmap_mode="r")
    times = np.arange(values.shape[-2]) / TOKEN_RATE
    with atomic_file(out, "wb") as staging:
        np.savez(staging, embeddings=values, times=times, settings=settings_text(settings))


def read_embeddings(path):
    """Reads what `write_embeddings` wrote; no code runs from it.

    Arguments
    ---------
    path : path
        The file.

    Returns
    -------
    Embeddings
        Of which the .npy's values are memory-mapped.

    Raises
    ------
    StoreError
        If it is missing, damaged or something else.

    Example
    -------
    >>> import tempfile
    >>> one = Embeddings(["a.wav"], np.ones(1), np.zeros((1, 3), "f4"), {"pool": "mean"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_embeddings(f"{folder}/one.npy", one)
    ...     paths, durations, values, settings = read_embeddings(f"{folder}/one.npy")
    >>> paths, durations, type(values).__name__
    (['a.wav'], array([1.]), 'memmap')
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix not in readers or not path.is_file():
        raise StoreError(
            f"{path} is no file of embeddings: give what `sbmusic embed` wrote, which ends in "
            f"{', '.join(KINDS)}"
        )
    try:
        paths, durations, values, settings = readers[path.suffix](path)
        found = Embeddings(paths, durations, values, json.loads(settings))
        whole = len(values) == len(paths) == len(durations) and "pool" in found.settings
    except StoreError:
        raise
    except (OSError, ValueError, LookupError, TypeError, EOFError) as error:
        raise StoreError(
            f"{path} holds no embeddings of files that `sbmusic embed` made, or is damaged "
            f"({str(error) or type(error).__name__}): embed the files again"
        ) from error
    if not whole or values.ndim not in (2, 3):
        raise StoreError(f"{path} does not hold one row a file: embed with --pool mean")
    return found


def _write_npy(out, embeddings):
    rows = zip(embeddings.paths, embeddings.durations.round(3).tolist(), strict=True)
    with atomic_file(out, "wb") as file:
        np.save(file, embeddings.values)
        write_together(
            {
                out.with_suffix(SETTINGS): settings_text(embeddings.settings),
                out.with_suffix(ROWS): csv_text(rows, ("path", "duration")),
            }
        )


def _read_npy(path):
    import pandas as pd

    rows = pd.read_csv(path.with_suffix(ROWS), dtype={"path": str}, keep_default_na=False)
    settings = path.with_suffix(SETTINGS).read_text(encoding="utf-8")
    values = np.load(path, mmap_mode="r")
    return rows["path"].tolist(), rows["duration"].to_numpy(), values, settings


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
    with np.load(path) as held:
        paths, durations = held["paths"].tolist(), held["durations"]
        return paths, durations, held["embeddings"], str(held["settings"])


def _write_parquet(out, embeddings):
    import pandas as pd

    values, layers = embeddings.values, embeddings.settings["layers"]
    table = pd.DataFrame({"path": embeddings.paths, "duration": embeddings.durations})
    if values.ndim == 2:
        table["embedding"] = list(values)
    else:
        layers = range(values.shape[1]) if layers == "all" else layers
        for place, layer in enumerate(layers):
            table[f"embedding_{layer}"] = list(values[:, place])
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


def settings_text(settings):
    """The settings as JSON.

    Example
    -------
    >>> json.loads(settings_text({"layers": (0, 6)}))
    {'layers': [0, 6]}
    """
    return json.dumps(settings, indent=2) + "\n"


def _is_ours(path):
    try:
        return "pool" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _check_pyarrow():
    if importlib.util.find_spec("pyarrow") is None:
        raise StoreError(
            ".parquet needs pyarrow: pip install 'speechbrain-music[parquet]', or choose .npz"
        )
