"""Embeddings of many files: each computed once, kept as it comes, all written in the end."""

import os
import time
from pathlib import Path, PurePath

import numpy as np
from tqdm import tqdm

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.dataio.audio import AudioError, audio_info
from speechbrain_music.inference import store
from speechbrain_music.inference.journal import ROWS, Journal
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

PARTIAL, UNREADABLE = ".partial", ".unreadable.csv"
INDEX = "index.csv"
LONG = 600.0  # seconds: a file that fills batches alone, and whose frames go straight to the disk


def choose_writer(out, pool, count):
    """Refuses, before anything is computed, what could not be written.

    Arguments
    ---------
    out : path
        Ends in .npy, .npz or .parquet, or is a folder for the frames of several files.
    pool : str
        "mean", "mean_std" or "none".
    count : int
        Of files.

    Returns
    -------
    callable
        `write(out, journal, paths, settings)`.

    Raises
    ------
    UserError
        If `out` does not fit, or cannot be written.

    Example
    -------
    >>> choose_writer("a.npz", "none", count=2)
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: a.npz cannot hold the frames of 2 files: name a \
folder, --out a, or pass --pool mean
    """
    out = Path(out)
    check_output(out)
    if out.suffix not in store.KINDS:
        if pool != "none":
            raise UserError(
                f"{out} must end in {', '.join(store.KINDS)}; a folder is for --pool none"
            )
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UserError(f"{out} is there already: choose another --out, or remove it")
        return _write_folder
    if pool == "none" and count > 1:
        raise UserError(
            f"{out} cannot hold the frames of {count} files: name a folder, --out {out.stem}, or "
            "pass --pool mean"
        )
    store.check_place(out, pool)
    return _write_frames if pool == "none" else _write_table


def embed_collection(encoder, source, paths, out, layers=-1, pool="mean", faults=None, **options):
    """Embeds files into a file or a folder; what a killed process has done is not done again.

    Arguments
    ---------
    encoder : MusicEncoder
        From an export.
    source : str
        Its name, to be kept beside the embeddings.
    paths : list of str
        Audio files.
    out : path
        As `choose_writer` has it. Until all is done, `<out>.partial` holds what is.
    layers, pool, **options
        As `MusicEncoder.encode_files` takes them; `chunk` and `overlap` have no default here.
    faults : dict, optional
        Of what is known to be unreadable: path -> why.

    Returns
    -------
    dict
        Path -> why it could not be read; also in `<out>.unreadable.csv`.

    Raises
    ------
    UserError
        If no file can be read, or for what `choose_writer`, `Journal` and the encoder refuse.

    Example
    -------
    >>> import soundfile, tempfile
    >>> from speechbrain_music.inference.encoder import MusicEncoder
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> encoder = MusicEncoder({"features": LogMel(), "encoder": Encoder(num_layers=1, d_model=16)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths, out = [f"{folder}/a.wav", f"{folder}/gone.wav"], f"{folder}/out.npz"
    ...     soundfile.write(paths[0], np.zeros(24000), 24000)
    ...     faults = embed_collection(encoder, "mine", paths, out, chunk=30.0, overlap=0.0)
    ...     len(faults), store.read_embeddings(out).values.shape
    (1, (1, 16))
    """
    out = Path(out)
    write = choose_writer(out, pool, len(paths))
    settings = {"model": fingerprint(encoder), "source": str(source), "pool": pool}
    settings |= {"layers": from_the_front(layers, encoder.num_layers)} | options
    batch_size = settings.pop("batch_size", 8)
    names = {path: f"{name}.npy" for path, name in names_below(paths).items()}
    folder = out.with_name(out.name + PARTIAL)
    with Journal(folder, settings, names if pool == "none" else None) as journal:
        faults = (faults or {}) | _fill(journal, encoder, paths, settings, batch_size)
        done = [path for path in paths if path not in faults]
        _write_faults(out.with_name(out.name + UNREADABLE), faults)
        if not done:
            path, reason = next(iter(faults.items()))
            raise UserError(f"none of {len(faults)} files could be read; {path}: {reason}")
        write(out, journal, done, settings)
    return faults


def fingerprint(encoder):
    """Hex; equal for equal weights and configuration, and what `results.json` calls identity.

    Example
    -------
    >>> from speechbrain_music.inference.encoder import MusicEncoder
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> modules = {"features": LogMel(), "encoder": Encoder(num_layers=1, d_model=16)}
    >>> before = fingerprint(MusicEncoder(modules))
    >>> _ = modules["features"].normalize.std.fill_(2.0)
    >>> fingerprint(MusicEncoder(modules)) == before
    False
    """
    return ExportEncoder(encoder.model, "").identity


