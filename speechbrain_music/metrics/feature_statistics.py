"""Statistics of the features of a training split, and their standardisation."""

import numpy as np
import torch

from speechbrain_music.nnet.normalization import Standardization

AT_A_TIME = 2048  # chunks
FLOOR = 1e-3  # of the mean variance: a limit on how much noise is amplified


def mean_and_std(values, rows):
    """Mean and deviation (L, d) float32 of `rows` of (n, L, d) features; a deviation of 0 is 1."""
    mean = sum(part.sum(axis=0) for part in _parts(values, rows)) / len(rows)
    squares = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(values, rows))
    std = np.sqrt(squares / len(rows))
    return mean.astype(np.float32), np.where(std > 1e-8, std, 1.0).astype(np.float32)


def whitening(values, rows, mean, std):
    """Symmetric (L, d, d) float32 matrices that decorrelate standardised dimensions (ZCA).

    `mean` and `std` (L, d) standardise the values. Their covariance is shrunk towards an even one
    (Ledoit and Wolf, 2004): directions that few chunks cannot tell from chance are left nearly as
    they are.
    """
    total, fourth = 0.0, 0.0
    for part in _parts(values, rows):
        scaled = ((part - mean) / std).transpose(1, 0, 2)
        total += scaled.transpose(0, 2, 1) @ scaled
        fourth += ((scaled**2).sum(axis=2) ** 2).sum(axis=1)
    count = len(rows)
    covariance = total / count
    squared = (covariance**2).sum(axis=(1, 2))
    level = np.trace(covariance, axis1=1, axis2=2) / covariance.shape[1]
    # The part of the covariance's distance from an even one that sampling alone explains.
    distance = squared - level**2 * covariance.shape[1]
    chance = (fourth / count - squared) / count
    shrinkage = np.divide(chance, distance, out=np.ones_like(chance), where=distance > 0)
    shrinkage = shrinkage.clip(0, 1)[:, None]
    variance, directions = np.linalg.eigh(covariance)
    variance = variance.clip(min=0)
    level = variance.mean(axis=1, keepdims=True)
    shrunk = (1 - shrinkage) * variance + shrinkage * level
    scaled = directions / np.sqrt(np.maximum(shrunk, FLOOR * level))[:, None]
    return (scaled @ directions.transpose(0, 2, 1)).astype(np.float32)


def make_standardizations(values, rows, kinds):
    """kind -> Standardization by a training split.

    kind: False leaves features as they are, "centre" subtracts the mean, True also scales each
    dimension, "whiten" also decorrelates them.
    """
    both = mean_and_std(values, rows)
    (mean, std), none, one = map(torch.from_numpy, both), torch.zeros(()), torch.ones(())
    scales = {False: (none, one), "centre": (mean, one), True: (mean, std)}
    if "whiten" in kinds:
        scales["whiten"] = mean, std, torch.from_numpy(whitening(values, rows, *both))
    return {kind: Standardization(*scales[kind]) for kind in kinds}


def _parts(values, rows):
    """The rows' values, some thousand chunks at a time, as float64."""
    for begin in range(0, len(rows), AT_A_TIME):
        yield values[rows[begin : begin + AT_A_TIME]].astype(np.float64)
