"""Embed many files into one file or folder, and resume an interrupted run."""

import json
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.dataio.audio import AudioError, audio_info, file_stamp
from speechbrain_music.inference import embeddings
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.atomic import LOCK, locked_folder, write_together
from speechbrain_music.utils.errors import UserError

PARTIAL, UNREADABLE = ".partial", ".unreadable.csv"
SAME = ("model", *embeddings.OPTIONS)  # settings that must be equal to reuse embeddings
MAX_NAME = 255  # bytes that file systems allow
# In the folder of a `PartialStore`: hash and duration; and what a kill has left.
STORED = re.compile(r"([0-9a-f]{32})_(\d+\.\d{3})\.npy")
WHOLE = "whole"
OURS = re.compile(rf"{re.escape(LOCK)}|{WHOLE}|\.?{STORED.pattern}(\.tmp)?")


def embed_collection(
    encoder, source, paths, out, *, batch_size=8, unreadable=None, overwrite=False, **options
):
    """Embed files into a file or a folder; files that an earlier run has embedded are reused.

    Of an `out` that is there, rows of unchanged files (by size and modification time: hashing
    would read all audio) are reused if the settings are equal. If settings differ, or a file of
    `out` is not among `paths`, a UserError is raised, unless `overwrite`.

    `source`, the encoder's name, is stored with the embeddings. Until all files are embedded,
    `<out>.partial` holds the results. `unreadable` has files already known to be unreadable, path
    -> reason; the returned dict has all such files, as `<out>.unreadable.csv` does. Options are
    those of `MusicEncoder.encode_files`.
    """
    options = {"pool": "mean", "layers": -1, "chunk": 30.0, "overlap": 0.0} | options
    out, paths, unreadable = Path(out), list(map(os.fspath, paths)), dict(unreadable or {})
    embeddings.check_out(out, options["pool"], len(paths))
    if options["layers"] != "all":  # negative ones are counted from the front
        chosen, single = encoder.choose_layers(options["layers"], options["pool"])
        options["layers"] = chosen[0] if single else chosen
    settings = {"model": encoder.fingerprint, "source": str(source)} | options
    partial = out.with_name(out.name + PARTIAL)
    finished = _finished(out, [*paths, *unreadable], settings, overwrite, partial.exists())
    with open_store(partial, settings, paths) as store:
        for path in paths:
            stamp, *row = finished.get(_key(path), [None])
            if stamp and stamp == file_stamp(path):
                store.rows.setdefault(path, (stamp, *row))
        unreadable |= _embed_missing(store, encoder, paths, options, batch_size)
        done = [path for path in paths if path not in unreadable]
        listed = out.with_name(out.name + UNREADABLE)
        if unreadable:
            rows = [(printable(path), reason) for path, reason in unreadable.items()]
            write_together({listed: csv_text(rows, ("path", "reason"))})
        else:
            listed.unlink(missing_ok=True)  # of an earlier run
        if not done:
            path, reason = next(iter(unreadable.items()))
            raise UserError(f"none of {len(unreadable)} files could be read; {path}: {reason}")
        stamps, durations, stored = zip(*(store.rows[path] for path in done), strict=True)
        settings["stamps"] = list(stamps)
        found = embeddings.Embeddings(done, np.array(durations), stored, settings)
        if out.suffix in embeddings.KINDS:
            with embeddings.damage_explained(partial, "delete it to start again"):
                mode = "r" if options["pool"] == "none" else None  # one file, perhaps of gigabytes
                arrays = [np.load(x, mmap_mode=mode) if isinstance(x, Path) else x for x in stored]
                values = np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
            embeddings.write_embeddings(out, found._replace(values=values))
        else:
            names = _relative_names(paths)
            embeddings.write_folder(out, found, [names[path] for path in done], partial / WHOLE)
        shutil.rmtree(partial, ignore_errors=True)
    return unreadable


@contextmanager
def open_store(folder, settings, paths):
    """Open the `PartialStore` in a folder that no other process has open.

    Raises UserError for a folder that is locked, a link, or something else.
    """
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    others = [path for path in found if path.is_symlink() or not OURS.fullmatch(path.name)]
    if others or folder.is_symlink() or folder.is_file():
        raise UserError(
            f"{folder} is not a folder of unfinished embeddings, which would be kept there: rename "
            "or remove it"
        )
    with locked_folder(folder, "uses"):
        yield PartialStore(folder, settings, paths)


