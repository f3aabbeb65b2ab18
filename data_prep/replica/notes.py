"""Single notes like those of NSynth: 4 s, of which 3 s are held, labelled by family and pitch.

Families, velocities and lengths are those of Engel et al. (ICML 2017); the sound bank plays them.
The programs that training corpora never play (`programs.yaml`) are held out here too.
"""

import numpy as np

from speechbrain_music.data_prep.replica.draws import read_yaml
from speechbrain_music.data_prep.replica.mix import set_level
from speechbrain_music.data_prep.replica.synth import NOTE, render

HELD, SECONDS = 3.0, 4.0
VELOCITIES = (25, 50, 75, 100, 127)

# Family -> known programs, held-out programs, lowest and highest pitch.
FAMILIES = read_yaml("programs.yaml")["families"]


def playable(bank, family, held_out=False):
    """Program -> pitches in range and in tune, of a family's known or of its held-out programs."""
    *programs, (low, high) = FAMILIES[family]
    return {
        program: [pitch for pitch in range(low, high + 1) if bank.plays(program, pitch)]
        for program in programs[held_out]
    }


def make_note(rng, bank, program, pitch, velocity):
    """Render a note of 4 s: (96000,) float32 at 24 kHz within +-0.97."""
    notes = np.array([(0.0, HELD, pitch, velocity)], NOTE)
    wave = render([(program, notes, 10.0, rng.uniform(0, 0.3))], SECONDS, bank)
    return set_level(wave, rng)
