"""Music theory: keys, scales, chords, and a functional grammar of chord progressions.

A chord symbol is a Roman numeral against the major scale of the tonic, whatever the mode: `i` is
the minor tonic, `bVII` lies a whole tone below it, `V7` and `ii7` are seventh chords.
"""

import re
from dataclasses import dataclass

from speechbrain_music.data_prep.replica.draws import choose

TONICS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
MODES = ("major", "minor")
DEGREES = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
}
QUALITIES = {  # intervals in semitones above the root
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "dim": (0, 3, 6),
    "sus4": (0, 5, 7),
    "5": (0, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "hdim7": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
}
_SYMBOL = re.compile(r"(b|#)?([IV]+|[iv]+)(maj7|sus4|7|o7|o|h7|5)?")
_SUFFIXES = {  # suffix -> quality of an upper-case and of a lower-case numeral
    None: ("maj", "min"),
    "7": ("7", "min7"),
    "maj7": ("maj7", "maj7"),
    "sus4": ("sus4", "sus4"),
    "5": ("5", "5"),
    "o": ("dim", "dim"),
    "o7": ("dim7", "dim7"),
    "h7": ("hdim7", "hdim7"),
}
SEVENTHS = {"maj": "maj7", "min": "min7", "dim": "hdim7"}


@dataclass(frozen=True)
class Chord:
    """A chord: pitch class of its root, and its quality (a key of `QUALITIES`)."""

    root: int
    quality: str

    @classmethod
    def parse(cls, symbol, tonic):
        """Build the chord of a Roman numeral in the key of a tonic (pitch class)."""
        accidental, numeral, suffix = _SYMBOL.fullmatch(symbol).groups()
        shift = {None: 0, "b": -1, "#": 1}[accidental]
        quality = _SUFFIXES[suffix][numeral.islower()]
        return cls((tonic + DEGREES[numeral.upper()] + shift) % 12, quality)

    @property
    def pitch_classes(self):
        """Pitch classes, the root first."""
        return tuple((self.root + step) % 12 for step in QUALITIES[self.quality])

    @property
    def name(self):
        """Name in the syntax of Harte et al. (ISMIR 2005), as mir_eval reads it."""
        return f"{TONICS[self.root]}:{self.quality}"

    def colored(self, color):
        """Return the chord with a seventh (`sevenths`), as a power chord (`power`) or as it is."""
        if color == "sevenths":
            return Chord(self.root, SEVENTHS.get(self.quality, self.quality))
        if color == "power" and self.quality in ("maj", "min"):
            return Chord(self.root, "5")
        return self


# A functional grammar: from each chord, what may follow and how often.
GRAMMAR = {
    "major": {
        "I": {"IV": 4, "V": 3, "vi": 3, "ii": 2, "iii": 1},
        "ii": {"V": 6, "IV": 1, "viio": 1},
        "iii": {"vi": 4, "IV": 3, "ii": 1},
        "IV": {"V": 4, "I": 3, "ii": 2, "viio": 1},
        "V": {"I": 6, "vi": 3, "IV": 1},
        "vi": {"ii": 3, "IV": 4, "V": 2, "iii": 1},
        "viio": {"I": 5, "iii": 1},
    },
    "minor": {
        "i": {"iv": 4, "V": 3, "bVI": 3, "bVII": 2, "iio": 1, "bIII": 1},
        "iio": {"V": 6, "iv": 1},
        "bIII": {"bVI": 3, "iv": 2, "bVII": 2},
        "iv": {"V": 4, "i": 3, "bVII": 2, "iio": 1},
        "V": {"i": 6, "bVI": 3},
        "bVI": {"bIII": 2, "iv": 3, "bVII": 3, "V": 2},
        "bVII": {"bIII": 4, "i": 3},
    },
}


def phrase(rng, mode, length):
    """Write `length` chord symbols by the grammar, from the tonic to a cadence if 4 or more."""
    tonic = "I" if mode == "major" else "i"
    symbols = [tonic]
    while len(symbols) < length:
        symbols.append(choose(rng, GRAMMAR[mode][symbols[-1]]))
    if length >= 4:
        # Half of the phrases close, the others stay open on the dominant.
        symbols[-2:] = (
            ["V", tonic]
            if rng.random() < 0.5
            else [choose(rng, {"IV": 1, "ii": 1}) if mode == "major" else "iv", "V"]
        )
    return symbols
