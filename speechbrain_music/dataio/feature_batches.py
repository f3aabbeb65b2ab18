"""Batches of cached features for probes of several seeds, each in an order of its own."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from speechbrain_music.nnet.probes import dropout_masks

ORDER, DROPOUT = 20, 21  # what a key is for comes first in it (see `dataio.segments`)


class FeatureBatch(NamedTuple):
    """B chunks for each of S seeds.

    x (S, B, L, d) features as extracted, targets (S, B, ...), tracks (B,) int64 (of the first
    seed), dropout (S, B, hidden) factors or None.

    Example
    -------
    >>> tracks = torch.tensor([0, 0])
    >>> batch = FeatureBatch(torch.ones(1, 2, 3, 4), torch.ones(1, 2), tracks, None)
    >>> batch.to("meta").x.device.type, batch.to("meta").dropout is None
    ('meta', True)
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

    Example
    -------
    >>> values, answers = np.zeros((9, 13, 512)), torch.tensor([7, 8])
    >>> split = FeatureSplit(values, [2, 3, 8], torch.tensor([0, 0, 1]), answers, ["a", "b"])
    >>> split.values[split.rows].shape, split.answers[split.tracks]  # of each chunk
    ((3, 13, 512), tensor([7, 7, 8]))
    """

    values: np.ndarray
    rows: np.ndarray
    tracks: torch.Tensor
    answers: torch.Tensor
    names: list


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

    Example
    -------
    >>> values, chunks = np.arange(3.0).reshape(3, 1, 1), torch.arange(3)
    >>> split = FeatureSplit(values, chunks.numpy(), chunks, chunks, ["a", "b", "c"])
    >>> batches = list(TrainingBatches(split, batch_size=2, seeds=[0, 1], hidden=5, dropout=0.2))
    >>> batches[0].x.shape, batches[0].dropout.shape
    (torch.Size([2, 2, 1, 1]), torch.Size([2, 2, 5]))
    >>> torch.cat([batch.targets for batch in batches], dim=1).sort(dim=1).values  # of each seed
    tensor([[0, 1, 2],
            [0, 1, 2]])
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


class SequentialChunks(IterableDataset):
    """All chunks of a split in order, in batches that all probes see.

    Arguments
    ---------
    split : FeatureSplit
        N chunks.
    batch_size : int
        Chunks of a `FeatureBatch` with S = 1 and no dropout; the last one has what is left.

    Example
    -------
    >>> row = np.zeros(5, int)  # five chunks of one track, all of the same values
    >>> split = FeatureSplit(np.ones((1, 3, 4)), row, torch.tensor(row), torch.ones(1), ["a"])
    >>> [tuple(batch.x.shape) for batch in SequentialChunks(split, batch_size=4)]
    [(1, 4, 3, 4), (1, 1, 3, 4)]
    """

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
