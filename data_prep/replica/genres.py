"""Ten genres with the names of GTZAN's, and the artists who play them.

A genre is a set of weights, not a template: tempi, modes, instruments and ways of playing overlap
as real ones do, and an artist takes some of them from a neighbouring genre.
"""

from dataclasses import dataclass

import numpy as np

from speechbrain_music.data_prep.replica.theory import choose

# General MIDI programs by what they are asked for. The last ones of each pool (about 30% of all
# programs) are held out: training replicas never play them, test replicas may.
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
    """What a genre prefers. Weights are {choice: weight}; `neighbours` lend what is not one's own.

    `tempo` is mean and standard deviation in beats per minute; `minor` and `drums` are shares of
    pieces; `swing` is the range of how late an off-beat comes, as a share of the beat; `loops` are
    progressions by mode, one chord a bar (`/` joins two in a bar), drawn with probability
    `loop_share`, otherwise the functional grammar writes the phrase.

    Arguments
    ---------
    tempo, swing : tuple of float
        As above.
    meters, color, beats, bass, comp, melody, forms : dict
        Weights. A form names its sections, `color` is what `Chord.colored` knows, the others are
        keys of the tables in `players.py`.
    minor, drums, loop_share : float
        As above, 0 to 1.
    scales, loops : dict
        Mode -> weights of scales, mode -> progressions.
    instruments : dict
        Role -> weights of `POOLS`.
    neighbours : tuple of str
        Keys of `GENRES`.

    Example
    -------
    >>> jazz, metal = GENRES["jazz"], GENRES["metal"]
    >>> jazz.tempo, metal.tempo, jazz.minor < metal.minor, "blues" in jazz.neighbours
    ((136, 34), (142, 24), True, True)
    """

    tempo: tuple
    meters: dict
    minor: float
    scales: dict
    color: dict
    loops: dict
    loop_share: float
    swing: tuple
    drums: float
    beats: dict
    bass: dict
    comp: dict
    melody: dict
    instruments: dict
    forms: dict
    neighbours: tuple


BLUES_12 = "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7"
BLUES_MINOR = "i7 i7 i7 i7 iv7 iv7 i7 i7 bVI7 V7 i7 V7"
SONG = "intro verse chorus verse chorus bridge chorus outro"
RIFF_SONG = "intro verse chorus intro verse chorus bridge bridge chorus outro"
HEADS = "verse verse bridge verse bridge verse verse outro"

