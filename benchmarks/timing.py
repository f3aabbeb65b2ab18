"""Time and memory of contenders for the same work."""

import ctypes
import gc
import re
import resource
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch

MIN_ROUNDS, MAX_ROUNDS = 3, 200
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


class Spread(NamedTuple):
    """Median and quartiles of repeated measurements."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values):
        """Of one value or more.

        Example
        -------
        >>> Spread.of([1.0, 2.0, 3.0, 4.0, 90.0])
        Spread(median=3.0, lower=2.0, upper=4.0)
        """
        values = values if len(values) > 1 else values * 2
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, lower, upper)


def three_digits(value):
    """A number as text, with three digits that count.

    Example
    -------
    >>> three_digits(1172.4), three_digits(0.012345)
    ('1170', '0.0123')
    """
    return f"{float(f'{value:.3g}'):g}"


def side_by_side(contenders, seconds, device="cpu", min_rounds=MIN_ROUNDS):
    """Times contenders in one process, interleaved.

    A round calls each of them once, and every other round goes backwards: a drift of the machine
    meets all of them alike, and a ratio within a round hardly sees it.

    Arguments
    ---------
    contenders : dict
        Name -> function without arguments that does the work once.
    seconds : float
        About how long to measure after a warm-up; at most 200 rounds.
    device : str
        "cpu", or "cuda", whose queue is waited for.
    min_rounds : int
        Rounds that there are in any case; there are no others if `seconds` is 0.

    Returns
    -------
    dict
        Name -> list of seconds, one a round.

    Example
    -------
    >>> times = side_by_side({"a": lambda: sum(range(99)), "b": lambda: None}, seconds=0)
    >>> [len(samples) for samples in times.values()]
    [3, 3]
    """
    for call in contenders.values():  # first calls set things up
        timed(call, device)
    order = list(contenders)
    times = {name: [] for name in order}
    start = perf_counter()
    while (rounds := len(times[order[0]])) < MAX_ROUNDS:
        if rounds >= min_rounds and perf_counter() - start > seconds:
            break
        for name in order:
            times[name].append(timed(contenders[name], device))
        order.reverse()
    return times


def timed(call, device="cpu"):
    """Seconds of one call, until its device has done it.

    Example
    -------
    >>> 0 <= timed(lambda: None) < 1
    True
    """
    _synchronize(device)
    start = perf_counter()
    call()
    _synchronize(device)
    return perf_counter() - start


def _synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def extra_memory(build, contender, size, device="cpu"):
    """Peak of what one call needs beyond its inputs and weights, in a process of its own.

    Arguments
    ---------
    build : callable
        A builder of `benchmarks.rows`.
    contender : str
        Which of its contenders.
    size, device : str
        As for the builder.

    Returns
    -------
    int
        Bytes: of the process's resident memory on a CPU, of torch's allocator on a GPU.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        If the system ended the process, as it does where memory runs out.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, build, contender, size, device).result()


def _measure(build, contender, size, device):
    call = build(size, device).contenders[contender]
    build("tiny", device).contenders[contender]()  # threads, handles, buffers of libraries
    return growth_of_peak(call, device)


def growth_of_peak(call, device="cpu"):
    """How far the peak of this process's memory grows during one call, in bytes.

    Example
    -------
    >>> growth_of_peak(lambda: torch.ones(2**23)) >= 2**24  # of 2**25 bytes
    True
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    release_memory()
    _forget_peak()
    before = _peak()
    call()
    return _peak() - before


def release_memory():
    """Returns freed memory to the system, which `keep_freed_memory` has kept; without glibc, not.

    A call could use it unseen, and another process has none of it.

    Example
    -------
    >>> release_memory()  # what is in use stays
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def _forget_peak():
    """Lets the peak of memory begin again at what is held now: importing may have needed more."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5", encoding="ascii")


def _peak():
    """Bytes of resident memory that this process held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's peak too, from before the exec
        text = status.read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
