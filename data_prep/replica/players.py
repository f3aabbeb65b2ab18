"""Ways of playing: drums, bass, chords and melodies as patterns on a grid of sixteenth notes.

A pattern is one bar of 4/4, a character a sixteenth: `.` holds the note before, `-` is silence,
anything else begins a note and says which. `fit` makes it one of 3/4 or 6/8.
"""

from dataclasses import dataclass

import numpy as np

from speechbrain_music.data_prep.replica.theory import QUALITIES


@dataclass(frozen=True)
class Meter:
    """A bar's beats and the sixteenths of a beat (six in a dotted quarter).

    Example
    -------
    >>> METERS["6/8"], METERS["6/8"].bar
    (Meter(beats=2, steps=6), 12)
    """

    beats: int
    steps: int

    @property
    def bar(self):
        """Sixteenths in a bar."""
        return self.beats * self.steps


METERS = {"4/4": Meter(4, 4), "3/4": Meter(3, 4), "6/8": Meter(2, 6)}

KICK, RIM, SNARE, CLAP, TOM, HAT, PEDAL, OPEN, CRASH, RIDE, TAMBOURINE, SHAKER = (
    36, 37, 38, 39, 45, 42, 44, 46, 49, 51, 54, 70,
)  # fmt: skip

# Accent `X`, plain `x`, ghost `o`, perhaps `?`. Several patterns of one drum are alternatives.
DRUM_PATTERNS = {
    "rock": {
        KICK: ("X.......X.x.....", "X.....x.X.x.....", "X.x.....X......."),
        SNARE: ("....X.......X...",),
        HAT: ("X.x.X.x.X.x.X.x.",),
    },
    "backbeat": {
        KICK: ("X.......X.......", "X.....x.X.......", "X......xX......."),
        SNARE: ("....X.......X...",),
        HAT: ("x.x.x.x.x.x.x.x.", "x...x...x...x..."),
        TAMBOURINE: ("................", "....o.......o..."),
    },
    "four on the floor": {
        KICK: ("X...X...X...X...",),
        SNARE: ("....X.......X...",),
        OPEN: ("--x---x---x---x-",),
        HAT: ("xx--xx--xx--xx--", "x---x---x---x---"),
    },
    "funk": {
        KICK: ("X..x..x...x..x..", "X.x....x..x....."),
        SNARE: ("....X..o.o..X..o", "....X..o....X..."),
        HAT: ("xoxoxoxoxoxoxoxo",),
    },
    "boom bap": {
        KICK: ("X......x..x.....", "X..x......x.....", "X.......x.x....."),
        SNARE: ("....X.......X...", "....X.......X..o"),
        HAT: ("x.x.x.x.x.x.x.x.", "x.x.x.xox.x.x.xo"),
    },
    "trap": {
        KICK: ("X.....x...x.....", "X.........x..x.."),
        CLAP: ("........X.......",),
        HAT: ("x.x.x.xxx.x.xxxx", "x.x.xxx.x.x.x.xx"),
    },
    "shuffle": {
        KICK: ("X.......X.......", "X...x...X...x..."),
        SNARE: ("....X.......X...",),
        HAT: ("x.x.x.x.x.x.x.x.",),
    },
    "swing ride": {
        RIDE: ("X...X.x.X...X.x.", "X...X.x.X.x.X.x."),
        PEDAL: ("----x-------x---",),
        KICK: ("o.....?...o...?.",),
        SNARE: ("..?....?.?....?.", "......?....?...."),
    },
    "bossa": {
        RIM: ("X..x..x...x..x..", "X..x..x...x.x..."),
        KICK: ("X..xX..xX..xX..x",),
        HAT: ("x.x.x.x.x.x.x.x.",),
    },
    "train": {
        SNARE: ("xoXoxoXoxoXoxoXo", "o.X.o.X.o.X.o.X."),
        KICK: ("X.......X.......", "X...X...X...X..."),
    },
    "metal": {
        KICK: ("XxXxXxXxXxXxXxXx", "X.xxX.xxX.xxX.xx", "XxXx....XxXx...."),
        SNARE: ("....X.......X...",),
        CRASH: ("X-------x-------",),
        RIDE: ("x...x...x...x...",),
    },
    "one drop": {
        KICK: ("........X.......",),
        RIM: ("........X.......",),
        HAT: ("x.x.x.x.x.x.x.x.", "x.xxx.x.x.xxx.x."),
    },
    "rockers": {
        KICK: ("X...X...X...X...",),
        RIM: ("........X.......",),
        HAT: ("x.x.x.x.x.x.x.x.",),
    },
    "sparse": {
        KICK: ("x.......o.......",),
        SHAKER: ("o...x...o...x...", "o.x.o.x.o.x.o.x."),
    },
}
WALTZ = {KICK: ("X...........",), SNARE: ("....o...o...",), HAT: ("x...x...x.x.", "x...x...x...")}
FILL = {SNARE: "x.x.", TOM: "--x."}  # the last beat before a new section

