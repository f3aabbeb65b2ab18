"""Players of drums, bass, chords and melodies, who turn patterns into notes.

A pattern (`patterns.yaml`) is one bar of 4/4, one character per sixteenth: `.` holds the note
before, `-` is silence, anything else begins a note and says which. `fit` adapts it to 3/4 and 6/8.
"""

import re
from itertools import product
from typing import NamedTuple

import numpy as np

from speechbrain_music.data_prep.replica.draws import read_yaml
from speechbrain_music.data_prep.replica.theory import QUALITIES


class Meter(NamedTuple):
    """Beats of a bar, and sixteenths of a beat (six in a dotted quarter)."""

    beats: int
    steps: int

    @property
    def bar(self):
        """Sixteenths in a bar."""
        return self.beats * self.steps


METERS = {"4/4": Meter(4, 4), "3/4": Meter(3, 4), "6/8": Meter(2, 6)}

DRUM_PITCHES = read_yaml("programs.yaml")["drums"]
# Part -> name -> alternatives; for drums, name -> drum -> alternatives.
PATTERNS = read_yaml("patterns.yaml")
WALTZ, FILL = PATTERNS["waltz"], PATTERNS["fill"]
SPREAD = {"lyrical": 5, "phrased": 5, "running": 8, "bebop": 8, "riff": 4}  # semitones of contour
VELOCITIES = {"X": 112, "x": 92, "o": 58, "?": 58}


def fit(pattern, meter):
    """Adapt a 4/4 pattern: cut after three beats, or two beats stretched to 6/8."""
    if meter.steps == 4:
        return pattern[: meter.bar]
    lilted = ""
    for beat in range(meter.beats):
        a, b, c, d = pattern[4 * beat : 4 * beat + 4]
        lilted += a + ("-" if a == "-" else ".") + b + ("-" if b == "-" else ".") + c + d
    return lilted


def strokes(pattern):
    """Yield (step, length, character) of each note of a pattern."""
    for stroke in re.finditer(r"[^.-]\.*", pattern):
        yield stroke.start(), len(stroke[0]), stroke[0][0]


def place(pitch_class, low):
    """Return the lowest pitch of a pitch class that is not below `low`."""
    return low + (pitch_class - low) % 12


def draw_pattern(rng, alternatives, meter):
    """Draw one of some patterns, adapted to a meter."""
    return fit(alternatives[rng.integers(len(alternatives))], meter)


class Drummer:
    """Plays one pattern per drum (3/4: a waltz, except swing ride) and fills between sections."""

    def __init__(self, way, meter, rng):
        patterns = WALTZ if meter.beats == 3 and way != "swing ride" else PATTERNS["drums"][way]
        self.meter = meter
        self.patterns = {drum: draw_pattern(rng, patterns[drum], meter) for drum in patterns}

    def bar(self, rng, first, last):
        """Yield (step, length, pitch, velocity) of a bar, the `first` or `last` of its section."""
        fill = last and rng.random() < 0.7
        for drum, pattern in self.patterns.items():
            for step, _, kind in strokes(pattern):
                if kind == "?" and rng.random() < 0.5:
                    continue
                if fill and step >= self.meter.bar - self.meter.steps and drum != "kick":
                    continue
                yield step, 1, DRUM_PITCHES[drum], VELOCITIES[kind]
        if fill:
            for drum, pattern in FILL.items():
                for step, _, _ in strokes(pattern):
                    yield self.meter.bar - self.meter.steps + step, 1, DRUM_PITCHES[drum], 100
        if first:
            yield 0, 1, DRUM_PITCHES["crash"], 100


class Bassist:
    """Plays the chords' roots and related notes, in one pattern."""

    LOWEST = 28

    def __init__(self, way, meter, rng):
        self.pattern = draw_pattern(rng, PATTERNS["bass"][way], meter)

    def bar(self, rng, chords, following):
        """Yield the notes of a bar of (step, length, chord); `following` is the next chord."""
        for step, length, kind in split(self.pattern, chords, "r"):
            chord, after = chord_at(chords, step, following)
            root = place(chord.root, self.LOWEST) + chord.bass
            intervals = QUALITIES[chord.quality]
            third, fifth = intervals[1:3] if len(intervals) > 2 else (7, 7)
            steps = {"r": 0, "o": 12, "t": third, "f": fifth, "s": 9, "b": 10}
            steps["c"] = int(rng.choice(intervals))
            if kind not in steps:  # leads to the next root from a semitone away
                pitch = place(after.root, self.LOWEST) + int(rng.choice((-1, 1)))
            else:
                pitch = root + (steps[kind] if kind == "o" or not chord.bass else 0)
            yield step, length, pitch, 100 if step == 0 else 90


class Comper:
    """Plays chords around the MIDI pitch `center`, each voiced as near as possible to the last."""

    def __init__(self, way, meter, rng, center):
        self.pattern = draw_pattern(rng, PATTERNS["comp"][way], meter)
        # Distorted fifths lie low, where a guitar plays them.
        self.center = center - 10 if way in ("chug", "gallop", "power") else center
        self.last = None

    def voicing(self, chord):
        """Pitches of a chord from below: the inversion nearest to the last one's middle."""
        middle = self.center if self.last is None else 0.5 * (self.center + np.mean(self.last))
        classes = chord.pitch_classes
        inversions = []
        for first, low in product(range(len(classes)), (self.center - 10, self.center - 5)):
            pitches = [place(classes[first], low)]
            for above in classes[first + 1 :] + classes[:first]:
                pitches.append(place(above, pitches[-1] + 1))
            if len(classes) == 2:  # root, fifth, octave
                pitches.append(pitches[0] + 12)
            inversions.append(pitches)
        self.last = min(inversions, key=lambda pitches: abs(np.mean(pitches) - middle))
        return self.last

    def bar(self, chords):
        """Yield the notes of a bar of (step, length, chord)."""
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
    """Plays motifs around `center`: a rhythm and a contour, fitted to chords and scale."""

    def __init__(self, way, meter, rng, center):
        self.meter, self.center, self.last = meter, center, center
        self.motifs = []
        for _ in range(3):
            pattern = draw_pattern(rng, PATTERNS["melody"][way], meter)
            count = len(list(strokes(pattern)))
            contour = np.cumsum(rng.normal(0, 1, count + 1))
            contour = (contour - contour.mean()) / max(1.0, np.abs(contour).max())
            self.motifs.append((pattern, SPREAD[way] * contour))

    def bar(self, rng, index, chords, scale, closes):
        """Yield the notes of bar `index` of a section; `scale` is a set of pitch classes."""
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
    """Yield a pattern's strokes, cut where the chord changes and struck again as `restrike`.

    A digit stays the same character.
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
    """Return the chord at a step of a bar of (step, length, chord), and the one after it."""
    index = max(i for i, (begin, _, _) in enumerate(chords) if begin <= step)
    after = chords[index + 1][2] if index + 1 < len(chords) else following
    return chords[index][2], after