GENRES = {
    "blues": Genre(
        tempo=(96, 24),
        meters={"4/4": 7, "6/8": 3},
        minor=0.25,
        scales={"major": {"blues": 3, "mixolydian": 1}, "minor": {"blues": 3, "dorian": 1}},
        color={"plain": 1},
        loops={"major": (BLUES_12, "I7 IV7 I7 V7"), "minor": (BLUES_MINOR, "i7 iv7 i7 V7")},
        loop_share=0.95,
        swing=(0.1, 0.17),
        drums=0.75,
        beats={"shuffle": 4, "backbeat": 2, "sparse": 1},
        bass={"walking": 2, "boogie": 4, "roots": 1},
        comp={"quarters": 2, "charleston": 2, "strum": 2, "block": 1},
        melody={"phrased": 4, "lyrical": 1},
        instruments={
            "bass": {"electric bass": 2, "acoustic bass": 1},
            "comp": {"clean guitar": 3, "piano": 3, "organ": 2, "acoustic guitar": 2},
            "melody": {"harmonica": 3, "clean guitar": 3, "saxophone": 2, "distorted guitar": 1},
            "pad": {"organ": 1},
        },
        forms={"verse verse bridge verse verse outro": 1, HEADS: 1},
        neighbours=("jazz", "rock", "country"),
    ),
    "classical": Genre(
        tempo=(104, 30),
        meters={"4/4": 5, "3/4": 4, "6/8": 2},
        minor=0.42,
        scales={"major": {"major": 1}, "minor": {"harmonic minor": 3, "minor": 1}},
        color={"plain": 1},
        loops={"major": ("I V vi iii IV I IV V",), "minor": ("i V i bVII bIII bVII i V",)},
        loop_share=0.15,
        swing=(0.0, 0.0),
        drums=0.08,
        beats={"sparse": 1},
        bass={"roots": 3, "quarters": 1, "root fifth": 1},
        comp={"alberti": 3, "arpeggio": 2, "block": 2, "waltz": 2, "quarters": 1},
        melody={"lyrical": 3, "running": 2},
        instruments={
            "bass": {"solo strings": 2, "acoustic bass": 1, "piano": 1},
            "comp": {"piano": 4, "strings": 3, "keyboard": 1, "acoustic guitar": 1},
            "melody": {"solo strings": 3, "woodwind": 3, "piano": 2, "trumpet": 1},
            "pad": {"strings": 3, "choir": 1},
        },
        forms={"verse verse bridge verse": 2, "verse chorus bridge verse chorus outro": 1},
        neighbours=("jazz", "pop"),
    ),
    "country": Genre(
        tempo=(112, 24),
        meters={"4/4": 7, "3/4": 3},
        minor=0.12,
        scales={
            "major": {"major pentatonic": 2, "major": 2, "mixolydian": 1},
            "minor": {"minor pentatonic": 1, "minor": 1},
        },
        color={"plain": 1},
        loops={
            "major": ("I IV I V", "I I IV IV I V I I", "I V IV I", "I vi IV V"),
            "minor": ("i bVII bVI bVII", "i iv V i"),
        },
        loop_share=0.75,
        swing=(0.0, 0.08),
        drums=0.8,
        beats={"train": 3, "backbeat": 3, "sparse": 1},
        bass={"root fifth": 5, "walking": 1, "roots": 1},
        comp={"boom chick": 4, "strum": 4, "arpeggio": 1},
        melody={"lyrical": 2, "phrased": 2},
        instruments={
            "bass": {"acoustic bass": 2, "electric bass": 2},
            "comp": {"acoustic guitar": 5, "clean guitar": 2, "fiddle": 1},
            "melody": {"fiddle": 3, "harmonica": 1, "clean guitar": 2, "acoustic guitar": 1},
            "pad": {"strings": 1, "accordion": 1, "organ": 1},
        },
        forms={SONG: 2, "intro verse verse chorus verse chorus outro": 1},
        neighbours=("rock", "blues", "pop"),
    ),
    "disco": Genre(
        tempo=(118, 8),
        meters={"4/4": 1},
        minor=0.55,
        scales={
            "major": {"major": 2, "mixolydian": 1},
            "minor": {"dorian": 2, "minor pentatonic": 1, "minor": 1},
        },
        color={"sevenths": 2, "plain": 1},
        loops={
            "major": ("I vi ii V", "IV V iii vi", "I I IV IV", "ii V I vi"),
            "minor": ("i iv bVII bIII", "i bVI bVII i", "i i iv iv", "i bVII bVI V"),
        },
        loop_share=0.9,
        swing=(0.0, 0.02),
        drums=1.0,
        beats={"four on the floor": 8, "funk": 1},
        bass={"octaves": 5, "syncopated": 3, "eighths": 1},
        comp={"offbeat": 3, "stabs": 3, "sixteenths": 2},
        melody={"phrased": 3, "lyrical": 1, "riff": 1},
        instruments={
            "bass": {"electric bass": 4, "synth bass": 2},
            "comp": {"clean guitar": 4, "electric piano": 2, "piano": 1, "keyboard": 2},
            "melody": {"strings": 2, "brass": 2, "lead": 2, "saxophone": 1, "woodwind": 1},
            "pad": {"strings": 5, "pad": 1},
        },
        forms={SONG: 1, RIFF_SONG: 1},
        neighbours=("pop", "hiphop"),
    ),
    "hiphop": Genre(
        tempo=(93, 11),
        meters={"4/4": 1},
        minor=0.75,
        scales={
            "major": {"major pentatonic": 1, "mixolydian": 1},
            "minor": {"minor pentatonic": 2, "minor": 2, "dorian": 1, "phrygian": 1},
        },
        color={"plain": 2, "sevenths": 2},
        loops={
            "major": ("I IV", "I vi", "I bVII IV I"),
            "minor": ("i bVI", "i iv", "i i bVI V", "i bVII", "i"),
        },
        loop_share=1.0,
        swing=(0.0, 0.12),
        drums=1.0,
        beats={"boom bap": 5, "trap": 3, "funk": 1},
        bass={"syncopated": 3, "sub": 4},
        comp={"stabs": 3, "block": 2, "arpeggio": 2, "riff": 2},
        melody={"riff": 5, "phrased": 1},
        instruments={
            "bass": {"synth bass": 4, "electric bass": 2},
            "comp": {"electric piano": 4, "piano": 3, "clean guitar": 1, "keyboard": 1},
            "melody": {"lead": 3, "mallets": 2, "strings": 1, "woodwind": 1, "saxophone": 1},
            "pad": {"pad": 2, "strings": 2, "choir": 1},
        },
        forms={"intro verse chorus verse chorus verse chorus outro": 1},
        neighbours=("pop", "disco", "reggae", "jazz"),
    ),
    "jazz": Genre(
        tempo=(136, 34),
        meters={"4/4": 7, "3/4": 3},
        minor=0.38,
        scales={
            "major": {"major": 2, "mixolydian": 1},
            "minor": {"dorian": 2, "harmonic minor": 1},
        },
        color={"sevenths": 1},
        loops={
            "major": (
                "Imaj7 vi7 ii7 V7",
                "Imaj7 VI7 ii7 V7 Imaj7/vi7 ii7/V7 Imaj7 V7",
                "ii7 V7 Imaj7 Imaj7",
                "Imaj7 #io7 ii7 V7",
                BLUES_12,
            ),
            "minor": ("i7 iih7 V7 i7", "i7 iv7 iih7 V7", "i7 bVI7 V7 i7", BLUES_MINOR),
        },
        loop_share=0.85,
        swing=(0.1, 0.17),
        drums=0.8,
        beats={"swing ride": 6, "bossa": 2, "sparse": 1},
        bass={"walking": 6, "root fifth": 2},
        comp={"charleston": 5, "stabs": 1, "block": 1},
        melody={"bebop": 4, "phrased": 2, "lyrical": 1},
        instruments={
            "bass": {"acoustic bass": 6, "electric bass": 1},
            "comp": {"piano": 5, "clean guitar": 3, "electric piano": 2, "organ": 1},
            "melody": {"saxophone": 5, "trumpet": 3, "mallets": 1, "woodwind": 1, "piano": 1},
            "pad": {"brass": 1, "strings": 1},
        },
        forms={HEADS: 2, "verse verse verse verse outro": 1},
        neighbours=("blues", "classical", "hiphop"),
    ),
    "metal": Genre(
        tempo=(142, 24),
        meters={"4/4": 8, "6/8": 2},
        minor=0.92,
        scales={
            "major": {"mixolydian": 1},
            "minor": {"minor": 2, "phrygian": 2, "harmonic minor": 1},
        },
        color={"power": 1},
        loops={
            "major": ("I bVII IV I",),
            "minor": ("i bVI bVII i", "i bII i bVII", "i i bVI V", "i bIII bVII bVI", "i i i bII"),
        },
        loop_share=0.95,
        swing=(0.0, 0.0),
        drums=1.0,
        beats={"metal": 6, "rock": 2},
        bass={"eighths": 3, "gallop": 4, "roots": 1},
        comp={"gallop": 4, "chug": 5, "power": 1},
        melody={"riff": 3, "running": 3},
        instruments={
            "bass": {"electric bass": 1},
            "comp": {"distorted guitar": 1},
            "melody": {"distorted guitar": 5, "lead": 1, "strings": 1},
            "pad": {"choir": 1, "strings": 1, "pad": 1},
        },
        forms={RIFF_SONG: 2, SONG: 1},
        neighbours=("rock",),
    ),
    "pop": Genre(
        tempo=(110, 18),
        meters={"4/4": 9, "6/8": 1},
        minor=0.35,
        scales={
            "major": {"major": 2, "major pentatonic": 2},
            "minor": {"minor": 2, "minor pentatonic": 2},
        },
        color={"plain": 4, "sevenths": 1},
        loops={
            "major": ("I V vi IV", "vi IV I V", "I vi IV V", "IV I V vi", "I iii IV V"),
            "minor": ("i bVI bIII bVII", "i bVII bVI bVII", "i iv bVI bVII", "bVI bVII i i"),
        },
        loop_share=0.85,
        swing=(0.0, 0.03),
        drums=0.95,
        beats={"backbeat": 4, "four on the floor": 3, "trap": 1, "rock": 1},
        bass={"eighths": 2, "roots": 3, "syncopated": 3, "octaves": 1},
        comp={"block": 2, "arpeggio": 2, "strum": 2, "stabs": 2, "quarters": 1},
        melody={"phrased": 4, "lyrical": 2, "riff": 1},
        instruments={
            "bass": {"electric bass": 2, "synth bass": 3},
            "comp": {"piano": 3, "acoustic guitar": 2, "electric piano": 2, "clean guitar": 2},
            "melody": {"lead": 3, "piano": 1, "choir": 1, "woodwind": 1, "mallets": 1},
            "pad": {"pad": 4, "strings": 2},
        },
        forms={SONG: 3, "verse chorus verse chorus bridge chorus chorus": 1},
        neighbours=("disco", "rock", "hiphop", "country"),
    ),
    "reggae": Genre(
        tempo=(80, 11),
        meters={"4/4": 1},
        minor=0.4,
        scales={
            "major": {"major": 1, "major pentatonic": 1, "mixolydian": 1},
            "minor": {"minor": 2, "minor pentatonic": 1, "dorian": 1},
        },
        color={"plain": 3, "sevenths": 1},
        loops={
            "major": ("I IV", "I V IV V", "I ii", "I vi ii V", "I IV V IV"),
            "minor": ("i iv", "i bVII", "i bVI bVII i", "i iv bVII i"),
        },
        loop_share=0.95,
        swing=(0.0, 0.1),
        drums=1.0,
        beats={"one drop": 6, "rockers": 2},
        bass={"dub": 6, "syncopated": 1},
        comp={"skank": 8, "offbeat": 1},
        melody={"phrased": 3, "riff": 1, "lyrical": 1},
        instruments={
            "bass": {"electric bass": 4, "synth bass": 1},
            "comp": {"clean guitar": 4, "organ": 2, "piano": 2},
            "melody": {"brass": 2, "trumpet": 1, "saxophone": 2, "harmonica": 1, "lead": 1},
            "pad": {"organ": 3, "pad": 1},
        },
        forms={SONG: 1, "intro verse chorus verse chorus verse outro": 1},
        neighbours=("hiphop", "pop", "disco"),
    ),
    "rock": Genre(
        tempo=(122, 20),
        meters={"4/4": 9, "6/8": 1},
        minor=0.4,
        scales={
            "major": {"mixolydian": 2, "major": 1, "major pentatonic": 1},
            "minor": {"minor pentatonic": 2, "minor": 1, "dorian": 1},
        },
        color={"power": 2, "plain": 2},
        loops={
            "major": ("I bVII IV I", "I IV V IV", "I V IV IV", "I bIII IV I", "I vi IV V"),
            "minor": ("i bVII bVI bVII", "i bIII bVII iv", "i bVI bVII i", "i iv i bVII"),
        },
        loop_share=0.85,
        swing=(0.0, 0.04),
        drums=1.0,
        beats={"rock": 5, "backbeat": 3, "metal": 1},
        bass={"eighths": 5, "roots": 2, "root fifth": 1},
        comp={"power": 3, "strum": 3, "chug": 2, "riff": 1},
        melody={"phrased": 3, "riff": 2, "running": 1},
        instruments={
            "bass": {"electric bass": 1},
            "comp": {"distorted guitar": 4, "clean guitar": 3, "acoustic guitar": 1, "organ": 1},
            "melody": {"distorted guitar": 3, "clean guitar": 2, "lead": 1, "piano": 1},
            "pad": {"organ": 2, "strings": 1},
        },
        forms={SONG: 2, RIFF_SONG: 1},
        neighbours=("metal", "blues", "country", "pop"),
    ),
}

