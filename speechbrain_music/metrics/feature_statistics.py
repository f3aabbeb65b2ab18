"""Statistics of the features of a training split, and their standardisation."""

from typing import NamedTuple

import numpy as np
import torch

from speechbrain_music.nnet.normalization import Standardization

AT_A_TIME = 2048  # chunks
FLOOR = 1e-3  # of the mean variance: a limit on how much noise is amplified


def mean_and_std(values, rows):
    """Mean and standard deviation of each dimension of each layer.

    Arguments
    ---------
    values : numpy.ndarray
        (n, L, d) features, perhaps memory-mapped.
    rows : numpy.ndarray
        (N,) the rows of the training split.

    Returns
    -------
    mean, std : numpy.ndarray
        (L, d) float32; a standard deviation of 0 becomes 1.

    Example
    -------
    >>> values = np.array([[[1.0, 5.0]], [[3.0, 5.0]]])  # two chunks, one layer, two dimensions
    >>> mean_and_std(values, np.arange(2))
    (array([[2., 5.]], dtype=float32), array([[1., 1.]], dtype=float32))
    """
    mean = sum(part.sum(axis=0) for part in _parts(values, rows)) / len(rows)
    squares = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(values, rows))
    std = np.sqrt(squares / len(rows))
    return mean.astype(np.float32), np.where(std > 1e-8, std, 1.0).astype(np.float32)


class Spectrum(NamedTuple):
    """Principal directions of standardised features, layer by layer."""

    variance: np.ndarray  # (L, d) ascending
    directions: np.ndarray  # (L, d, d), one per column
    shrinkage: np.ndarray  # (L,) in [0, 1], the share due to few chunks (Ledoit and Wolf, 2004)


def measure_spectrum(values, rows, mean, std):
    """The `Spectrum` of a training split, standardised by its mean and std (L, d).

    Example
    -------
    >>> line = np.linspace(-1, 1, 100).reshape(100, 1, 1).repeat(3, axis=2)
    >>> spectrum = measure_spectrum(line, np.arange(100), *mean_and_std(line, np.arange(100)))
    >>> spectrum.variance.round(3) + 0.0  # three dimensions that are one
    array([[0., 0., 3.]])
    """
    total, fourth = 0.0, 0.0
    for part in _parts(values, rows):
        scaled = ((part - mean) / std).transpose(1, 0, 2)
        total = total + scaled.transpose(0, 2, 1) @ scaled
        fourth = fourth + ((scaled**2).sum(axis=2) ** 2).sum(axis=1)
    count = len(rows)
    covariance = total / count
    squared = (covariance**2).sum(axis=(1, 2))
    level = np.trace(covariance, axis1=1, axis2=2) / covariance.shape[1]
    # The part of the covariance's distance from an even one that sampling alone explains.
    distance = squared - level**2 * covariance.shape[1]
    chance = (fourth / count - squared) / count
    shrinkage = np.divide(chance, distance, out=np.ones_like(chance), where=distance > 0)
    variance, directions = np.linalg.eigh(covariance)
    return Spectrum(variance.clip(min=0), directions, shrinkage.clip(0, 1))


def whitening(spectrum):
    """The matrices that decorrelate standardised dimensions with least change (ZCA).

    A trained encoder's features vary in few directions; scaling single dimensions leaves weak
    directions, such as pitch and timbre, weak. Directions that few chunks cannot tell from chance
    are left nearly as they are.

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
    """(L,) number of principal directions that hold this share of the variance.

    Example
    -------
    >>> directions_for(np.array([[1.0, 1.0, 8.0]]), 0.9)
    array([2])
    """
    held = np.cumsum(variance[:, ::-1], axis=1) / variance.sum(axis=1, keepdims=True)
    return (held < share - 1e-12).sum(axis=1) + 1


def make_standardization(values, rows, kind):
    """The module that standardises features by their training split.

    Arguments
    ---------
    values, rows
        As `mean_and_std`.
    kind : bool or str
        True for each dimension, "whiten" for uncorrelated ones, False for features as they are.

    Returns
    -------
    standardize : Standardization
        Of features (..., L, d).
    variance : numpy.ndarray
        (L, d) of the standardised features' principal directions.
    """
    mean, std = mean_and_std(values, rows)
    spectrum = measure_spectrum(values, rows, mean, std)
    if not kind:
        return Standardization(torch.zeros(()), torch.ones(())), spectrum.variance
    matrix = torch.from_numpy(whitening(spectrum)) if kind == "whiten" else None
    standardize = Standardization(torch.from_numpy(mean), torch.from_numpy(std), matrix)
    return standardize, spectrum.variance


def _parts(values, rows):
    """The rows' values, some thousand chunks at a time, as float64."""
    for begin in range(0, len(rows), AT_A_TIME):
        yield values[rows[begin : begin + AT_A_TIME]].astype(np.float64)
