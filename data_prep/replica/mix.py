"""Mixing and levels: render parts, colour and saturate them, set the level, add noise."""

import numpy as np
from scipy import signal

from speechbrain_music.data_prep.replica.synth import RATE, render

LOUDEST, SOFTEST = -14.0, -26.0  # dBFS RMS of a track, drawn independently of its genre
NOTE_LOUDEST, NOTE_SOFTEST = -16.0, -36.0  # dBFS RMS of the loudest 50 ms of a note or a voice
NOISE_FLOOR = (-56, -52)  # dBFS RMS of the noise in a replica's files
CEILING = 0.97  # largest sample
FRAME = 1200  # samples, 50 ms
WET = {"drums": 0.4, "bass": 0.1, "comp": 1.0, "melody": 1.0, "pad": 1.0}  # shares of the reverb


def mix(piece, artist, rng, bank):
    """Render a piece with an artist's balance and colour: (samples,) float32 within +-0.97."""
    parts = [
        (part.program, part.notes, artist.levels[part.role], artist.reverb * WET[part.role])
        for part in piece.parts
    ]
    wave = render(parts, piece.seconds, bank)
    level = active_rms(wave)
    if level == 0:
        return wave
    wave /= np.float32(level)
    if artist.drive:
        wave = np.tanh(artist.drive * wave) / np.float32(artist.drive)
    wave = filter_spectrum(wave, artist.tilt, artist.cutoff)
    wave += np.float32(gain(artist.noise)) * rng.standard_normal(len(wave), dtype=np.float32)
    return scale_to(gain(rng.uniform(SOFTEST, LOUDEST)), wave)


def gain(decibels):
    """Amplitude factor of a level in dB."""
    return 10 ** (decibels / 20)


def scale_to(level, wave):
    """Scale a wave to an RMS, softly saturated so that no sample exceeds `CEILING`."""
    wave = wave * np.float32(level / np.sqrt(np.mean(wave**2)))
    return np.float32(CEILING) * np.tanh(wave / np.float32(CEILING))


def active_rms(wave):
    """RMS over the frames of 50 ms that lie less than 30 dB below the loudest; 0 for silence."""
    power = _frame_power(wave)
    active = power > 1e-3 * power.max()
    return float(np.sqrt(power[active].mean())) if active.any() else 0.0


def loudest_rms(wave):
    """RMS of the loudest 50 ms."""
    return float(np.sqrt(_frame_power(wave).max()))


def _frame_power(wave):
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    return np.mean(frames**2, axis=1)


def filter_spectrum(wave, tilt, cutoff):
    """Tilt the spectrum around 800 Hz by `tilt` dB; cut what lies above `cutoff` Hz if < 11 kHz."""
    low = signal.butter(1, 800, "low", fs=RATE, output="sos").astype(np.float32)
    bass = signal.sosfilt(low, wave).astype(np.float32)
    wave = np.float32(gain(-tilt / 2)) * bass + np.float32(gain(tilt / 2)) * (wave - bass)
    if cutoff < 11000:
        high = signal.butter(4, cutoff, "low", fs=RATE, output="sos").astype(np.float32)
        wave = signal.sosfilt(high, wave).astype(np.float32)
    return wave


def set_level(wave, rng):
    """Add noise to a note or a voice and draw the level of its loudest 50 ms."""
    noise = gain(rng.uniform(-75, -50)) * loudest_rms(wave)
    wave = wave + np.float32(noise) * rng.standard_normal(len(wave), dtype=np.float32)
    factor = gain(rng.uniform(NOTE_SOFTEST, NOTE_LOUDEST)) / loudest_rms(wave)
    return wave * np.float32(min(factor, CEILING / np.abs(wave).max()))


def add_noise_floor(wave, rng):
    """Add noise to a replica's file: without it, silence in rests would reveal labels."""
    level = np.float32(gain(rng.uniform(*NOISE_FLOOR)))
    return wave + level * rng.standard_normal(len(wave), dtype=np.float32)
