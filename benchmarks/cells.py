"""One measurement in a process of its own, which is ended where it takes too much."""

import os
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

from benchmarks.timing import growth_of_peak, timed
from benchmarks.training import TrainingStep, make_batch, make_waves
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.frontend import BANDS, STACK, TOKEN_RATE
from speechbrain_music.utils.memory import keep_freed_memory

MEASURED, NO_ROOM, TOO_LONG = "measured", "does not fit", "over the time limit"
FORWARD, TRAINING, STEP = "forward", "forward + backward", "training step"
LONG_ENOUGH = 0.2  # seconds of calls, of which the median is taken
LOOK = 0.02  # seconds between two looks at a process


class Cell(NamedTuple):
    """What is measured: a mixing (or a system), the work, and the seconds of one item of audio.

    Example
    -------
    >>> str(Cell("summary", FORWARD, 60))
    'summary, forward, 60 s'
    """

    what: str
    work: str
    seconds: int

    def __str__(self):
        return f"{self.what}, {self.work}, {self.seconds} s"


class Limits(NamedTuple):
    """Bytes of memory and seconds that the process of a cell may take.

    Example
    -------
    >>> Limits.here(Limits(bytes=2**60, seconds=1)).bytes < 2**60  # this machine has less
    True
    """

    bytes: int
    seconds: float

    @classmethod
    def here(cls, wanted):
        """Those, or less memory where less is there: four fifths of what is available."""
        try:
            lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        except OSError:
            return wanted
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return wanted._replace(bytes=min(wanted.bytes, available * 1024 * 4 // 5))


def make_work(cell, options, device="cpu"):
    """A function of seconds of audio, which makes a call that does the cell's work on them.

    Arguments
    ---------
    cell : Cell
        `STEP` is a training step of a system; else an encoder with that mixing is measured.
    options : dict
        Of the encoder, or of the system's yaml.
    device : str
        "cpu" or "cuda".

    Example
    -------
    >>> small = {"num_layers": 1, "d_model": 16, "ffn_units": 32}
    >>> work = make_work(Cell("rope", FORWARD, 2), small)
    >>> work(seconds=2)().shape
    torch.Size([1, 50, 16])
    """
    torch.manual_seed(0)
    if cell.work == STEP:
        step = TrainingStep(cell.what, device, **options)
        return lambda seconds: partial(step, make_batch(make_waves(1, seconds, device)))
    encoder = Encoder(mixing=cell.what, **options).to(device).train(cell.work == TRAINING)

    def forward(mel):
        with torch.set_grad_enabled(cell.work == TRAINING):
            return encoder(mel)[0]

    def train(mel):
        forward(mel).sum().backward()

    call = train if cell.work == TRAINING else forward
    rate = TOKEN_RATE * STACK
    return lambda seconds: partial(call, torch.randn(1, seconds * rate, BANDS, device=device))


def run_cell(cell, options, device="cpu"):
    """Measures a cell in this process.

    Returns
    -------
    seconds : float
        Of a call, the median of as many as `LONG_ENOUGH` holds, after the first.
    extra_bytes : int
        What the first call needs at its peak beyond weights, gradients and moments.

    Example
    -------
    >>> small = {"num_layers": 1, "d_model": 16, "ffn_units": 32}
    >>> seconds, _ = run_cell(Cell("summary", FORWARD, 2), small)
    >>> seconds > 0
    True
    """
    keep_freed_memory()
    work = make_work(cell, options, device)
    work(1)()  # gradients, moments, threads, buffers of libraries
    call = work(cell.seconds)
    extra_bytes = growth_of_peak(call, device)
    times, began = [], perf_counter()
    while not times or perf_counter() - began < LONG_ENOUGH:
        times.append(timed(call, device))
    return median(times), extra_bytes


def supervise(work, limits, *arguments):
    """Runs `work(*arguments)` in a process of its own, within limits.

    Memory is looked at from outside, many times a second, where the system lets one (Linux).

    Arguments
    ---------
    work : callable
        A function of a module.
    limits : Limits
        What the process may take.
    *arguments
        Of `work`.

    Returns
    -------
    outcome : str
        `MEASURED`, `NO_ROOM` or `TOO_LONG`.
    result
        What `work` returned; None without one.

    Raises
    ------
    RuntimeError
        If the process ended for another reason.

    Example
    -------
    >>> supervise(sum, Limits(bytes=2**40, seconds=60), [1, 2])
    ('measured', 3)
    """
    # A server that has imported what a cell needs, and is copied for each of them.
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.cells"])
    receiver, sender = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    process = context.Process(target=_work, args=(sender, threads, work, arguments), daemon=True)
    process.start()
    sender.close()
    began = perf_counter()
    try:
        while not receiver.poll(LOOK):
            if _resident(process.pid) > limits.bytes:
                return NO_ROOM, None
            if perf_counter() - began > limits.seconds:
                return TOO_LONG, None
        return receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -9:  # the system's own answer where memory runs out
            return NO_ROOM, None
        raise RuntimeError(f"{arguments}: ended with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()


def _work(sender, threads, work, arguments):
    torch.set_num_threads(threads)
    sender.send(attempt(work, *arguments))


def attempt(work, *arguments):
    """Runs `work(*arguments)` in this process, to the end: enough where memory is a GPU's.

    Returns
    -------
    outcome : str
        `MEASURED` or `NO_ROOM`.
    result
        What `work` returned; None without room.

    Example
    -------
    >>> attempt(sum, [1, 2])
    ('measured', 3)
    """
    try:
        return MEASURED, work(*arguments)
    except (MemoryError, torch.OutOfMemoryError):
        return NO_ROOM, None
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return NO_ROOM, None


def _resident(pid):
    """Bytes of memory that a process holds; 0 where that cannot be seen."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
