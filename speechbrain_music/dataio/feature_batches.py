"""Batches of cached features for probes of several seeds, each in an order of its own."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from speechbrain_music.nnet.probes import dropout_masks

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