class PartialStore:
    """Results of an unfinished `embed_collection`: an .npy per file, renamed when it is whole.

    Its name has a hash of the settings, the file's path and its stamp, and the duration. `rows`
    maps each of `paths` that is stored with these settings, and has not changed since, to stamp,
    duration and .npy; it takes what is stored elsewhere, too.
    """

    def __init__(self, folder, settings, paths):
        self.folder, self.settings = folder, [settings[name] for name in SAME]
        stored = {}
        for name in filter(None, map(STORED.fullmatch, os.listdir(folder))):
            with suppress(Exception):  # cut by a power failure, or damaged: it is embedded again
                np.load(folder / name[0], mmap_mode="r")
                stored[name[1]] = float(name[2]), folder / name[0]
        stamps = {path: file_stamp(path) for path in paths}
        keys = {path: self._hash(path, stamp) for path, stamp in stamps.items()}
        self.rows = {p: (stamps[p], *stored[key]) for p, key in keys.items() if key in stored}

    def add(self, path, duration, values):
        """Store a file's duration and embedding."""
        stamp = file_stamp(path)
        npy = self.folder / f"{self._hash(path, stamp)}_{duration:.3f}.npy"
        staging = npy.with_name(f".{npy.name}.tmp")
        with open(staging, "wb") as file:
            np.save(file, np.asarray(values, "<f4"))
        staging.replace(npy)
        self.rows[path] = stamp, duration, npy

    def _hash(self, *file):
        return blake2b(json.dumps([*self.settings, *file]).encode(), digest_size=16).hexdigest()


def _finished(out, paths, settings, overwrite, resumed):
    """Map a key to stamp, duration and embedding of what `out` holds with the same settings.

    Raises UserError, unless `overwrite`, if some of it would be lost. An interrupted run that is
    resumed may have replaced some of the files of an .npy.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    try:
        if out.is_dir():
            before = embeddings.read_folder(out)
        else:
            before = embeddings.read_embeddings(out, unpooled=True)
    except UserError as error:
        if out.is_file() and (overwrite or resumed):
            return {}
        remedy = "pass --overwrite to replace it" if out.is_file() else "choose another --out"
        raise UserError(f"{error}, or {remedy}") from error
    given = {_key(path) for path in paths}
    lost = sum(_key(path) not in given for path in before.paths)
    names = [name for name in SAME if before.settings[name] != settings[name]]
    changed = [f"{name} {before.settings[name]!s:.99}, now {settings[name]}" for name in names]
    if (lost or changed) and not overwrite:
        faults = [f"{lost} of its {len(before.paths)} files are not among the {len(paths)} given"]
        faults *= bool(lost)
        faults += [f"its settings are others ({', '.join(changed)})"] * bool(changed)
        raise UserError(
            f"{out} would be replaced, but {' and '.join(faults)}: pass all files and the same "
            "settings, choose another --out, or pass --overwrite"
        )
    stamps = before.settings.get("stamps")
    if changed or not isinstance(stamps, list) or len(stamps) != len(before.paths):
        return {}
    rows = zip(before.paths, stamps, before.durations.tolist(), before.values, strict=True)
    return {
        _key(path): (stamp, duration, value)
        for path, stamp, duration, value in rows
        if (value.is_file() if isinstance(value, Path) else np.isfinite(value).all())
    }


def _key(path):
    """Identify a file by its path as embeddings have it, from whichever folder it was given."""
    return os.path.abspath(printable(path))


def _relative_names(paths):
    """Map each path to its .npy below the deepest common folder; a long name ends in a hash."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names = {}
    for path in paths:
        folder, name = os.path.split(os.path.relpath(path, root))
        data = os.fsencode(name)
        if len(data) + len(".npy") > MAX_NAME:
            name = f"{name[:50]}-{blake2b(data, digest_size=8).hexdigest()}"
        names[path] = os.path.join(folder, name + ".npy")
    return names


def _embed_missing(store, encoder, paths, options, batch_size):
    """Embed the files that are not stored; return the unreadable ones with reasons."""
    missing = [path for path in paths if path not in store.rows]
    reused = len(paths) - len(missing)
    if reused:
        print(f"Resuming: {reused} of {len(paths)} files are already embedded")
    options = options | {"batch_size": batch_size}
    results = encoder.encode_files(missing, **options)
    shown = {"desc": "embedding", "unit": "file", "dynamic_ncols": True}
    bar = tqdm(results, total=len(paths), initial=reused, **shown)
    unreadable, total, started = {}, 0.0, time.monotonic()
    for path, result in bar:
        if isinstance(result, AudioError):
            unreadable[path] = str(result).removeprefix(f"{path}: ")
            continue
        seconds = result.lengths / TOKEN_RATE
        with suppress(AudioError):  # the file is gone by now
            seconds = round(min(audio_info(path).seconds, seconds), 3)  # a header may say too much
        store.add(path, seconds, result.values)
        total += seconds
        rate = total / (time.monotonic() - started)
        bar.set_postfix_str(f"{rate:.0f} x real time", refresh=False)
    return unreadable
