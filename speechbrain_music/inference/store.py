"""Embed many files into one file or folder, and resume an interrupted run."""

import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from hashlib import blake2b, file_digest
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.dataio.audio import AudioError, audio_info
from speechbrain_music.inference.embeddings import (
    COLUMNS,
    INDEX,
    KINDS,
    SETTINGS,
    Embeddings,
    StoreError,
    changed_settings,
    check_out,
    read_embeddings,
    read_index,
    read_settings,
    settings_text,
    write_embeddings,
)
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.atomic import LOCK, locked_folder, replace_folder, write_together
from speechbrain_music.utils.errors import UserError

PARTIAL, UNREADABLE = ".partial", ".unreadable.csv"
LOG, NPY, WHOLE = "files.jsonl", "npy", "whole"  # in the folder of a `PartialStore`
MAX_NAME = 255  # bytes that file systems allow


def embed_collection(
    encoder, source, paths, out, *, batch_size=8, unreadable=None, overwrite=False, **options
):
    """Embed files into a file or a folder; files that an earlier run has embedded are reused.

    Of an `out` that is there, rows of unchanged files (by size and modification time: hashing
    would read all audio) are reused if the settings are equal. If settings differ, or a file of
    `out` is not among `paths`, a StoreError is raised, unless `overwrite`.

    `source`, the encoder's name, is stored with the embeddings. Until all files are embedded,
    `<out>.partial` holds the results. `unreadable` has files already known to be unreadable, path
    -> reason; the returned dict has all such files, as `<out>.unreadable.csv` does. Options are
    those of `MusicEncoder.encode_files`.
    """
    options = {"pool": "mean", "layers": -1, "chunk": 30.0, "overlap": 0.0} | options
    out, paths, unreadable = Path(out), list(map(os.fspath, paths)), dict(unreadable or {})
    check_out(out, options["pool"], len(paths))
    options["layers"] = _from_the_front(options["layers"], encoder.num_layers)
    settings = {"model": encoder.fingerprint, "source": str(source)} | options
    partial = out.with_name(out.name + PARTIAL)
    finished = _finished(out, [*paths, *unreadable], settings, overwrite, partial.exists())
    with open_store(partial, settings) as store:
        for path in paths:
            stamp, *row = finished.get(_key(path), [None])
            if stamp and stamp == _stamp(path) and path not in store.rows:
                store.add(path, *row)
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
        stamps, durations, _ = zip(*(store.rows[path] for path in done), strict=True)
        settings["stamps"] = list(stamps)
        if out.suffix in KINDS:
            mode = "r" if options["pool"] == "none" else None  # one file, perhaps of gigabytes
            values = [np.load(store.npy_of(path), mmap_mode=mode) for path in done]
            values = np.stack(values) if len(done) > 1 else values[0][None]
            write_embeddings(out, Embeddings(done, np.array(durations), values, settings))
        else:
            names = _relative_names(paths)
            rows = [(path, store.rows[path][1], names[path]) for path in done]
            _write_folder(out, store, rows, settings)
        store.remove()
    return unreadable


@contextmanager
def open_store(folder, settings):
    """Open the `PartialStore` in a folder that no other process has open; an empty one is deleted.

    Raises UserError for a folder that is locked, damaged, of other settings, or something else.
    """
    folder = Path(folder)
    if links := [path for path in (folder, *folder.rglob("*")) if path.is_symlink()]:
        raise UserError(f"{links[0]} is a link, through which would be written: remove it")
    ours = {LOCK, LOG, f".{LOG}.tmp", NPY, WHOLE}
    if folder.exists() and not (folder.is_dir() and ours.issuperset(os.listdir(folder))):
        raise UserError(
            f"{folder} is not a folder of unfinished embeddings, which would be kept there: rename "
            "or remove it"
        )
    with locked_folder(folder, "uses"):
        store = PartialStore(folder, settings)
        try:
            yield store
        finally:
            if not store.rows:
                store.remove()


