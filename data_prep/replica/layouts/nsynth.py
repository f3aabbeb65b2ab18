"""NSynth: `nsynth-train/audio/guitar_acoustic_010-066-100.wav`, 16 kHz, and examples.json.

An instrument is a General MIDI program with a colour of its own; the training set plays programs
that the other two never play. Families are equally frequent; they, velocities and lengths (4 s, of
which 3 s are held) are those of Engel et al. (ICML 2017).
"""

import json
import logging
from itertools import product

import numpy as np

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.replica import mix, synth
from speechbrain_music.data_prep.replica.draws import FIRST, PLAN, STYLE, keyed, read_yaml
from speechbrain_music.data_prep.replica.trees import Tree, published

logger = logging.getLogger(__name__)

PARTS = len(SPLITS)
NOTES = 300  # per instrument, at most: about 1,000 instruments, as in the original
LEVELS = (-34, -26)  # dBFS RMS
SOURCES = ("acoustic", "electronic", "synthetic")
HELD, SECONDS = 3.0, 4.0
VELOCITIES = (25, 50, 75, 100, 127)

# Family -> known programs, held-out programs, lowest and highest pitch.
FAMILIES = read_yaml("programs.yaml")["families"]


def plan(scale, seed):
    """The tree at a share of the published counts; one note per family and split or more."""
    counts = published("nsynth", scale, least=len(FAMILIES))
    bank = synth.load_bank()
    able = {(f, h): playable(bank, f, h) for f in FAMILIES for h in (False, True)}
    if not bank.loudness:
        logger.info("looking for notes that the sound bank lacks, in less than two minutes")
        for programs in able.values():
            programs |= {p: synth.audible(p, programs[p], bank) for p in programs}
    texts, sounds = {}, []
    for part, (split, count) in enumerate(counts.items()):
        lines = []
        for record, key in _notes(seed, part, count, able):
            name = record["note_str"]
            lines.append(f'\n    "{name}": {json.dumps(record)}')
            sounds.append((f"nsynth-{split}/audio/{name}.wav", key))
        texts[f"nsynth-{split}/examples.json"] = f"{{{','.join(lines)}\n}}\n"
    folders = tuple(f"nsynth-{split}/audio" for split in counts)
    return Tree({"published": counts}, texts, sounds, render, 16000, folders=folders)


def _notes(seed, part, count, able):
    """Yield the record of each note of a split in examples.json, and its arguments of `render`."""
    index = 0
    for which, family in enumerate(FAMILIES):
        programs = able[family, part > 0]
        rng = keyed(seed, PLAN, part, which)
        left, number = len(range(which, count, len(FAMILIES))), 0
        while left:
            program = list(programs)[number % len(programs)]
            # Validation and test share programs, not instruments.
            instrument = PARTS * (len(FAMILIES) * number + which) + part
            source = number % len(SOURCES)
            name = f"{family}_{SOURCES[source]}_{instrument:03d}"
            range_ = list(product(programs[program], VELOCITIES))
            most = max(1, min(left, NOTES, left // 3))
            chosen = rng.permutation(len(range_))[:most]
            for pitch, velocity in (range_[place] for place in sorted(chosen)):
                record = {
                    "qualities": [0] * 10,
                    "pitch": pitch,
                    "note": 100000 + (7919 * index) % 400009,
                    "instrument_source_str": SOURCES[source],
                    "velocity": velocity,
                    "instrument_str": name,
                    "instrument": instrument,
                    "sample_rate": 16000,
                    "qualities_str": [],
                    "instrument_source": source,
                    "note_str": f"{name}-{pitch:03d}-{velocity:03d}",
                    "instrument_family": which,
                    "instrument_family_str": family,
                }
                yield record, (seed, family, instrument, program, pitch, velocity)
                index += 1
            left, number = left - len(chosen), number + 1


def render(seed, family, instrument, program, pitch, velocity):
    """A note of 4 s in the instrument's colour, its level that of the whole note."""
    rng = keyed(seed, PLAN, instrument, pitch, velocity, FIRST)
    wave = make_note(rng, synth.load_bank(), program, pitch, velocity)
    own = keyed(seed, STYLE, instrument)
    wave = mix.filter_spectrum(wave, own.normal(0, 3), own.uniform(4000, 12000))
    return mix.add_noise_floor(mix.scale_to(mix.gain(rng.uniform(*LEVELS)), wave), rng)


def playable(bank, family, held_out=False):
    """Program -> pitches in range and in tune, of a family's known or of its held-out programs."""
    *programs, (low, high) = FAMILIES[family]
    return {
        program: [pitch for pitch in range(low, high + 1) if bank.plays(program, pitch)]
        for program in programs[held_out]
    }


def make_note(rng, bank, program, pitch, velocity):
    """Render a note of 4 s: (96000,) float32 at 24 kHz within +-0.97."""
    notes = np.array([(0.0, HELD, pitch, velocity)], synth.NOTE)
    wave = synth.render([(program, notes, 10.0, rng.uniform(0, 0.3))], SECONDS, bank)
    return mix.set_level(wave, rng)
