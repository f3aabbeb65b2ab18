"""Ten genres with the names of GTZAN's, and the artists who play them.

A genre is a set of weights (`genres.yaml`): tempi, modes, instruments and playing styles overlap
between genres, and an artist takes some of them from a neighbouring genre.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from speechbrain_music.data_prep.replica.draws import choose

# General MIDI programs by kind of instrument: known ones, and held-out ones (about 30% of all),
# which training replicas never play and test replicas may.
POOLS = {
    "piano": ((0, 1, 3), (2,)),
    "electric piano": ((4,), (5,)),
    "keyboard": ((7, 6), (8,)),
    "mallets": ((11, 12, 9), (13,)),
    "organ": ((16, 18), (17,)),
    "accordion": ((21, 23), ()),
    "harmonica": ((22,), ()),
    "acoustic guitar": ((25, 24), (15,)),
    "clean guitar": ((27, 26), (28,)),
    "distorted guitar": ((30, 29), ()),
    "acoustic bass": ((32,), (43,)),
    "electric bass": ((33, 34, 36, 35), (37,)),
    "synth bass": ((38,), (39,)),
    "solo strings": ((40, 42), (41,)),
    "fiddle": ((110, 105), (106,)),
    "strings": ((48, 50, 51), (49,)),
    "choir": ((52,), (53,)),
    "trumpet": ((56, 59), (57,)),
    "brass": ((61, 62, 63), (60,)),
    "saxophone": ((65, 66, 67), (64,)),
    "woodwind": ((73, 71, 68, 72), (70,)),
    "lead": ((80, 81, 85), (82, 87)),
    "pad": ((88, 89, 91, 95), (90,)),
}


@dataclass(frozen=True)
class Genre:
    """Preferences of a genre; a weight table is {choice: weight}."""

    tempo: list  # mean and standard deviation in beats per minute
    meters: dict  # weights of `METERS`
    minor: float  # share of pieces
    scales: dict  # mode -> weights of `SCALES`
    color: dict  # weights of what `Chord.colored` knows
    loops: dict  # mode -> progressions, one chord per bar (`/` joins two in one bar)
    loop_share: float  # how often a loop is taken; otherwise the grammar writes the phrase
    swing: list  # range of how late an off-beat comes, as a share of the beat
    drums: float  # share of pieces
    beats: dict  # weights of the patterns in `patterns.yaml`, as the next three
    bass: dict
    comp: dict
    melody: dict
    instruments: dict  # role -> weights of `POOLS`
    forms: dict  # weights of forms, which name their sections
    neighbours: list  # genres that lend some of these


_DATA = yaml.safe_load(Path(__file__).with_name("genres.yaml").read_text(encoding="utf-8"))
GENRES = {name: Genre(**fields) for name, fields in _DATA.items()}

LEVELS = {"drums": -2, "bass": -4, "comp": -6, "melody": -3, "pad": -10}  # mean, in dB
BORROWED = 0.2  # how often an artist takes a preference from a neighbouring genre


@dataclass(frozen=True)
class Artist:
    """A latent style: what all pieces of one artist share."""

    name: str
    genre: str  # a key of `GENRES`
    tempo: float  # mean, and below the standard deviation, in beats per minute
    tempo_spread: float
    minor: float  # share of pieces
    color: str  # what `Chord.colored` makes of the chords
    swing: float  # how late an off-beat comes, as a share of the beat
    programs: dict  # role -> two General MIDI programs
    ways: dict  # part -> name of its patterns
    tightness: float  # standard deviation of note onsets in seconds
    legato: float  # share of its length that a note is held
    tilt: float  # of the spectrum in dB, and its cutoff in Hz: see `mix.filter_spectrum`
    cutoff: float
    reverb: float  # 0 to 1
    drive: float  # saturation of the mix; 0 is none
    noise: float  # level of the noise, dB relative to the music
    levels: dict  # role -> dB


def programs_of(pool, held_out):
    """Programs of a pool; the held-out ones too if `held_out`."""
    known, others = POOLS[pool]
    return known + others if held_out else known


def make_artist(name, genre, rng, held_out=False):
    """Draw an artist of a genre; `held_out` allows programs that training replicas never play."""
    own = GENRES[genre]

    def lender():
        return GENRES[str(rng.choice(own.neighbours))] if rng.random() < BORROWED else own

    def programs(role):
        pools = lender().instruments[role]
        return tuple(int(rng.choice(programs_of(choose(rng, pools), held_out))) for _ in range(2))

    mean, spread = own.tempo
    return Artist(
        name=name,
        genre=genre,
        tempo=float(rng.normal(mean, 0.7 * spread)),
        tempo_spread=0.7 * spread,
        minor=float(np.clip(rng.normal(own.minor, 0.2), 0.03, 0.97)),
        color=choose(rng, lender().color),
        swing=float(rng.uniform(*own.swing)),
        programs={role: programs(role) for role in ("bass", "comp", "melody", "pad")},
        ways={part: choose(rng, getattr(lender(), part)) for part in ("bass", "comp", "melody")}
        | {"beats": choose(rng, own.beats)},
        tightness=float(rng.uniform(0.003, 0.014)),
        legato=float(rng.uniform(0.55, 1.0)),
        tilt=float(rng.normal(0, 3)),
        cutoff=float(rng.choice((5000.0, 8000.0, 11500.0), p=(0.1, 0.2, 0.7))),
        reverb=float(rng.uniform(0.05, 0.9)),
        drive=float(rng.choice((0.0, rng.uniform(0.5, 2.0)), p=(0.6, 0.4))),
        noise=float(rng.uniform(-58, -34)),
        levels={role: float(rng.normal(level, 2)) for role, level in LEVELS.items()},
    )