class PartialStore:
    """Results of an unfinished `embed_collection`: an .npy per file, and a log.

    The log's first line has the settings. Each other is of a file: its path, its stamp, its
    duration, and a hash of these two and of its .npy. `rows` maps the path of each file that is
    stored whole, and has not changed since, to the last three.
    """

    def __init__(self, folder, settings):
        self.folder, self.log, self.rows = folder, folder / LOG, {}
        if self.log.is_file():
            before, *lines = self.log.read_bytes().splitlines() or [b""]
            try:
                changed = changed_settings(read_settings(before), settings)
            except (ValueError, TypeError, RecursionError):
                raise UserError(f"{folder} is damaged: delete it to start again") from None
            for line in lines:  # perhaps cut by a kill, or damaged; its .npy may be gone
                with suppress(ValueError, TypeError, RecursionError, OSError):
                    path, stamp, duration, digest = json.loads(line)
                    is_same = stamp is not None and stamp == _stamp(path)
                    if is_same and digest == self._digest(path, stamp, duration):
                        self.rows[path] = stamp, duration, digest
            if changed and self.rows:
                raise UserError(
                    f"{folder} was started with other settings ({changed}): pass those to "
                    "continue, delete it to start again, or choose another --out"
                )
        lines = [settings, *([path, *row] for path, row in self.rows.items())]
        write_together({self.log: "".join(json.dumps(line) + "\n" for line in lines)})
        (folder / NPY).mkdir(exist_ok=True)

    def remove(self):
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, path, duration, values):
        """Store a file's duration and embedding, an array or the path of an .npy."""
        npy, stamp = self.npy_of(path), _stamp(path)
        npy.unlink(missing_ok=True)  # it may be a link to an .npy of an earlier `out`
        if isinstance(values, Path):
            _link(values, npy)
        else:
            np.save(npy, np.asarray(values, "<f4"))
        self.rows[path] = stamp, duration, self._digest(path, stamp, duration)
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps([path, *self.rows[path]]) + "\n")

    def npy_of(self, path):
        """Return the path of the .npy for a file's embedding."""
        return self.folder / NPY / f"{blake2b(os.fsencode(path), digest_size=16).hexdigest()}.npy"

    def _digest(self, path, *row):
        with open(self.npy_of(path), "rb") as file:
            data = file_digest(file, lambda: blake2b(json.dumps(row).encode(), digest_size=16))
        return data.hexdigest()


def _finished(out, paths, settings, overwrite, resumed):
    """Map a key to stamp, duration and embedding of what `out` holds with the same settings.

    Raises StoreError, unless `overwrite`, if some of it would be lost. An interrupted run that is
    resumed may have replaced some of the files of an .npy.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    try:
        before = read_index(out) if out.is_dir() else read_embeddings(out, unpooled=True)
    except StoreError as error:
        if out.is_file() and (overwrite or resumed):
            return {}
        remedy = "pass --overwrite to replace it" if out.is_file() else "choose another --out"
        raise StoreError(f"{error}, or {remedy}") from error
    given = {_key(path) for path in paths}
    lost = sum(_key(path) not in given for path in before.paths)
    changed = changed_settings(before.settings, settings)
    if (lost or changed) and not overwrite:
        faults = [f"{lost} of its {len(before.paths)} files are not among the {len(paths)} given"]
        faults = faults * bool(lost) + [f"its settings are others ({changed})"] * bool(changed)
        raise StoreError(
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


def _link(source, target):
    """Link to a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _stamp(path):
    """Size and modification time, or None for a file that does not exist."""
    with suppress(OSError):
        status = os.stat(path)
        return f"{status.st_size} {status.st_mtime_ns}"


def _from_the_front(layers, count):
    """Count negative layers from 0; the encoder refuses those that are out of range."""
    if isinstance(layers, list):
        return [_from_the_front(layer, count) for layer in layers]
    return layers + count if layers != "all" and -count <= layers < 0 else layers


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
        seconds = _seconds(path, result.lengths)
        store.add(path, seconds, result.values)
        total += seconds
        rate = total / (time.monotonic() - started)
        bar.set_postfix_str(f"{rate:.0f} x real time", refresh=False)
    return unreadable


def _seconds(path, tokens):
    """Return a file's duration, from its tokens if its header says too much or nothing."""
    try:
        return round(min(audio_info(path).seconds, tokens / TOKEN_RATE), 3)
    except AudioError:
        return tokens / TOKEN_RATE


def _write_folder(out, store, rows, settings):
    """Replace `out` by a folder with links to the store's files, an index and the settings.

    rows: path, duration and name of each file.
    """
    whole = store.folder / WHOLE
    shutil.rmtree(whole, ignore_errors=True)  # left by a kill
    for path, _, name in rows:
        (whole / name).parent.mkdir(parents=True, exist_ok=True)
        _link(store.npy_of(path), whole / name)
    rows = [(printable(path), duration, printable(name)) for path, duration, name in rows]
    index = csv_text(rows, (*COLUMNS, "file"))
    write_together({whole / INDEX: index, whole / SETTINGS: settings_text(settings)})
    replace_folder(whole, out)
