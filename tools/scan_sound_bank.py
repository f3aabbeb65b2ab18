"""Find which notes a sound bank cannot play, and how loud its programs are.

python tools/scan_sound_bank.py

It writes data_prep/replica/bank.json for TimGM6mb: notes that are silent or out of tune are never
composed, and programs are brought to one loudness.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speechbrain_music.data_prep.replica.synth import (
    DRUMS,
    HIGHEST,
    LOWEST,
    NOTE,
    RATE,
    load_bank,
    render,
)
from speechbrain_music.utils.atomic import write_together

DRUM_PITCHES = range(35, 82)  # General MIDI's drum map
BANK = Path(__file__).parents[1] / "data_prep/replica/bank.json"
HELD, SLOT = 1.0, 1.5  # seconds a note lasts, and from one note to the next
AUDIBLE = 1e-3  # peak below which a note counts as silent
SEARCHED, IN_TUNE = 3.0, 0.45  # semitones around the right pitch; tolerance
MIDDLE = range(48, 73)  # pitches by which programs are compared in loudness
REFERENCE = -32.0  # dBFS RMS of a program whose `loudness` is 0


def _scan(program):
    """Return a program, its silent or mistuned pitches, and its level in dB."""
    pitches = list(DRUM_PITCHES if program == DRUMS else range(LOWEST, HIGHEST + 1))
    starts = SLOT * np.arange(len(pitches))
    notes = np.array([(t, t + HELD, p, 90) for t, p in zip(starts, pitches, strict=True)], NOTE)
    bank = load_bank()
    wave = render(
        [(program, notes, 10.0 + bank.loudness.get(program, 0), 0.0)], SLOT * len(pitches), bank
    )
    slots = wave.reshape(len(pitches), -1)[:, : round(HELD * RATE)]
    unsafe = [
        pitch
        for pitch, slot in zip(pitches, slots, strict=True)
        if np.abs(slot).max() < AUDIBLE
        or (program != DRUMS and abs(_mistuning(slot, pitch)) > IN_TUNE)
    ]
    middle = [slot for p, slot in zip(pitches, slots, strict=True) if p in MIDDLE]
    level = 10 * np.log10(np.mean(np.square(middle)) + 1e-12)
    return program, unsafe, round(float(level) - REFERENCE, 1)


def _mistuning(wave, pitch):
    """Semitones between a note's pitch and the comb of harmonics that fits its sound best."""
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), size))
    offsets = np.arange(-SEARCHED, SEARCHED + 0.01, 0.05)
    fundamentals = 440 * 2 ** ((pitch + offsets - 69) / 12)
    harmonics = np.arange(1, 11)
    bins = np.rint(np.outer(fundamentals, harmonics) * size / RATE).astype(int)
    heights = np.where(bins < len(spectrum), spectrum[np.minimum(bins, len(spectrum) - 1)], 0)
    return float(offsets[np.argmax(heights @ 0.85**harmonics)])


def main():
    """Scan all melodic programs and the drum kit."""
    programs = [*range(112), DRUMS]  # from 112 on, General MIDI has noises
    unsafe, loudness = {}, {}
    with ProcessPoolExecutor() as pool:
        for program, bad, level in tqdm(pool.map(_scan, programs), total=len(programs)):
            loudness[program] = level
            if bad:
                unsafe[program] = bad
    table = {"sha256": load_bank().sha256, "unsafe": unsafe, "loudness": loudness}
    text = json.dumps(table).replace("], ", "],\n") + "\n"
    write_together({BANK: text})
    print(f"{sum(map(len, unsafe.values()))} notes are silent or out of tune")


if __name__ == "__main__":
    main()
