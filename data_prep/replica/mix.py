"""Parts -> one finished wave: balanced, coloured as the artist's records are, level set."""

import numpy as np
from scipy import signal

from speechbrain_music.data_prep.replica.synth import RATE, render

LOUDEST, SOFTEST = -14.0, -26.0  # dBFS RMS of a finished track, drawn apart from its genre
CEILING = 0.97  # no sample lies above
WET = {"drums": 0.4, "bass": 0.1, "comp": 1.0, "melody": 1.0, "pad": 1.0}  # shares of the reverb


def mix(piece, artist, rng, bank):
    """Renders a piece.

    Arguments
    ---------
    piece : Piece
        What is played.
    artist : Artist
        Balance and colour.
    rng : numpy.random.Generator
        Noise and level.
    bank : Bank
        From `load_bank`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz, within +-0.97; zeros only if the piece has no note.
    """
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
    wave = colour(wave, artist.tilt, artist.cutoff)
    wave += np.float32(gain(artist.noise)) * rng.standard_normal(len(wave), dtype=np.float32)
    wave *= np.float32(gain(rng.uniform(SOFTEST, LOUDEST)) / np.sqrt(np.mean(wave**2)))
    return np.float32(CEILING) * np.tanh(wave / np.float32(CEILING))


def gain(decibels):
    """The factor that so many decibels are."""
    return 10 ** (decibels / 20)


def active_rms(wave):
    """RMS over the frames of 50 ms that are not silent."""
    frames = wave[: len(wave) // 1200 * 1200].reshape(-1, 1200)
    power = np.mean(frames**2, axis=1)
    active = power > 1e-3 * power.max()
    return float(np.sqrt(power[active].mean())) if active.any() else 0.0


def colour(wave, tilt, cutoff):
    """Tilts the spectrum around 800 Hz by `tilt` dB, and cuts what lies above `cutoff` Hz."""
    low = signal.butter(1, 800, "low", fs=RATE, output="sos").astype(np.float32)
    bass = signal.sosfilt(low, wave).astype(np.float32)
    wave = np.float32(gain(-tilt / 2)) * bass + np.float32(gain(tilt / 2)) * (wave - bass)
    if cutoff < 11000:
        high = signal.butter(4, cutoff, "low", fs=RATE, output="sos").astype(np.float32)
        wave = signal.sosfilt(high, wave).astype(np.float32)
    return wave
