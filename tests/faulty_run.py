"""Runs the pre-training recipe with one fault at a chosen point.

torchrun --nproc_per_node=2 tests/faulty_run.py "kill backward 5 on 1" ARGUMENTS OF THE RECIPE

A fault is "none" or `ACTION PLACE NUMBER`; with `on RANK` it strikes one process of several, at
torchrun's first attempt only. Actions are kill (as `kill -9` does) and fail (what was about to be
done raises OSError). Places are

    change    the n-th change in the output folder: a file opened to write, synced, renamed ...
    load      the n-th file of a checkpoint that is read
    backward  the n-th backward pass: inside an accumulation window
    bytes     the n-th byte of a file of a checkpoint, by whatever library it is written
"""

import errno
import hashlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import torch

from recipes.pretrain.train import main
from speechbrain_music.brains.base import MusicBrain
from speechbrain_music.nnet.dropout import Dropout
from speechbrain_music.utils.errors import run_recipe

CALLS = {
    "change": [(torch, "save"), (os, "fsync")],
    "load": [(torch, "load")],
    "backward": [(torch.Tensor, "backward")],
}
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # how Python itself tells of changes


def arm(fault, folder):
    """Prepares a fault of a run with this output folder."""
    action, place, number = fault.split()
    process, calls = os.getpid(), itertools.count(1)

    def strike():
        if os.getpid() == process and next(calls) == int(number):  # not in a process forked off
            if action == "kill":
                os.kill(process, signal.SIGKILL)
            raise OSError(errno.EIO, "the device is gone")

    if place == "bytes":
        if action == "kill":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        limit = resource.RLIMIT_FSIZE, (int(number), resource.RLIM_INFINITY)
        # Not before: shared memory of workers is a file, too.
        torch.save = preceded(lambda: resource.setrlimit(*limit), torch.save)
    else:
        for owner, name in CALLS[place]:
            setattr(owner, name, preceded(strike, getattr(owner, name)))
        if place == "change":
            sys.addaudithook(lambda event, told: changes(event, told, folder) and strike())


def preceded(first, function):
    def wrapper(*args, **kwargs):
        first()
        return function(*args, **kwargs)

    return wrapper


def changes(event, told, folder):
    """Whether an audit event is a change in a folder; what only TensorBoard reads is none."""
    if event == "open":
        to_write = (told[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    else:
        to_write = event in EVENTS
    path = os.fsdecode(told[0]) if to_write and not isinstance(told[0], int) else "/"
    inside = path.startswith(folder) or not os.path.isabs(path)  # below what is being removed
    return inside and "tensorboard" not in path


def folder_of(argv):
    """The output folder that a command line names."""
    return argv[argv.index("--output_folder") + 1]


def note_dropout(folder):
    """Writes a line a micro-batch: optimiser step, micro-batch, what dropout dropped (a digest)."""
    apply, fit_batch = Dropout.forward, MusicBrain.fit_batch
    dropped = hashlib.sha256()

    def forward(self, x):
        kept = apply(self, torch.ones_like(x))
        dropped.update(kept.detach().numpy().tobytes())
        return x * kept

    def fit(self, batch):
        nonlocal dropped
        dropped = hashlib.sha256()
        place = self.optimizer_step, self.step % self.plan.accumulation
        loss = fit_batch(self, batch)
        with open(Path(folder) / f"dropout_{self.rank}.txt", "a") as file:
            print(*place, dropped.hexdigest(), file=file)
        return loss

    Dropout.forward, MusicBrain.fit_batch = forward, fit


def start(fault, argv, log):
    """Runs the recipe in this process, which ends with it; what it prints goes to a file."""
    multiprocessing.set_start_method(None, force=True)  # workers begin as in any other run
    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv[1:] = argv
    if fault != "none":
        arm(fault, folder_of(argv))
    run_recipe(main)


if __name__ == "__main__":
    fault, _, rank = sys.argv.pop(1).partition(" on ")
    folder = folder_of(sys.argv)
    note_dropout(folder)
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    if rank == os.environ.get("RANK") and first:
        arm(fault, folder)
    run_recipe(main)
