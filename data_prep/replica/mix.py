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

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.compose import compose
    >>> from speechbrain_music.data_prep.replica.genres import make_artist
    >>> from speechbrain_music.data_prep.replica.synth import load_bank
    >>> rng, bank = np.random.default_rng(0), load_bank()
    >>> artist = make_artist("a1", "jazz", rng)
    >>> wave = mix(compose(artist, 1.0, rng, bank), artist, rng, bank)
    >>> wave.shape, wave.dtype, bool(0 < np.abs(wave).max() <= CEILING)
    ((24000,), dtype('float32'), True)
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
    """The factor that so many decibels are.

    Arguments
    ---------
    decibels : float
        Of amplitude.

    Returns
    -------
    float

    Example
    -------
    >>> gain(20), gain(0), round(gain(-6), 3)
    (10.0, 1.0, 0.501)
    """
    return 10 ** (decibels / 20)


def active_rms(wave):
    """RMS over the frames of 50 ms that are not silent.

    Arguments
    ---------
    wave : numpy.ndarray
        (samples,) at 24 kHz, at least 50 ms.

    Returns
    -------
    float
        0 if all is silent. Frames 30 dB or more under the loudest count as silent.

    Example
    -------
    >>> wave = np.repeat(np.float32([0.5, 0.0]), 12000)  # half of it is silent
    >>> active_rms(wave), round(float(np.sqrt(np.mean(wave**2))), 3)
    (0.5, 0.354)
    """
    frames = wave[: len(wave) // 1200 * 1200].reshape(-1, 1200)
    power = np.mean(frames**2, axis=1)
    active = power > 1e-3 * power.max()
    return float(np.sqrt(power[active].mean())) if active.any() else 0.0


def colour(wave, tilt, cutoff):
    """Tilts the spectrum around 800 Hz by `tilt` dB, and cuts what lies above `cutoff` Hz.

    Arguments
    ---------
    wave : numpy.ndarray
        (samples,) float32 at 24 kHz.
    tilt : float
        Half of it is taken from what lies below and given to what lies above; negative, the other
        way.
    cutoff : float
        From 11 kHz on nothing is cut.

    Returns
    -------
    numpy.ndarray
        (samples,) float32.

    Example
    -------
    >>> time = np.arange(RATE, dtype=np.float32) / RATE
    >>> low, high = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 6000 * time)
    >>> [round(20 * np.log10(colour(w, 6.0, 12000).std() / w.std())) for w in (low, high)]
    [-3, 3]
    >>> bool(colour(high, 0.0, 3000).std() < 0.1 * high.std())
    True
    """
    low = signal.butter(1, 800, "low", fs=RATE, output="sos").astype(np.float32)
    bass = signal.sosfilt(low, wave).astype(np.float32)
    wave = np.float32(gain(-tilt / 2)) * bass + np.float32(gain(tilt / 2)) * (wave - bass)
    if cutoff < 11000:
        high = signal.butter(4, cutoff, "low", fs=RATE, output="sos").astype(np.float32)
        wave = signal.sosfilt(high, wave).astype(np.float32)
    return wave
