"""Loaders whose runs do not depend on their history."""

import torch
from torch.utils.data import DataLoader


def make_loader(dataset, **options):
    """torch's DataLoader with a generator of its own.

    Its iterator draws from a generator when it begins: from the global one a run would depend on
    what ran before.

    Example
    -------
    >>> before = torch.get_rng_state()
    >>> list(make_loader([1, 2, 3], batch_size=None)), torch.equal(before, torch.get_rng_state())
    ([1, 2, 3], True)
    """
    return DataLoader(dataset, generator=torch.Generator(), **options)
