"""Notes -> audio with a General MIDI sound bank.

pretty_midi writes the notes as MIDI and midirenderer (RustySynth) plays them. symusic's own
synthesiser is faster, but plays many programs of this bank out of tune by several semitones
(https://github.com/Yikai-Liao/symusic/issues/55) and hangs on some notes.
"""

import hashlib
import importlib.util
import io
import json
from dataclasses import dataclass
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
VOLUME, REVERB = 7, 91  # MIDI controllers
NOTE = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "i1"), ("velocity", "i1")])  # seconds


class BankError(UserError):
    """A sound bank that cannot be used. The message is one sentence with the remedy.

    Example
    -------
    >>> try:
    ...     load_bank("nowhere.sf2")
    ... except BankError as error:
    ...     print(error)
    nowhere.sf2 cannot be read (No such file or directory); give another --soundfont.
    """


@dataclass(frozen=True)
class Bank:
    """A sound bank: its file's content and SHA-256, and what `scan.py` found out about it.

    `unsafe` holds by program (or `DRUMS`) the pitches that are silent or out of tune, `loudness`
    the level of a program in dB; both are empty for a bank that was not scanned.

    Example
    -------
    >>> bank = load_bank()
    >>> sorted(bank.unsafe[8]), bank.plays(8, 25), bank.plays(8, 26)  # a celesta's lowest notes
    ([21, 22, 23, 24, 25], False, True)
    >>> bank.loudness[11] > bank.loudness[0]  # a vibraphone is louder than a piano
    True
    """

    content: bytes
    sha256: str
    unsafe: dict
    loudness: dict

    def plays(self, program, pitch):
        """Whether a note sounds, and sounds as it should.

        Example
        -------
        >>> load_bank().plays(0, 60), load_bank().plays(68, 24)  # an oboe has no such low C
        (True, False)
        """
        return LOWEST <= pitch <= HIGHEST and pitch not in self.unsafe.get(program, ())


@lru_cache
def load_bank(path=None):
    """Reads a sound bank.

    Arguments
    ---------
    path : str, optional
        An SF2 file; None takes TimGM6mb, which pretty_midi's package holds.

    Returns
    -------
    Bank

    Raises
    ------
    BankError
        If the file cannot be used or a package of the extra [replica] is missing.

    Example
    -------
    >>> load_bank().content[8:12], load_bank() is load_bank()  # a process reads it once
    (b'sfbk', True)
    """
    if not all(map(importlib.util.find_spec, ("midirenderer", "pretty_midi", "pebble"))):
        raise BankError(
            "Composed music needs packages that are not installed: "
            "pip install 'speechbrain-music[replica]'"
        )
    home = Path(importlib.util.find_spec("pretty_midi").origin).parent
    file = Path(path) if path else home / "TimGM6mb.sf2"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BankError(
            f"{file} cannot be read ({error.strerror}); give another --soundfont."
        ) from error
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise BankError(f"{file} is no SF2 sound bank; give another --soundfont.")
    sha256 = hashlib.sha256(content).hexdigest()
    table = json.loads(Path(__file__).with_name("bank.json").read_text(encoding="utf-8"))
    if table["sha256"] != sha256:
        return Bank(content, sha256, {}, {})
    unsafe = {int(program): frozenset(bad) for program, bad in table["unsafe"].items()}
    loudness = {int(program): level for program, level in table["loudness"].items()}
    return Bank(content, sha256, unsafe, loudness)


def render(parts, seconds, bank):
    """Renders parts together.

    Arguments
    ---------
    parts : iterable of (program, notes, gain, reverb)
        A General MIDI program, 0 to 127, or `DRUMS`; notes of dtype `NOTE`; the part's level in
        dB (programs of a scanned bank are equally loud at the same level; at most about 10);
        what goes to the reverberation, 0 to 1.
    seconds : float
        Length of the result: cut or filled with zeros.
    bank : Bank
        From `load_bank`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at `RATE`, not normalised.

    Raises
    ------
    BankError
        If the bank's content is damaged.

    Example
    -------
    >>> note = np.array([(0.0, 0.5, 69, 100)], NOTE)
    >>> wave = render([(0, note, 0.0, 0.3)], 1.0, load_bank())
    >>> wave.shape, bool(np.abs(wave).max() > 0.01)
    ((24000,), True)
    """
    import midirenderer
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=120)  # ticks of about 1 ms
    for program, notes, gain, reverb in parts:
        drums = program == DRUMS
        instrument = pretty_midi.Instrument(0 if drums else program, is_drum=drums)
        # The loudest program of the bank leaves room for what is louder still by 10 dB.
        level = gain - 10 - bank.loudness.get(program, 0)
        volume = min(127, max(1, round(127 * 10 ** (level / 40))))  # the amplitude goes as square
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
            raise BankError(f"The sound bank cannot be played ({error}); give another.") from error
        stereo, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
        mono = soxr.resample(stereo @ np.float32([0.5, 0.5]), rate, RATE)[: len(wave)]
        wave[: len(mono)] = mono
    return wave