BORROWED = 0.2  # how often an artist takes one way of playing from a neighbour


@dataclass(frozen=True)
class Artist:
    """A latent style: what all pieces of one artist share.

    `programs` holds up to two programs a role; `ways` the preferred way of playing of each part;
    the rest biases what the genre draws and colours the mix.

    Arguments
    ---------
    name, genre : str
        The genre is a key of `GENRES`.
    tempo, tempo_spread : float
        Mean and standard deviation of its pieces in beats per minute.
    minor : float
        Share of its pieces.
    color : str
        What `Chord.colored` makes of its chords.
    swing : float
        How late an off-beat comes, as a share of the beat.
    programs, ways : dict
        As above.
    tightness : float
        Standard deviation of the notes' beginnings in seconds.
    legato : float
        Share of its length that a note is held.
    tilt, cutoff : float
        Of the spectrum, dB and Hz, as `mix.colour` takes them.
    reverb : float
        0 to 1.
    drive : float
        How far into saturation the mix is driven; 0 is not at all.
    noise : float
        dB against the music.
    levels : dict
        Role -> dB.

    Example
    -------
    >>> artist = make_artist("a1", "jazz", np.random.default_rng(0))
    >>> artist.name, {role: len(programs) for role, programs in artist.programs.items()}
    ('a1', {'bass': 2, 'comp': 2, 'melody': 2, 'pad': 2})
    >>> sorted(artist.ways), 0.55 <= artist.legato <= 1
    (['bass', 'beats', 'comp', 'melody'], True)
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
    """The programs of a pool that a replica may play.

    Arguments
    ---------
    pool : str
        A key of `POOLS`.
    held_out : bool
        Whether those that training replicas never play are allowed.

    Returns
    -------
    tuple of int

    Example
    -------
    >>> programs_of("piano", held_out=False), programs_of("piano", held_out=True)
    ((0, 1, 3), (0, 1, 3, 2))
    """
    known, others = POOLS[pool]
    return known + others if held_out else known


def make_artist(name, genre, rng, held_out=False):
    """Draws an artist of a genre.

    Arguments
    ---------
    name : str
        Its name in manifests and truth.
    genre : str
        A key of `GENRES`.
    rng : numpy.random.Generator
        Decides everything.
    held_out : bool
        Whether the programs that training replicas never play are allowed.

    Example
    -------
    >>> artist = make_artist("a1", "jazz", np.random.default_rng(0))
    >>> artist.genre, sorted(artist.programs)
    ('jazz', ['bass', 'comp', 'melody', 'pad'])
    """
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