# r root, t third, f fifth, s sixth, b seventh, o octave, c any chord tone, n next to the next root.
BASS_PATTERNS = {
    "roots": ("r.......r.......", "r..............."),
    "quarters": ("r...r...r...r...",),
    "eighths": ("r.r.r.r.r.r.r.r.",),
    "root fifth": ("r...--..f...--..", "r.......f......."),
    "walking": ("r...c...c...n...", "r...c...f...n...", "r...t...f...n..."),
    "boogie": ("r.r.t.t.f.f.s.s.", "r...t...f...s.b.", "r.r.f.f.s.s.f.f."),
    "octaves": ("r.o.r.o.r.o.r.o.",),
    "syncopated": ("r..r..o...f.r...", "r.....rr..f...o.", "r..r..f---r-o---"),
    "gallop": ("r.rrr.rrr.rrr.rr",),
    "sub": ("r.........r.....", "r......r..r-----"),
    "dub": ("r-----r.f...o---", "----r.r.f...r---", "r...--f.o...f-r-"),
}
# x all voices, u the upper ones, a digit one voice from below.
COMP_PATTERNS = {
    "block": ("x...............", "x.......x......."),
    "quarters": ("x...x...x...x...",),
    "strum": ("x...x.u.--u.x.u.", "x...x.u.x.u.x.u.", "x.....u.x...x.u."),
    "offbeat": ("--x---x---x---x-",),
    "skank": ("----x-------x---", "----x-u-----x-u-"),
    "chug": ("x-x-x-x-x-x-x-x-", "x-x-x.x-x-x-x..."),
    "gallop": ("x-xxx-xxx-xxx-xx",),
    "power": (
        "x.......x.......",
        "x.....x...x.....",
        "x...............",
    ),
    "arpeggio": ("0.1.2.3.2.1.2.1.", "0.2.1.3.0.2.1.3.", "0123210123210121"),
    "alberti": ("0.2.1.2.0.2.1.2.",),
    "waltz": ("0...u...u...u...",),
    "boom chick": ("0---u---1---u---", "0---u-u-1---u-u-"),
    "charleston": ("x.....x---------", "--x.....x-------", "x-----------x.--"),
    "stabs": ("x--x--x---x--x--", "x-----x---x-----", "--x--x----x--x--"),
    "sixteenths": ("x-xx-xx-x-xx-xx-", "--xx--x---xx--x-"),
    "riff": ("0-0-2-0-1-0-3-2-", "0--2--1---3-2---"),
}
MELODY_PATTERNS = {
    "lyrical": ("n...n.n.n.......", "n.......n...n...", "n.....n.n...n...", "n...n...n......."),
    "phrased": ("n.n.n...--n.n.n.", "--n.n.n.n.....--", "n..n..n.n.n.----", "n...----n.n.n..."),
    "running": ("n.n.n.n.n.n.n.n.", "n.nnn.nnn.n.n...", "nnnnn.n.nnnnn.n."),
    "bebop": ("--n.n.n.n.n.n.n.", "n.n.n.n.n.n.--n.", "n...n.n.n.n.----", "n.nnn.n.--n.n.--"),
    "riff": ("n..n--n.n-n--n..", "n--n--n---n-n---", "n.n-n--n--n.n---"),
}
SPREAD = {"lyrical": 5, "phrased": 5, "running": 8, "bebop": 8, "riff": 4}  # semitones of contour
VELOCITIES = {"X": 112, "x": 92, "o": 58, "?": 58}


