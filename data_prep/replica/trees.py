"""Replicas of data sets: their own folders, names, formats, rates, tables and splits.

`layouts/` plans a data set's tree, this makes it. At the root `replica.json` tells generator,
scale, seed and how many pieces each split has; preparations look for it. Each file depends on the
seed and its own place alone, so an interrupted replica is continued.
"""

import importlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from speechbrain_music.data_prep.data_set import REPLICA_JSON
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.corpus import (
    ATTEMPTS,
    AUDIBLE,
    PATIENCE,
    CorpusError,
    claim,
    generator_id,
    keyed,
    write_audio,
)
from speechbrain_music.data_prep.replica.genres import make_artist
from speechbrain_music.data_prep.replica.mix import gain, mix
from speechbrain_music.data_prep.replica.mortal import run_all
from speechbrain_music.data_prep.replica.synth import RATE, load_bank
from speechbrain_music.utils.atomic import atomic_file

logger = logging.getLogger(__name__)

NAMES = "emomusic fma giantsteps gtzan magnatagatune mtg_jamendo music4all nsynth vocalset".split()
FLOORS = (-56, -52)  # dBFS RMS of the noise under a file
STYLE, PIECE, PLAN = 10, 11, 12  # streams of random numbers, apart from the corpus's


@dataclass
class Tree:
    """What a replica holds.

    Arguments
    ---------
    counts : dict
        Variant of the split -> split -> pieces, as a preparation counts them.
    texts : dict
        Path -> str, bytes, or an iterator of str for what is large.
    sounds : list
        (path, arguments of `render`).
    render : callable
        A module's function `render(attempt, *arguments)`: a wave (samples,) float32 at 24 kHz.
    rate : int
        Of the files, Hz.
    channels : int
        Of the files.
    folders : tuple of str
        Those that are there even without audio.
    names : bool
        Whether the files' names are the annotation: without audio they are empty then.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.layouts import music4all
    >>> tree = music4all.plan(0.0001, seed=0)
    >>> len(tree.sounds), list(tree.texts), tree.rate, tree.channels
    (11, ['id_information.csv'], 44100, 2)
    """

    counts: dict
    texts: dict
    sounds: list
    render: callable
    rate: int
    channels: int = 1
    folders: tuple = ()
    names: bool = False


def scaled(counts, scale, least=1):
    """Counts in proportion, `least` or more of each.

    Example
    -------
    >>> scaled({"train": 443, "valid": 197, "test": 290}, 0.01)
    {'train': 4, 'valid': 2, 'test': 3}
    """
    return {name: max(least, round(scale * count)) for name, count in counts.items()}


def style(genre, seed, *key, held_out=False):
    """The artist of a genre that a key stands for.

    Arguments
    ---------
    genre : str
        A key of `GENRES`.
    seed : int
        The replica's.
    key : int
        Which artist of that genre it is; joined by `-` they are the name.
    held_out : bool
        Whether the programs that training replicas never play are allowed.

    Returns
    -------
    Artist

    Example
    -------
    >>> style("jazz", 0, 2, 5).name, style("jazz", 0, 2, 5) == style("jazz", 0, 2, 5)
    ('2-5', True)
    """
    return make_artist("-".join(map(str, key)), genre, keyed(seed, STYLE, *key), held_out)


def song(artist, seconds, seed, *key, tonic=None):
    """The wave of a piece that depends on the key alone.

    Arguments
    ---------
    artist : Artist
        From `style`.
    seconds : float
        Length.
    seed : int
        The replica's.
    key : int
        Which piece it is, and which attempt.
    tonic : int, optional
        As in `compose`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> artist = style("jazz", 0, 2, 5)
    >>> a, same, b = (song(artist, 1.0, 0, piece) for piece in (7, 7, 8))
    >>> a.shape, bool((a == same).all()), bool((a == b).all())
    ((24000,), True, False)
    """
    rng, bank = keyed(seed, PIECE, *key), load_bank()
    piece = compose(artist, seconds, rng, bank, tonic)
    return on_a_floor(mix(piece, artist, rng, bank), rng)


def on_a_floor(wave, rng):
    """Lays noise under a wave, so that no part of it is silent: rests would give labels away.

    Arguments
    ---------
    wave : numpy.ndarray
        (samples,) float32.
    rng : numpy.random.Generator
        Draws level and noise.

    Returns
    -------
    numpy.ndarray
        (samples,) float32.

    Example
    -------
    >>> floor = on_a_floor(np.zeros(24000, np.float32), np.random.default_rng(0))
    >>> bool(FLOORS[0] - 0.2 < 20 * np.log10(floor.std()) < FLOORS[1] + 0.2)
    True
    """
    level = np.float32(gain(rng.uniform(*FLOORS)))
    return wave + level * rng.standard_normal(len(wave), dtype=np.float32)


