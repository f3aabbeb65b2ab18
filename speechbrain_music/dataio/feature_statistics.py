"""How the features of a training split vary, and what evens it out for probes."""

from typing import NamedTuple

import numpy as np

AT_A_TIME = 2048  # chunks
FLOOR = 1e-3  # of the mean variance: noise is not blown up without end


def standardisation(split):
    """Mean and standard deviation of each dimension of each layer over a split's chunks.

    Arguments
    ---------
    split : FeatureSplit
        The training split.

    Returns
    -------
    mean, std : numpy.ndarray
        (L, d) float32; a standard deviation of 0 becomes 1.

    Example
    -------
    >>> from speechbrain_music.dataio.feature_batches import FeatureSplit
    >>> values = np.array([[[1.0, 5.0]], [[3.0, 5.0]]])  # two chunks, a layer, two dimensions
    >>> standardisation(FeatureSplit(values, np.arange(2), None, None, None))
    (array([[2., 5.]], dtype=float32), array([[1., 1.]], dtype=float32))
    """
    mean = sum(part.sum(axis=0) for part in _parts(split)) / len(split.rows)
    squares = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(split))
    std = np.sqrt(squares / len(split.rows))
    return mean.astype(np.float32), np.where(std > 1e-8, std, 1.0).astype(np.float32)


class Spectrum(NamedTuple):
    """How standardised features vary, layer by layer.

    variance (L, d) ascending, directions (L, d, d), a direction a column; shrinkage (L,) in [0, 1],
    how much of it is the chance of few chunks (Ledoit and Wolf, 2004).

    Example
    -------
    >>> spectrum = Spectrum(np.array([[1.0, 4.0]]), np.eye(2)[None], shrinkage=np.ones(1))
    >>> np.allclose(whitening(spectrum), np.eye(2) / np.sqrt(2.5))  # nothing but chance: even
    True
    """

    variance: np.ndarray
    directions: np.ndarray
    shrinkage: np.ndarray


def measure_spectrum(split, mean, std):
    """The `Spectrum` of a training split, standardised by its mean and std (L, d).

    Example
    -------
    >>> from speechbrain_music.dataio.feature_batches import FeatureSplit
    >>> line = np.linspace(-1, 1, 100).reshape(100, 1, 1).repeat(3, axis=2)
    >>> split = FeatureSplit(line, np.arange(100), None, None, None)
    >>> spectrum = measure_spectrum(split, *standardisation(split))
    >>> spectrum.variance.round(3) + 0.0  # three dimensions that are one
    array([[0., 0., 3.]])
    """
    total, fourth = 0.0, 0.0
    for part in _parts(split):
        scaled = ((part - mean) / std).transpose(1, 0, 2)
        total = total + scaled.transpose(0, 2, 1) @ scaled
        fourth = fourth + ((scaled**2).sum(axis=2) ** 2).sum(axis=1)
    count = len(split.rows)
    covariance = total / count
    squared = (covariance**2).sum(axis=(1, 2))
    level = np.trace(covariance, axis1=1, axis2=2) / covariance.shape[1]
    # Of the covariance's distance from an even one, what sampling alone explains.
    distance = squared - level**2 * covariance.shape[1]
    chance = (fourth / count - squared) / count
    shrinkage = np.divide(chance, distance, out=np.ones_like(chance), where=distance > 0)
    variance, directions = np.linalg.eigh(covariance)
    return Spectrum(variance.clip(min=0), directions, shrinkage.clip(0, 1))


def whitening(spectrum):
    """What makes standardised dimensions uncorrelated, with least change (ZCA).

    A trained encoder's features vary in few directions: what varies little, pitch and timbre
    among it, is drowned when only dimensions are scaled. Directions that few chunks cannot tell
    from chance are left nearly as they are.

    Returns (L, d, d) float32, symmetric.

    Example
    -------
    >>> turned = np.array([[[0.6, -0.8], [0.8, 0.6]]])
    >>> spectrum = Spectrum(np.array([[0.25, 4.0]]), turned, shrinkage=np.zeros(1))
    >>> covariance = (turned * spectrum.variance) @ turned.transpose(0, 2, 1)
    >>> np.allclose(whitening(spectrum) @ covariance @ whitening(spectrum), np.eye(2), atol=1e-6)
    True
    """
    variance, directions, shrinkage = spectrum
    level = variance.mean(axis=1, keepdims=True)
    shrunk = (1 - shrinkage[:, None]) * variance + shrinkage[:, None] * level
    scaled = directions / np.sqrt(np.maximum(shrunk, FLOOR * level))[:, None]
    return (scaled @ directions.transpose(0, 2, 1)).astype(np.float32)


def directions_for(variance, share):
    """(L,) how many directions hold this share of the variance.

    Example
    -------
    >>> directions_for(np.array([[1.0, 1.0, 8.0]]), 0.9)
    array([2])
    """
    held = np.cumsum(variance[:, ::-1], axis=1) / variance.sum(axis=1, keepdims=True)
    return (held < share - 1e-12).sum(axis=1) + 1


def _parts(split):
    """The split's values, some thousand chunks at a time, as float64."""
    for begin in range(0, len(split.rows), AT_A_TIME):
        yield split.values[split.rows[begin : begin + AT_A_TIME]].astype(np.float64)
