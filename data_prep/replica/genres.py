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
    """Preferences of a genre; a weight table is {choice: weight}.

    Arguments
    ---------
    tempo : (float, float)
        Mean and standard deviation in beats per minute.
    meters, color, beats, bass, comp, melody, forms : dict
        Weight tables: of `METERS`, of what `Chord.colored` knows, of the patterns in
        `patterns.yaml`, and of forms, which name their sections.
    minor, drums : float
        Shares of pieces.
    scales : dict
        Mode -> weights of `SCALES`.
    loops : dict
        Mode -> progressions, one chord per bar (`/` joins two in one bar).
    loop_share : float
        How often a loop is taken; otherwise the grammar writes the phrase.
    swing : (float, float)
        Range of how late an off-beat comes, as a share of the beat.
    instruments : dict
        Role -> weights of `POOLS`.
    neighbours : list of str
        Genres that lend some of these.
    """

    tempo: list
    meters: dict
    minor: float
    scales: dict
    color: dict
    loops: dict
    loop_share: float
    swing: list
    drums: float
    beats: dict
    bass: dict
    comp: dict
    melody: dict
    instruments: dict
    forms: dict
    neighbours: list


_DATA = yaml.safe_load(Path(__file__).with_name("genres.yaml").read_text(encoding="utf-8"))
GENRES = {name: Genre(**fields) for name, fields in _DATA.items()}

BORROWED = 0.2  # how often an artist takes a preference from a neighbouring genre


@dataclass(frozen=True)
class Artist:
    """A latent style: what all pieces of one artist share.

    Arguments
    ---------
    name, genre : str
        The genre is a key of `GENRES`.
    tempo, tempo_spread : float
        Mean and standard deviation in beats per minute.
    minor : float
        Share of pieces in minor.
    color : str
        What `Chord.colored` makes of the chords.
    swing : float
        How late an off-beat comes, as a share of the beat.
    programs : dict
        Role -> two General MIDI programs.
    ways : dict
        Part -> name of its patterns.
    tightness : float
        Standard deviation of note onsets in seconds.
    legato : float
        Share of its length that a note is held.
    tilt, cutoff : float
        Of the spectrum, dB and Hz: see `mix.filter_spectrum`.
    reverb : float
        0 to 1.
    drive : float
        Saturation of the mix; 0 is none.
    noise : float
        Level of the noise, dB relative to the music.
    levels : dict
        Role -> dB.
    """

    name: str
    genre: str
    tempo: float
    tempo_spread: float
    minor: float
    color: str
    swing: float
    programs: dict
    ways: dict
    tightness: float
    legato: float
    tilt: float
    cutoff: float
    reverb: float
    drive: float
    noise: float
    levels: dict


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
        levels={
            "drums": float(rng.normal(-2, 2)),
            "bass": float(rng.normal(-4, 2)),
            "comp": float(rng.normal(-6, 2)),
            "melody": float(rng.normal(-3, 2)),
            "pad": float(rng.normal(-10, 2)),
        },
    )