def fit(pattern, meter):
    """A 4/4 pattern in another meter: cut after three beats, or two beats with a lilt for 6/8.

    Example
    -------
    >>> fit("x.x.u.u.x.x.u.u.", METERS["3/4"]), fit("x.x.u.u.x.x.u.u.", METERS["6/8"])
    ('x.x.u.u.x.x.', 'x...x.u...u.')
    """
    if meter.steps == 4:
        return pattern[: meter.bar]
    lilted = ""
    for beat in range(meter.beats):
        a, b, c, d = pattern[4 * beat : 4 * beat + 4]
        lilted += a + ("-" if a == "-" else ".") + b + ("-" if b == "-" else ".") + c + d
    return lilted


def strokes(pattern):
    """(step, length, character) of each note of a pattern.

    Example
    -------
    >>> list(strokes("x..-u-"))
    [(0, 3, 'x'), (4, 1, 'u')]
    """
    begins = [i for i, c in enumerate(pattern) if c not in ".-"]
    for begin in begins:
        end = begin + 1
        while end < len(pattern) and pattern[end] == ".":
            end += 1
        yield begin, end - begin, pattern[begin]


def place(pitch_class, low):
    """The lowest pitch of a class that is not under `low`.

    Example
    -------
    >>> place(0, 28), place(4, 28)  # from the bass's low E on: a C and that E
    (36, 28)
    """
    return low + (pitch_class - low) % 12


class Drummer:
    """Plays one pattern of each drum; fills at the end of a section.

    Arguments
    ---------
    way : str
        A key of `DRUM_PATTERNS`; in 3/4 all but the swing ride play a waltz.
    meter : Meter
        One of `METERS`.
    rng : numpy.random.Generator
        Chooses among alternatives.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> notes = list(Drummer("rock", METERS["4/4"], rng).bar(rng, first=True, last=False))
    >>> [step for step, _, pitch, _ in notes if pitch == SNARE]
    [4, 12]
    >>> notes[-1] == (0, 1, CRASH, 100)
    True
    """

    def __init__(self, way, meter, rng):
        patterns = WALTZ if meter.beats == 3 and way != "swing ride" else DRUM_PATTERNS[way]
        self.meter = meter
        self.patterns = {
            drum: fit(alternatives[rng.integers(len(alternatives))], meter)
            for drum, alternatives in patterns.items()
        }

    def bar(self, rng, first, last):
        """(step, length, pitch, velocity) of one bar; `first` and `last` of a section."""
        fill = last and rng.random() < 0.7
        for drum, pattern in self.patterns.items():
            for step, _, kind in strokes(pattern):
                if kind == "?" and rng.random() < 0.5:
                    continue
                if fill and step >= self.meter.bar - self.meter.steps and drum != KICK:
                    continue
                yield step, 1, drum, VELOCITIES[kind]
        if fill:
            for drum, pattern in FILL.items():
                for step, _, _ in strokes(pattern):
                    yield self.meter.bar - self.meter.steps + step, 1, drum, 100
        if first:
            yield 0, 1, CRASH, 100