def make_replica(name, out, scale=1.0, seed=0, annotations_only=False, workers=None):
    """Makes a replica, or continues one, or finds it complete.

    It starts processes: a script calls it under `if __name__ == "__main__":`.

    Arguments
    ---------
    name : str
        One of `NAMES`.
    out : str | Path
        Its folder.
    scale : float
        Share of the published counts, in (0, 1]; every class has at least one piece a split.
    seed : int
        Another seed makes other pieces of the same kind.
    annotations_only : bool
        Whether there is no audio; where names are the annotation, the files are empty.
    workers : int, optional
        Processes; None takes one a core.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    CorpusError
        If there is no such data set, the scale is out of range, the folder holds something else
        or cannot be written, or a piece cannot be rendered.

    Example
    -------
    >>> folder = make_replica("gtzan", getfixture("tmp_path") / "a", 0.01, annotations_only=True)
    >>> len((folder / "test_filtered.txt").read_text().split())
    10
    """
    if name not in NAMES:
        raise CorpusError(f"There is no replica of {name!r}; choose one of {', '.join(NAMES)}.")
    if not (math.isfinite(scale) and 0 < scale <= 1):
        raise CorpusError(f"scale is {scale}; it must be above 0 and at most 1.")
    out = Path(out)
    tree = importlib.import_module(f"{__package__}.layouts.{name}").plan(scale, seed)
    sources = ("notes", "voice", "trees", f"layouts/{name}")
    facts = {"data_set": name, "generator": generator_id(*sources), "scale": scale, "seed": seed}
    facts |= {"annotations_only": annotations_only, "sound_bank": load_bank().sha256}
    facts |= {"counts": tree.counts}
    try:
        claim(out / REPLICA_JSON, facts)
        for folder in tree.folders:
            (out / folder).mkdir(parents=True, exist_ok=True)
        for path, text in tree.texts.items():
            if not (out / path).exists():
                _write_text(out / path, text)
        if annotations_only:
            for path in (path for path, _ in tree.sounds if tree.names):
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                (out / path).touch()
        else:
            jobs = [
                (str(out / path), tree.rate, tree.channels, tree.render, key)
                for path, key in tree.sounds
                if not (out / path).exists()
            ]
            run_all(write_sound, jobs, PATIENCE, ATTEMPTS, workers, "Composing and rendering")
            logger.info("%s: %d files of audio", out, len(tree.sounds))
    except OSError as error:
        raise CorpusError(
            f"{out} cannot be written ({error.strerror}); choose another folder or make room "
            "there, the same command continues."
        ) from error
    return out


def _write_text(path, text):
    if isinstance(text, bytes):
        with atomic_file(path, "wb") as file:
            file.write(text)
        return
    with atomic_file(path, encoding="utf-8", newline="") as file:
        file.writelines([text] if isinstance(text, str) else text)


def write_sound(attempt, path, rate, channels, render, key):
    """Renders a piece and writes it at the data set's rate.

    Arguments
    ---------
    attempt : int
        The first to be made; while one is silent the next is, `ATTEMPTS` at most.
    path : str
        Its end says the format, as for `write_audio`.
    rate, channels : int
        Of the file; all channels are the same.
    render : callable
        As `Tree` has it.
    key : tuple
        Arguments of `render`.

    Raises
    ------
    CorpusError
        If all attempts are silent.
    OSError
        If the file cannot be written.

    Example
    -------
    >>> import soundfile
    >>> def render(attempt, hertz):
    ...     return 0.5 * np.sin(2 * np.pi * hertz / RATE * np.arange(RATE))
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> write_sound(0, str(path), 44100, 2, render, (440.0,))
    >>> info = soundfile.info(path)
    >>> info.samplerate, info.channels, info.duration
    (44100, 2, 1.0)
    """
    for again in range(attempt, attempt + ATTEMPTS):
        wave = render(again, *key)
        if np.abs(wave).max() > AUDIBLE:
            break
    else:
        raise CorpusError(f"{path} is silent; use another seed.")
    wave = np.clip(soxr.resample(wave, RATE, rate), -1, 1)
    write_audio(path, wave[:, None].repeat(channels, 1), rate)