def from_the_front(layers, count):
    """Layers counted from 0, where they are in range; the encoder refuses the others.

    Example
    -------
    >>> from_the_front(-1, 13), from_the_front([0, -2], 13), from_the_front("all", 13)
    (12, [0, 11], 'all')
    """
    if isinstance(layers, list):
        return [from_the_front(layer, count) for layer in layers]
    return layers + count if layers != "all" and -count <= layers < 0 else layers


def names_below(paths):
    """Path -> its name below the deepest folder that holds all of them.

    Example
    -------
    >>> names_below(["cd 1/a.wav", "cd 2/a.wav"])
    {'cd 1/a.wav': 'cd 1/a.wav', 'cd 2/a.wav': 'cd 2/a.wav'}
    >>> names_below(["cd 1/a.wav"])
    {'cd 1/a.wav': 'a.wav'}
    """
    whole = {path: os.path.abspath(path) for path in paths}
    root = os.path.commonpath([os.path.dirname(path) for path in whole.values()])
    return {path: PurePath(name).relative_to(root).as_posix() for path, name in whole.items()}


def _fill(journal, encoder, paths, settings, batch_size):
    """Embeds the files that are not done; those that cannot be read, with the reasons."""
    faults, heard, begun = {}, 0.0, time.monotonic()
    missing = [path for path in paths if not journal.holds(path)]
    if len(missing) < len(paths):
        print(f"Going on: {len(paths) - len(missing)} of {len(paths)} files are done")
    options = {name: settings[name] for name in store.OPTIONS} | {"batch_size": batch_size}
    bar = tqdm(
        _compute(journal, encoder, missing, options),
        desc="embedding",
        total=len(paths),
        initial=len(paths) - len(missing),
        unit="file",
        dynamic_ncols=True,
    )
    for path, error in bar:
        if error:
            faults[path] = str(error).removeprefix(f"{path}: ")
        else:
            heard += journal.row(path)["duration"]
            rate = heard / (time.monotonic() - begun)
            bar.set_postfix_str(f"{rate:.0f} x real time", refresh=False)
    return faults


def _compute(journal, encoder, paths, options):
    """Embeds files into the journal; yields each path, and the error if it cannot be read."""
    long = {}
    if options["pool"] == "none":
        long = dict.fromkeys(path for path in paths if _seconds(path) > LONG)
    for path, result in encoder.encode_files([p for p in paths if p not in long], **options):
        error = result if isinstance(result, AudioError) else None
        if not error:
            journal.add(path, result.values, duration=_seconds(path, result.lengths))
        yield path, error
    for path in long:
        error = None
        try:
            result = encoder.encode_file(path, out=journal.file_of(path), **options)
            journal.note(path, duration=_seconds(path, result.lengths))
        except AudioError as fault:
            error = fault
        yield path, error


def _seconds(path, tokens=0):
    """A file's duration; its tokens tell where a header says too much, or nothing."""
    try:
        seconds = audio_info(path).seconds
    except AudioError:
        return tokens / TOKEN_RATE
    return round(min(seconds, tokens / TOKEN_RATE) if tokens else seconds, 3)


def _write_faults(path, faults):
    if faults:
        rows = [(printable(name), reason) for name, reason in faults.items()]
        write_together({path: csv_text(rows, ("path", "reason"))})
    else:
        path.unlink(missing_ok=True)  # of an earlier time


def _write_table(out, journal, done, settings):
    durations = np.array([journal.row(path)["duration"] for path in done])
    store.write_embeddings(out, store.Embeddings(done, durations, journal.read(done), settings))
    journal.remove()


def _write_frames(out, journal, done, settings):
    (path,) = done
    store.write_frames(out, path, journal.file_of(path), settings)
    journal.remove()


def _write_folder(out, journal, done, settings):
    """The journal's folder becomes `out`: large files are not written twice."""
    rows = [
        (printable(path), journal.row(path)["duration"], printable(journal.names[path]))
        for path in done
    ]
    ours = {journal.file_of(path) for path in done}
    for file in journal.folder.rglob("*.npy*"):  # of a kill, or of files that are no longer asked
        if file not in ours:
            file.unlink()
    write_together({journal.folder / INDEX: csv_text(rows, ("path", "duration", "file"))})
    journal.close()
    os.replace(journal.folder, out)
    (out / ROWS).unlink()