class Bassist:
    """Plays the chords' roots and what belongs to them, in one pattern a section.

    Arguments
    ---------
    way : str
        A key of `BASS_PATTERNS`.
    meter : Meter
        One of `METERS`.
    rng : numpy.random.Generator
        Chooses among alternatives.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.theory import Chord
    >>> rng, chord = np.random.default_rng(0), Chord.parse("I", tonic=0)
    >>> bassist = Bassist("octaves", METERS["3/4"], rng)
    >>> [pitch for _, _, pitch, _ in bassist.bar(rng, [(0, 12, chord)], following=chord)]
    [36, 48, 36, 48, 36, 48]
    """

    LOWEST = 28

    def __init__(self, way, meter, rng):
        alternatives = BASS_PATTERNS[way]
        self.pattern = fit(alternatives[rng.integers(len(alternatives))], meter)

    def bar(self, rng, chords, following):
        """Notes of a bar; `chords` is [(step, length, chord)], `following` the next bar's."""
        for step, length, kind in split(self.pattern, chords, "r"):
            chord, after = chord_at(chords, step, following)
            root = place(chord.root, self.LOWEST)
            intervals = QUALITIES[chord.quality]
            interval = {
                "r": 0,
                "o": 12,
                "t": intervals[1] if len(intervals) > 2 else 7,
                "f": intervals[2] if len(intervals) > 2 else 7,
                "s": 9,
                "b": 10,
                "c": int(rng.choice(intervals)),
            }.get(kind)
            if interval is None:  # leads to the next root from a semitone away
                pitch = place(after.root, self.LOWEST) + int(rng.choice((-1, 1)))
            else:
                pitch = root + interval
            yield step, length, pitch, 100 if step == 0 else 90


