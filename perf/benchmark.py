"""Time and memory of candidates that do the same work, compared in one process."""

import ctypes
import gc
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import timer

MIN_ROUNDS, MAX_ROUNDS = 3, 200
MEASURED, NO_MEMORY, TIMEOUT = "measured", "does not fit", "over the time limit"


class Comparison(NamedTuple):
    """A candidate against a baseline; with the bound "<=" the ratio is candidate / baseline."""

    sub_label: str
    candidate: str
    baseline: str
    target: float | None = None
    of: str = "time"  # or "memory"
    bound: str = ">="  # or "<="


@dataclass
class Benchmark:
    """Candidates for the same work, and what was measured while it was built."""

    label: str  # the work and its sizes
    candidates: dict[str, Callable] = field(default_factory=dict)  # name -> the work, done once
    comparisons: list[Comparison] = field(default_factory=list)
    times: dict[str, list] = field(default_factory=dict)  # name -> seconds, measured already
    extra_bytes: dict[str, float] = field(default_factory=dict)  # the same of memory
    details: Callable[[], dict] = dict  # more fields of the result


def gpu_batch(device):
    """The factor on a CPU's batch size: small batches leave a GPU waiting for kernel launches."""
    return 8 if device == "cuda" else 1


def measure(build, sizes, size="full", device="cpu", seconds=60.0):
    """Measure what `build(sizes[size], device, folder)` makes; its docstring becomes the note."""
    with TemporaryDirectory() as folder:
        benchmark = build(sizes[size], device, folder)
        times = benchmark.times | time_interleaved(benchmark.candidates, seconds)
        extra = dict(benchmark.extra_bytes)
        sides = {name for c in benchmark.comparisons if c.of == "memory" for name in c[1:3]}
        for name in sorted(sides & benchmark.candidates.keys()):
            works = [sizes[size], sizes["tiny"]]
            outcome, found = run_isolated(
                extra_memory, build, name, works, device, folder, device=device
            )
            extra |= {name: found} if outcome == MEASURED else {}
        details = benchmark.details()
    return {
        "label": benchmark.label,
        "seconds": {name: quartiles(samples) for name, samples in times.items()},
        "rounds": max(map(len, times.values()), default=0),
        "extra_bytes": extra,
        "comparisons": [compare(each, times, extra) for each in benchmark.comparisons],
        "note": " ".join(build.__doc__.split()),
        **details,
    }


def compare(comparison, times, extra):
    """A comparison's fields, its ratio if both sides were measured, and if a target is met."""
    measured = extra if comparison.of == "memory" else times
    sign = 1 if comparison.bound == ">=" else -1
    above, below = [measured.get(comparison.baseline), measured.get(comparison.candidate)][::sign]
    missing = above is None or below is None
    ratio = None if missing else quartiles(np.divide(above, below))
    met = None
    if comparison.target is not None:
        met = not missing and sign * ratio["median"] >= sign * comparison.target
    return {**comparison._asdict(), "ratio": ratio, "met": met}


def quartiles(values):
    """Median and quartiles of one value or more, as a dict."""
    found = np.quantile(values, (0.5, 0.25, 0.75)).tolist()
    return dict(zip(("median", "q1", "q3"), found, strict=True))


def time_interleaved(candidates, seconds):
    """Time candidates in rounds, every second one in reverse order: name -> seconds per round.

    A drift of the machine's speed hardly changes a ratio within a round.
    """
    times = {name: [] for name in candidates}
    for call in candidates.values():  # warm-up
        call()
    start = timer()
    for rounds in range(MAX_ROUNDS if candidates else 0):
        if rounds >= MIN_ROUNDS and timer() - start > seconds:
            break
        for name in list(times)[:: (-1) ** rounds]:
            before = timer()
            candidates[name]()
            times[name].append(timer() - before)
    return times


def extra_memory(build, candidate, works, device="cpu", folder=None):
    """Bytes that one call needs at its peak beyond its inputs and weights, in this process.

    works: the size of the work, and a tiny one, done before.
    """
    call, warm_up = (build(work, device, folder).candidates[candidate] for work in works)
    warm_up()  # threads, handles, library buffers
    return peak_growth(call, device)


def peak_growth(call, device="cpu"):
    """Bytes, at least 1, by which the peak of resident (or GPU) memory grows during one call."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return max(torch.cuda.max_memory_allocated() - before, 1)
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # without glibc
        ctypes.CDLL(None).malloc_trim(0)  # freed memory would be used again without being seen
    if (reset := Path("/proc/self/clear_refs")).exists():
        reset.write_text("5", encoding="ascii")  # the peak restarts at what is resident now
    before = _peak()
    call()
    return max(_peak() - before, 1)


def _peak():
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage counts the parent's
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def run_isolated(work, *arguments, max_bytes=None, max_seconds=None, device="cpu"):
    """Do work in a process of its own, which is killed beyond the limits.

    Returns `MEASURED` and the result, or `NO_MEMORY` or `TIMEOUT` and None.
    """
    from pebble import ProcessPool  # in the extra [replica]

    # A process forked from one that looked for GPUs cannot use them.
    context = get_context("spawn" if device == "cuda" else "forkserver")
    context.set_forkserver_preload(["perf.growth"])
    arguments = max_bytes, torch.get_num_threads(), work, *arguments
    try:
        with ProcessPool(1, context=context) as pool:
            return MEASURED, pool.schedule(_limited, arguments, timeout=max_seconds).result()
    except TimeoutError:
        return TIMEOUT, None
    except (MemoryError, RuntimeError, OSError) as error:
        killed = getattr(error, "exitcode", None) == -9  # by `_kill_beyond`, or by the kernel
        memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (killed or memory or "allocate memory" in str(error)):
            raise
        return NO_MEMORY, None


def _limited(max_bytes, threads, work, *arguments):
    torch.set_num_threads(threads)
    if max_bytes:
        Thread(target=_kill_beyond, args=(max_bytes,), daemon=True).start()
    return work(*arguments)


def _kill_beyond(max_bytes):
    while _peak() <= max_bytes:
        sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)  # torch's errors where memory runs out are many


def forward_backward(module, x, parameters=None):
    """A call that runs a module (or a function of `parameters`) forward and backward."""
    x = x.clone().requires_grad_()
    leaves = [x, *(module.parameters() if parameters is None else parameters)]
    with torch.no_grad():
        out = module(x)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)

    def call():
        torch.autograd.grad(module(x), leaves, upstream, allow_unused=True)

    return call
