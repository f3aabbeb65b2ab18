"""Ten genres with the names of GTZAN's, and the artists who play them.

A genre is a set of weights (`genres.yaml`): tempi, modes, instruments and playing styles overlap
between genres, and an artist takes some of them from a neighbouring genre.
"""

from types import SimpleNamespace

import numpy as np

from speechbrain_music.data_prep.replica.draws import choose, read_yaml

POOLS = read_yaml("programs.yaml")["pools"]
GENRES = {name: SimpleNamespace(**fields) for name, fields in read_yaml("genres.yaml").items()}
LEVELS = {"drums": -2, "bass": -4, "comp": -6, "melody": -3, "pad": -10}  # mean, in dB
BORROWED = 0.2  # how often an artist takes a preference from a neighbouring genre


def make_artist(name, genre, rng, held_out=False):
    """Draw an artist of a genre; `held_out` allows programs that training replicas never play."""
    own = GENRES[genre]

    def lender():
        return GENRES[str(rng.choice(own.neighbours))] if rng.random() < BORROWED else own

    def programs(role):
        pools = lender().instruments[role]
        drawn = (POOLS[choose(rng, pools)] for _ in range(2))
        return tuple(int(rng.choice(known + held_out * others)) for known, others in drawn)

    mean, spread = own.tempo
    return SimpleNamespace(
        name=name,
        genre=genre,
        tempo=float(rng.normal(mean, 0.7 * spread)),  # mean of the artist's pieces
        tempo_spread=0.7 * spread,
        minor=float(np.clip(rng.normal(own.minor, 0.2), 0.03, 0.97)),  # share of pieces
        color=choose(rng, lender().color),  # of chords: see `Chord.colored`
        swing=float(rng.uniform(*own.swing)),
        programs={role: programs(role) for role in ("bass", "comp", "melody", "pad")},
        ways={part: choose(rng, getattr(lender(), part)) for part in ("bass", "comp", "melody")}
        | {"beats": choose(rng, own.beats)},  # names of patterns
        tightness=float(rng.uniform(0.003, 0.014)),  # standard deviation of onsets in seconds
        legato=float(rng.uniform(0.55, 1.0)),  # share of its length that a note is held
        tilt=float(rng.normal(0, 3)),  # dB, and the cutoff in Hz: see `mix.filter_spectrum`
        cutoff=float(rng.choice((5000.0, 8000.0, 11500.0), p=(0.1, 0.2, 0.7))),
        reverb=float(rng.uniform(0.05, 0.9)),
        drive=float(rng.choice((0.0, rng.uniform(0.5, 2.0)), p=(0.6, 0.4))),  # saturation
        noise=float(rng.uniform(-58, -34)),  # dB relative to the music
        levels={role: float(rng.normal(level, 2)) for role, level in LEVELS.items()},  # dB
    )
