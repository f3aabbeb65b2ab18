"""Runs the pre-training recipe and kills it, as `kill -9` does, at the n-th call of a function.

python killed_run.py backward:5 ARGUMENTS OF THE RECIPE
"""

import os
import signal
import sys

import torch

from recipes.pretrain.train import main

TARGETS = {
    "backward": (torch.Tensor, "backward"),  # inside an accumulation window
    "save": (torch, "save"),  # between two files of a checkpoint
    "replace": (os, "replace"),  # before a checkpoint, a manifest or an export takes its place
    "fsync": (os, "fsync"),
}


def kill_at(name, count):
    owner, attribute = TARGETS[name]
    original = getattr(owner, attribute)
    calls = 0

    def wrapper(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, attribute, wrapper)


if __name__ == "__main__":
    if sys.argv[1] != "never":
        target, number = sys.argv[1].split(":")
        kill_at(target, int(number))
    main(sys.argv[2:])
