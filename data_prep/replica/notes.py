"""Single notes like those of NSynth: 4 s, of which 3 s are held, labelled by family and pitch.

Families, velocities and lengths are those of Engel et al. (ICML 2017); the sound bank plays them.
The programs that training corpora never play (`genres.POOLS`) are held out here too.
"""

import numpy as np

from speechbrain_music.data_prep.replica.mix import set_level
from speechbrain_music.data_prep.replica.synth import HIGHEST, LOWEST, NOTE, render
from speechbrain_music.utils.errors import UserError

HELD, SECONDS = 3.0, 4.0
VELOCITIES = (25, 50, 75, 100, 127)

# Known General MIDI programs of a family, and held-out ones. Organs sound the octave below too, as
# stops of 16 feet do; celesta and glockenspiel have the partials of bars, which no series fits.
FAMILIES = {
    "bass": ((32, 33, 34, 35, 36, 38), (37, 39)),
    "brass": ((56, 58, 59, 61, 62, 63), (57, 60)),
    "flute": ((72, 73, 74), (75, 79)),
    "guitar": ((24, 25, 26, 27, 29, 30), (28, 106)),  # 31 sounds two octaves higher
    "keyboard": ((0, 1, 3, 4, 6, 7), (2, 5, 8)),
    "mallet": ((9, 10, 11, 12), (13, 15)),
    "organ": ((16, 18, 19), (17, 20)),
    "reed": ((22, 65, 66, 67, 68, 71), (64, 69, 70)),
    "string": ((40, 42, 48, 50, 51, 110), (41, 43, 49)),
    "synth_lead": ((80, 81, 84, 85), (82, 87)),
    "vocal": ((52, 54, 91), (53,)),
}
# Lowest and highest pitch. Ranges are wide and overlap: a pitch should not give its family away.
RANGES = {
    "bass": (24, 67),
    "brass": (36, 86),
    "flute": (53, 98),
    "guitar": (36, 90),
    "keyboard": (LOWEST, HIGHEST),
    "mallet": (45, HIGHEST),
    "organ": (30, 98),
    "reed": (36, 93),
    "string": (33, 98),
    "synth_lead": (33, 98),
    "vocal": (40, 86),
}


class NoteError(UserError):
    """A note that cannot be made; the message is one sentence with the remedy."""


def playable(bank, family, held_out=False):
    """Program -> pitches in range and in tune, of a family's known or of its held-out programs."""
    low, high = RANGES[family]
    programs = FAMILIES[family][bool(held_out)]
    return {p: [n for n in range(low, high + 1) if bank.plays(p, n)] for p in programs}


def make_note(rng, bank, family=None, held_out=False, pitch=None, velocity=None, program=None):
    """Render a note of 4 s; what is not given is drawn: family, then program, then pitch.

    With `held_out` the held-out programs play, instead of the known ones; `program` is one that
    plays the pitch in the family. Returns the wave, (96000,) float32 at 24 kHz within +-0.97, and a
    dict with `family`, `program`, `pitch` (MIDI) and `velocity`. Raises a `NoteError` for a family,
    pitch or velocity that does not exist.
    """
    if family not in (None, *FAMILIES):
        raise NoteError(f"family is {family!r}; choose one of {', '.join(FAMILIES)}.")
    if velocity not in (None, *VELOCITIES):
        allowed = ", ".join(map(str, VELOCITIES))
        raise NoteError(f"velocity is {velocity!r}; choose one of {allowed}.")
    if pitch is not None and pitch not in range(LOWEST, HIGHEST + 1):
        raise NoteError(f"pitch is {pitch!r}; choose a whole number from {LOWEST} to {HIGHEST}.")
    able = {}  # family -> program -> pitches
    for name in [family] if family else FAMILIES:
        programs = playable(bank, name, held_out)
        if pitch is not None:
            programs = {program: [pitch] for program in programs if pitch in programs[program]}
        if programs:
            able[name] = programs
    if not able:
        low, high = RANGES[family]
        raise NoteError(f"pitch is {pitch}, but {family} plays from {low} to {high}; choose there.")
    family = str(rng.choice(list(able)))
    program = int(rng.choice(list(able[family]) if program is None else [program]))
    pitch = int(rng.choice(able[family][program]))
    velocity = int(rng.choice(VELOCITIES) if velocity is None else velocity)
    notes = np.array([(0.0, HELD, pitch, velocity)], NOTE)
    wave = render([(program, notes, 10.0, rng.uniform(0, 0.3))], SECONDS, bank)
    truth = {"family": family, "program": program, "pitch": pitch, "velocity": velocity}
    return set_level(wave, rng), truth
