"""Samplers: which segments make up which batch, on every rank and after every restart."""

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from speechbrain_music.dataio.segments import TRAIN, SegmentIndex

SHUFFLE = 22  # first number of a key, see `dataio.segments`


class _BatchSampler(Sampler):
    """Batches of one rank, from an epoch of `draws` in one global order."""

    def __init__(self, draws, batch_size, seed, rank, world_size, epoch):
        self.draws, self.batch_size, self.seed = draws, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.start(epoch)

    def start(self, epoch, batch=0):
        """Set where the next iteration begins: a batch of this rank, within an epoch."""
        self.epoch, self.first = epoch, batch

    def __len__(self):
        return self.draws // (self.batch_size * self.world_size)


class WeightedSegmentSampler(_BatchSampler):
    """Batches of draws; tracks are drawn with probability proportional to their weight.

    An epoch is `draws` draws in one global order. Consecutive batches go to consecutive ranks, so
    that an optimiser step of the whole job does not depend on the number of ranks. A track's weight
    is its duration times its corpus's weight. `draws` must divide into whole batches for every
    rank, as `brains.base.plan_steps` sees to.
    """

    def __init__(self, weights, draws, batch_size, seed=0, rank=0, world_size=1):
        super().__init__(draws, batch_size, seed, rank, world_size, epoch=0)
        self.edges = np.cumsum(np.asarray(weights, dtype=np.float64))

    def __iter__(self):
        rng = np.random.default_rng([self.seed, TRAIN, self.epoch])
        rows = np.searchsorted(self.edges, rng.random(self.draws) * self.edges[-1], side="right")
        order = np.arange(self.draws).reshape(-1, self.world_size, self.batch_size)
        for batch in order[self.first :, self.rank].tolist():
            yield [SegmentIndex(self.epoch, index, int(rows[index])) for index in batch]


class ShuffleSampler(_BatchSampler):
    """Batches that visit every row once an epoch, in an order of (seed, epoch).

    The last optimiser step of an epoch, of `effective_batch` rows over all ranks, is filled up with
    the epoch's first rows, so that no row is left out and all steps have the same size.
    """

    def __init__(self, count, batch_size, effective_batch, seed=0, rank=0, world_size=1):
        draws = -(-count // effective_batch) * effective_batch
        super().__init__(draws, batch_size, seed, rank, world_size, epoch=1)
        self.count = count

    def __iter__(self):
        order = np.random.default_rng([SHUFFLE, self.seed, self.epoch]).permutation(self.count)
        order = np.resize(order, self.draws).reshape(-1, self.world_size, self.batch_size)
        yield from order[self.first :, self.rank].tolist()


def every_row(count, batch_size, rank=0, world_size=1):
    """Batches of draws that visit each row once, in order, taking turns between the ranks."""
    draws = [SegmentIndex(0, row, row) for row in range(count)]
    return [*BatchSampler(draws, batch_size, drop_last=False)][rank::world_size]
