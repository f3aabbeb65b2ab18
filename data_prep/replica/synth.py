"""Render notes with a General MIDI sound bank.

pretty_midi writes the notes as MIDI and midirenderer (RustySynth) plays them. symusic's own
synthesiser is faster, but plays many programs of this bank out of tune by several semitones
(https://github.com/Yikai-Liao/symusic/issues/55) and hangs on some notes.
"""

import hashlib
import importlib.util
import io
import json
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.utils.errors import UserError

RATE = SAMPLE_RATE  # Hz
DRUMS = 128  # stands for the drum kit where a program number is expected
LOWEST, HIGHEST = 21, 108  # the piano's range
SOUNDFONT = "SBMUSIC_SOUNDFONT"
VOLUME, REVERB = 7, 91  # MIDI controllers
NOTE = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "i1"), ("velocity", "i1")])  # seconds


@dataclass(frozen=True)
class Bank:
    """A sound bank: its file's content and SHA-256, and what was measured of its notes.

    `unsafe` holds by program (or `DRUMS`) the pitches that are silent or out of tune, `loudness`
    the level of a program in dB; both are empty for a bank that was not scanned.
    """

    content: bytes
    sha256: str
    unsafe: dict
    loudness: dict

    def plays(self, program, pitch):
        """Whether a note is audible and in tune."""
        return LOWEST <= pitch <= HIGHEST and pitch not in self.unsafe.get(program, ())


def load_bank():
    """Read the sound bank, an SF2 file, once per process: pretty_midi's TimGM6mb.

    With the environment variable SBMUSIC_SOUNDFONT the same music, composed of the notes that
    TimGM6mb can play, is rendered with that bank. Raises a `UserError` if it cannot be used or a
    package of the extra [replica] is missing.
    """
    if not all(map(importlib.util.find_spec, ("midirenderer", "pretty_midi", "pebble"))):
        raise UserError(
            "Composed music needs packages that are not installed: pip install -e '.[replica]'"
        )
    bank = _load(Path(importlib.util.find_spec("pretty_midi").origin).with_name("TimGM6mb.sf2"))
    sounds = os.environ.get(SOUNDFONT)
    return replace(_load(Path(sounds)), unsafe=bank.unsafe) if sounds else bank


@lru_cache
def _load(file):
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); set {SOUNDFONT} to another file."
        ) from error
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise UserError(f"{file} is no SF2 sound bank; set {SOUNDFONT} to another file.")
    sha256 = hashlib.sha256(content).hexdigest()
    table = json.loads(Path(__file__).with_name("bank.json").read_text(encoding="utf-8"))
    if table["sha256"] != sha256:
        return Bank(content, sha256, {}, {})
    unsafe = {int(program): frozenset(bad) for program, bad in table["unsafe"].items()}
    loudness = {int(program): level for program, level in table["loudness"].items()}
    return Bank(content, sha256, unsafe, loudness)


def render(parts, seconds, bank):
    """Render parts together: (samples,) float32 at `RATE`, not normalised, of length `seconds`.

    A part is (program, notes, gain, reverb): a General MIDI program, 0 to 127, or `DRUMS`; notes of
    dtype `NOTE`; its level in dB, at most about 10 (programs of a scanned bank are equally loud at
    the same level); reverberation, 0 to 1.
    """
    import midirenderer
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=120)  # ticks of about 1 ms
    for program, notes, gain, reverb in parts:
        drums = program == DRUMS
        instrument = pretty_midi.Instrument(0 if drums else program, is_drum=drums)
        # Headroom of 10 dB above the loudest program of the bank.
        level = gain - 10 - bank.loudness.get(program, 0)
        volume = min(127, max(1, round(127 * 10 ** (level / 40))))  # amplitude is its square
        instrument.control_changes = [
            pretty_midi.ControlChange(VOLUME, volume, 0.0),
            pretty_midi.ControlChange(REVERB, round(127 * reverb), 0.0),
        ]
        instrument.notes = [
            pretty_midi.Note(int(note["velocity"]), int(note["pitch"]), note["start"], note["end"])
            for note in notes
        ]
        midi.instruments.append(instrument)
    wave = np.zeros(round(seconds * RATE), np.float32)
    if any(instrument.notes for instrument in midi.instruments):
        file = io.BytesIO()
        midi.write(file)
        try:
            sound = midirenderer.render_wave_from(bank.content, file.getvalue())
        except (ValueError, RuntimeError) as error:
            raise UserError(f"The sound bank cannot be played ({error}); give another.") from error
        stereo, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
        mono = soxr.resample(stereo @ np.float32([0.5, 0.5]), rate, RATE)[: len(wave)]
        wave[: len(mono)] = mono
    return wave


def audible(program, pitches, bank):
    """Those of some pitches that a program plays: another bank may lack some of its notes.

    Each must be louder than what is left of the one before, and than -40 dB of the loudest.
    """
    slot = 0.5  # seconds from note to note
    notes = [(slot * place, slot * place + 0.2, p, 100) for place, p in enumerate(pitches)]
    wave = render([(program, np.array(notes, NOTE), 0.0, 0.0)], slot * len(notes), bank)
    waves = np.abs(wave).reshape(len(notes), -1)
    peaks, left = waves.max(axis=1), waves[:, -RATE // 20 :].max(axis=1)
    if not peaks.any():
        text = f"The sound bank has no program {program}; set {SOUNDFONT} to another file."
        raise UserError(text)
    floor = np.maximum(0.01 * peaks.max(), 1.1 * np.append(0, left[:-1]))
    return [p for p, sounds in zip(pitches, peaks > floor, strict=True) if sounds]
