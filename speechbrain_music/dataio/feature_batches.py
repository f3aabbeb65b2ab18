"""Batches of cached features for probes of several seeds, each in an order of its own."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from speechbrain_music.nnet.probes import dropout_masks

AT_A_TIME = 2048  # chunks
FLOOR = 1e-3  # of the mean variance: noise is not blown up without end
ORDER, DROPOUT = 20, 21  # what a key is for comes first in it (see `dataio.segments`)


class FeatureBatch(NamedTuple):
    """B chunks for each of S seeds.

    x (S, B, L, d) standardised features, targets (S, B, ...), tracks (B,) int64 (of the first
    seed), dropout (S, B, hidden) factors or None.
    """

    x: torch.Tensor
    targets: torch.Tensor
    tracks: torch.Tensor
    dropout: torch.Tensor

    def to(self, device):
        """The batch on a device."""
        return FeatureBatch(*(t if t is None else t.to(device) for t in self))


class FeatureSplit(NamedTuple):
    """The chunks of a split's M tracks.

    values (n, L, d) array, memory-mapped perhaps; rows (N,) which of them are the split's chunks;
    tracks (N,) int64 whose each chunk is; answers (M, ...) targets, names (M,) of the tracks.
    """

    values: np.ndarray
    rows: np.ndarray
    tracks: torch.Tensor
    answers: torch.Tensor
    names: list


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
    """
    mean = sum(part.sum(axis=0) for part in _parts(split)) / len(split.rows)
    squares = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(split))
    std = np.sqrt(squares / len(split.rows))
    return mean.astype(np.float32), np.where(std > 1e-8, std, 1.0).astype(np.float32)


class Spectrum(NamedTuple):
    """How standardised features vary, layer by layer.

    variance (L, d) ascending, directions (L, d, d), a direction a column; shrinkage (L,) in [0, 1],
    how much of it is the chance of few chunks (Ledoit and Wolf, 2004).
    """

    variance: np.ndarray
    directions: np.ndarray
    shrinkage: np.ndarray


def measure_spectrum(split, mean, std):
    """The `Spectrum` of a training split, standardised by its mean and std."""
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


class TrainingBatches(IterableDataset):
    """An epoch of a split, shuffled for each seed by (seed, epoch).

    Arguments
    ---------
    split : FeatureSplit
        Whose chunks are independent examples.
    batch_size : int
        Chunks of a batch; the last one of an epoch has what is left.
    seeds : sequence of int
        S of them.
    hidden, dropout : int, float
        Width and probability of the dropout factors; see `nnet.probes.dropout_masks`.
    """

    def __init__(self, split, batch_size, seeds, hidden, dropout):
        self.split, self.batch_size, self.seeds = split, batch_size, list(seeds)
        self.hidden, self.dropout = hidden, dropout
        self.start(1)

    def start(self, epoch, batch=0):
        """Sets the epoch of the next iteration, which begins with its first batch."""
        self.epoch = epoch

    def __len__(self):
        return -(-len(self.split.rows) // self.batch_size)

    def __iter__(self):
        split, count = self.split, len(self.split.rows)
        orders = [
            np.random.default_rng([ORDER, seed, self.epoch]).permutation(count)
            for seed in self.seeds
        ]
        noise = [np.random.default_rng([DROPOUT, seed, self.epoch]) for seed in self.seeds]
        for begin in range(0, count, self.batch_size):
            chosen = [order[begin : begin + self.batch_size] for order in orders]
            masks = [dropout_masks((len(chosen[0]), self.hidden), self.dropout, r) for r in noise]
            yield FeatureBatch(
                torch.from_numpy(np.stack([split.values[split.rows[c]] for c in chosen])),
                torch.stack([split.answers[split.tracks[c]] for c in chosen]),
                split.tracks[chosen[0]],
                torch.stack(masks),
            )


class EveryChunk(IterableDataset):
    """All chunks of a split in order, in batches that all probes see."""

    def __init__(self, split, batch_size=256):
        self.split, self.batch_size = split, batch_size

    def __len__(self):
        return -(-len(self.split.rows) // self.batch_size)

    def __iter__(self):
        split = self.split
        for begin in range(0, len(split.rows), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            values = torch.from_numpy(np.asarray(split.values[split.rows[part]]))
            tracks = split.tracks[part]
            yield FeatureBatch(
                values.unsqueeze(0), split.answers[tracks].unsqueeze(0), tracks, None
            )
