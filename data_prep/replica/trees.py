"""Replicas of data sets: their folders, file names, formats, rates, tables and splits.

A module of `layouts/` plans a data set's tree, `make_replica` writes it. `replica.json` at its root
holds generator, scale, seed and the number of pieces per split; preparations look for it. Each
file depends on the seed and its own key alone, so an interrupted replica is continued.
"""

import importlib
import logging
import math
import pkgutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soxr

from speechbrain_music.data_prep.data_set import REPLICA_JSON
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica import GENERATOR, layouts, storage
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.draws import FIRST, PIECE, PLAN, STYLE, keyed
from speechbrain_music.data_prep.replica.expression import perform
from speechbrain_music.data_prep.replica.genres import GENRES, make_artist
from speechbrain_music.data_prep.replica.mix import add_noise_floor, mix
from speechbrain_music.data_prep.replica.synth import RATE, load_bank
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

NAMES = sorted(module.name for module in pkgutil.iter_modules(layouts.__path__))


@dataclass
class Tree:
    """What a replica holds."""

    counts: dict  # variant of the split -> split -> pieces, as a preparation counts them
    texts: dict  # path -> str
    sounds: list  # (path, arguments of `render`)
    render: callable  # `render(*arguments)`: a wave (samples,) float32 at 24 kHz
    rate: int  # of the audio files, as are the channels
    channels: int = 1
    folders: tuple = ()  # those that exist even without audio


def scaled(counts, scale, least=1):
    """Counts in proportion, `least` or more of each."""
    return {name: max(least, round(scale * count)) for name, count in counts.items()}


def published(data_set, scale, least=1, variant="published"):
    """A data set's counts in proportion, see `scaled`."""
    return scaled(DATA_SETS[data_set].counts[variant], scale, least)


def draw_artist(genre, seed, *key, held_out=False):
    """The artist of a genre that a key (whole numbers, joined by `-` the name) stands for."""
    return make_artist("-".join(map(str, key)), genre, keyed(seed, STYLE, *key), held_out)


def lines(rows, separator="\t"):
    """The text of a table without quotes; seconds have three decimals."""
    cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    return "".join(f"{separator.join(row)}\n" for row in cells)


def song_keys(seed, count, artists, shortest=60.0, longest=100.0):
    """Artist number and arguments of `draw_song` of songs of random lengths (seconds).

    Artists have up to three songs; there are `artists` or more if there are as many songs.
    """
    per_artist = min(3, max(1, count // artists))
    for index in range(count):
        artist, seconds = index // per_artist, keyed(seed, PLAN, index).uniform(shortest, longest)
        genre = list(GENRES)[artist % len(GENRES)]
        yield artist, (seed, genre, (artist,), (index,), round(seconds, 1))


def draw_song(
    seed, genre, artist, piece, seconds, held_out=False, tonic=None, mode=None, play=None
):
    """Compose a piece: its artist, the `Piece`, and the random generator left for its mix.

    `artist` and `piece` are keys: which artist of a genre, which piece of theirs. With `tonic` (0
    to 11 from C on) and `mode` the piece stays in that key. `play` is called in place of `compose`.
    """
    player = draw_artist(genre, seed, *artist, held_out=held_out)
    if mode:
        player.minor = float(mode == "minor")
    rng = keyed(seed, PIECE, *piece)
    return player, (play or compose)(player, seconds, rng, load_bank(), tonic), rng


def render_drawn(draw, *key):
    """Render the song that `draw` draws as `draw_song` does: (samples,) float32 at 24 kHz."""
    player, song, rng, *_ = draw(*key)
    return add_noise_floor(mix(song, player, rng, load_bank()), rng)


def render_song(seed, genre, artist, piece, *options):
    """Compose and render a piece; arguments of `draw_song`."""
    return render_drawn(draw_song, seed, genre, artist, (*piece, FIRST), *options)


# A piece that is played with expression; arguments of `draw_song`.
draw_performance = partial(draw_song, play=perform)
render_performance = partial(render_drawn, draw_performance)


def make_replica(name, out, scale=1.0, seed=0, workers=None):
    """Make a replica, or continue one, or find it complete; returns its folder.

    `scale` is the share of the published counts, in (0, 1]; every class has a piece per split or
    more. It starts processes (`workers`, by default one per core): a script calls it under
    `if __name__ == "__main__":`. Raises a `UserError` if it cannot be made.
    """
    if name not in NAMES:
        raise UserError(f"There is no replica of {name!r}; choose one of {', '.join(NAMES)}.")
    if not (math.isfinite(scale) and 0 < scale <= 1):
        raise UserError(f"scale is {scale}; it must be above 0 and at most 1.")
    out = Path(out)
    tree = importlib.import_module(f"{__package__}.layouts.{name}").plan(scale, seed)
    metadata = {
        "data_set": name,
        "generator": GENERATOR,
        "scale": scale,
        "seed": seed,
        "sound_bank": load_bank().sha256,
        "counts": tree.counts,
    }
    storage.claim(out / REPLICA_JSON, metadata)
    for folder in tree.folders:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for path, text in tree.texts.items():
        if not (out / path).exists():
            write_together({out / path: text})
    jobs = [
        (str(out / path), tree.rate, tree.channels, tree.render, key)
        for path, key in tree.sounds
        if not (out / path).exists()
    ]
    storage.render_all(write_sound, jobs, workers)
    logger.info("%s: %d files of audio", out, len(tree.sounds))
    return out


def write_sound(path, rate, channels, render, key):
    """Render a piece and write it at the data set's rate, all channels the same."""
    wave = np.clip(soxr.resample(render(*key), RATE, rate), -1, 1)
    storage.write_audio(path, wave[:, None].repeat(channels, 1), rate)