class Comper:
    """Plays chords, each voiced as near as possible to the one before.

    Arguments
    ---------
    way : str
        A key of `COMP_PATTERNS`.
    meter : Meter
        One of `METERS`.
    rng : numpy.random.Generator
        Chooses among alternatives.
    center : int
        MIDI pitch around which chords lie.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.theory import Chord
    >>> comper = Comper("block", METERS["4/4"], np.random.default_rng(0), center=62)
    >>> [comper.voicing(Chord.parse(symbol, tonic=0)) for symbol in ("I", "vi", "IV", "V")]
    [[60, 64, 67], [60, 64, 69], [60, 65, 69], [59, 62, 67]]
    """

    def __init__(self, way, meter, rng, center):
        alternatives = COMP_PATTERNS[way]
        self.pattern = fit(alternatives[rng.integers(len(alternatives))], meter)
        # Distorted fifths lie low, where a guitar plays them.
        self.center = center - 10 if way in ("chug", "gallop", "power") else center
        self.last = None

    def voicing(self, chord):
        """Pitches of a chord from below: the inversion nearest to the last one's middle."""
        middle = self.center if self.last is None else 0.5 * (self.center + np.mean(self.last))
        classes = chord.pitch_classes
        inversions = []
        for first in range(len(classes)):
            for low in (self.center - 10, self.center - 5):
                pitches = [place(classes[first], low)]
                for other in range(1, len(classes)):
                    turn = classes[(first + other) % len(classes)]
                    pitches.append(place(turn, pitches[-1] + 1))
                if len(classes) == 2:  # root, fifth, octave
                    pitches.append(pitches[0] + 12)
                inversions.append(pitches)
        self.last = min(inversions, key=lambda pitches: abs(np.mean(pitches) - middle))
        return self.last

    def bar(self, chords):
        """Notes of a bar."""
        voicings = {step: self.voicing(chord) for step, _, chord in chords}
        for step, length, kind in split(self.pattern, chords, "x"):
            voices = voicings[max(begin for begin in voicings if begin <= step)]
            if kind.isdigit():
                index = int(kind)
                voices = [voices[index % len(voices)] + 12 * (index // len(voices))]
            elif kind == "u":
                voices = voices[1:]
            for pitch in voices:
                yield step, length, pitch, 92 if step == 0 else 82


class Soloist:
    """Plays motifs: a rhythm and a contour, bent to each bar's chord and the scale.

    Arguments
    ---------
    way : str
        A key of `MELODY_PATTERNS`.
    meter : Meter
        One of `METERS`.
    rng : numpy.random.Generator
        Draws the motifs.
    center : int
        MIDI pitch around which they lie.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.theory import SCALES, Chord
    >>> rng, chord = np.random.default_rng(0), Chord.parse("I", tonic=0)
    >>> soloist = Soloist("lyrical", METERS["4/4"], rng, center=72)
    >>> bars = [
    ...     list(soloist.bar(rng, index, [(0, 16, chord)], set(SCALES["major"]), index == 3))
    ...     for index in range(4)
    ... ]
    >>> [note[:2] for note in bars[0]] == [note[:2] for note in bars[2]]  # a rhythm comes again
    True
    >>> [(step, length, pitch % 12 in chord.pitch_classes) for step, length, pitch, _ in bars[3]]
    [(0, 6, True)]
    """

    def __init__(self, way, meter, rng, center):
        self.meter, self.center, self.last = meter, center, center
        alternatives = MELODY_PATTERNS[way]
        self.motifs = []
        for _ in range(3):
            pattern = fit(alternatives[rng.integers(len(alternatives))], meter)
            count = len(list(strokes(pattern)))
            contour = np.cumsum(rng.normal(0, 1, count + 1))
            contour = (contour - contour.mean()) / max(1.0, np.abs(contour).max())
            self.motifs.append((pattern, SPREAD[way] * contour))

    def bar(self, rng, index, chords, scale, closes):
        """Notes of bar `index` of a section; `scale` is a set of pitch classes."""
        # Phrases of four bars: a b a c; the last bar of a section rests on its chord.
        pattern, contour = self.motifs[(0, 1, 0, 2)[index % 4]]
        if closes:
            pattern = fit("n.....----------", self.meter)
        for (step, held, _), height in zip(strokes(pattern), contour, strict=False):
            chord = chord_at(chords, step, None)[0]
            strong = step % self.meter.steps == 0
            allowed = set(chord.pitch_classes)
            if not strong:
                allowed |= scale
            target = self.center + height
            near = [p for p in range(int(target) - 7, int(target) + 8) if p % 12 in allowed]
            cost = [
                abs(p - target) + 0.4 * abs(p - self.last) + 1.5 * (p == self.last) for p in near
            ]
            self.last = near[int(np.argmin(cost + rng.random(len(cost))))]
            yield step, held, self.last, 104 if strong else 92


def split(pattern, chords, restrike):
    """Strokes of a pattern, cut where the chord changes and struck again there.

    Arguments
    ---------
    pattern : str
        As `fit` returns it.
    chords : list of (int, int, Chord)
        Step, length and chord, in their order.
    restrike : str
        The character of a note that is struck again; a digit remains.

    Yields
    ------
    (int, int, str)
        Step, length and character.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.theory import Chord
    >>> chords = [(0, 8, Chord(0, "maj")), (8, 8, Chord(7, "maj"))]
    >>> list(split("f...........f...", chords, "r"))
    [(0, 8, 'f'), (8, 4, 'r'), (12, 4, 'f')]
    """
    changes = [step for step, _, _ in chords[1:]]
    for step, length, kind in strokes(pattern):
        end = step + length
        for change in changes:
            if step < change < end:
                yield step, change - step, kind
                step, kind = change, kind if kind.isdigit() else restrike
        yield step, end - step, kind


def chord_at(chords, step, following):
    """The chord that sounds at a step, and the one after it.

    Arguments
    ---------
    chords : list of (int, int, Chord)
        Step, length and chord of a bar, in their order.
    step : int
        In that bar.
    following : Chord | None
        The next bar's.

    Returns
    -------
    (Chord, Chord | None)

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.theory import Chord
    >>> c, g, f = Chord(0, "maj"), Chord(7, "maj"), Chord(5, "maj")
    >>> [chord.name for chord in chord_at([(0, 8, c), (8, 8, g)], 10, following=f)]
    ['G:maj', 'F:maj']
    """
    index = max(i for i, (begin, _, _) in enumerate(chords) if begin <= step)
    after = chords[index + 1][2] if index + 1 < len(chords) else following
    return chords[index][2], after
