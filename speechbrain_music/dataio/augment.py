"""Augmentation of crops (speed, level, timbre) for corpora of minutes, not hours."""

import numpy as np
import soxr

SPEED = 0.3  # at most, of the logarithm: 0.74 to 1.35 times, pitch and tempo together
LEVEL = (-12.0, 6.0)  # dB
TAPS, SPREAD = 3, 0.3  # of a filter after its first tap of 1: a few dB up or down, smooth


def draw_speed(rng):
    """A random playback speed with a uniform logarithm."""
    return float(np.exp(rng.uniform(-SPEED, SPEED)))


def augment_wave(wave, speed, rng):
    """Change a crop's speed (see `draw_speed`), level and timbre: (about n / speed,) float32.

    Example
    -------
    >>> wave = np.random.default_rng(0).standard_normal(24000, np.float32)
    >>> len(augment_wave(wave, 1.25, np.random.default_rng(0)))
    19200
    """
    wave = soxr.resample(wave, speed, 1.0)
    taps = np.concatenate([[1.0], rng.normal(0, SPREAD, TAPS)])
    taps *= 10 ** (rng.uniform(*LEVEL) / 20) / np.linalg.norm(taps)
    return np.convolve(wave, taps.astype(np.float32))[: len(wave)]
