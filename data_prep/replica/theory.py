"""Music theory: keys, scales, chords, and a functional grammar of chord progressions.

A chord symbol is a Roman numeral against the major scale of the tonic, whatever the mode: `i` is
the minor tonic, `bVII` lies a whole tone below it, `V7` and `ii7` are seventh chords, `I^1` has its
third in the bass (`^2` the fifth, `^3` the seventh), and at `N` there is no chord.
"""

import re
from dataclasses import dataclass, replace

from speechbrain_music.data_prep.giantsteps import TONICS
from speechbrain_music.data_prep.replica.draws import choose, read_yaml

MODES = ("major", "minor")
_SYMBOL = re.compile(r"(b|#)?([IV]+|[iv]+)(maj7|sus4|7|o7|o|h7|5)?(?:\^(\d))?")
_TABLES = read_yaml("theory.yaml")
SCALES, QUALITIES, INTERVALS, GRAMMAR, DEGREES, SUFFIXES, SEVENTHS = (
    _TABLES[key] for key in "scales qualities intervals grammar degrees suffixes sevenths".split()
)


@dataclass(frozen=True)
class Chord:
    """A chord: pitch class of its root, its quality (a key of `QUALITIES`), and its bass."""

    root: int
    quality: str
    bass: int = 0  # semitones above the root

    @classmethod
    def parse(cls, symbol, tonic):
        """Build the chord of a Roman numeral in the key of a tonic (pitch class)."""
        if symbol == "N":
            return cls(tonic, "N")
        accidental, numeral, suffix, inversion = _SYMBOL.fullmatch(symbol).groups()
        shift = {None: 0, "b": -1, "#": 1}[accidental]
        quality = SUFFIXES[suffix or "none"][numeral.islower()]
        bass = QUALITIES[quality][int(inversion or 0)]
        return cls((tonic + DEGREES[numeral.upper()] + shift) % 12, quality, bass)

    @property
    def pitch_classes(self):
        """Pitch classes, the root first."""
        return tuple((self.root + step) % 12 for step in QUALITIES[self.quality])

    @property
    def name(self):
        """Name in the syntax of Harte et al. (ISMIR 2005), as mir_eval reads it."""
        if self.quality == "N":
            return "N"
        slash = f"/{INTERVALS[self.bass]}" if self.bass else ""
        return f"{TONICS[self.root]}:{self.quality}{slash}"

    def colored(self, color):
        """Return the chord with a seventh (`sevenths`), as a power chord (`power`) or as it is."""
        if color == "sevenths":
            return replace(self, quality=SEVENTHS.get(self.quality, self.quality))
        if color == "power" and self.quality in ("maj", "min") and not self.bass:
            return Chord(self.root, "5")
        return self


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
