"""DataLoaders with their own random generator."""

import os
import signal
from functools import partial

import torch
from torch.utils.data import DataLoader

WORKER_SECONDS = 20  # that a worker goes on after SIGTERM; torchrun kills after 30


def make_loader(dataset, **options):
    """torch's DataLoader with a generator of its own, and workers that end with this process.

    Its iterator draws from a generator when it starts: with the global one, a run would depend on
    what ran before.

    Example
    -------
    >>> before = torch.get_rng_state()
    >>> list(make_loader([1, 2, 3], batch_size=None)), torch.equal(before, torch.get_rng_state())
    ([1, 2, 3], True)
    """
    begin = partial(_begin, os.getpid())
    return DataLoader(dataset, generator=torch.Generator(), worker_init_fn=begin, **options)


def to_device(batch, device):
    """A batch, a NamedTuple, with its tensors on a device."""
    tensors = {k: v for k, v in batch._asdict().items() if isinstance(v, torch.Tensor)}
    return batch._replace(**{k: v.to(device, non_blocking=True) for k, v in tensors.items()})


def _begin(parent, _):
    # A worker ends when its parent changes. If the parent is killed before the worker first looks,
    # it would stay forever.
    if os.getppid() != parent:
        raise SystemExit
    # Terminals, torchrun and Slurm signal all processes: the parent needs the worker for its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_SECONDS))
