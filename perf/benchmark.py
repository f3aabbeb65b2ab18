"""Time and memory of candidates that do the same work, compared in one process."""

import ctypes
import gc
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.benchmark import timer

from perf import COMPARISONS, SIZES

MIN_ROUNDS, MAX_ROUNDS = 3, 200


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
    comparisons: list[Comparison] = field(default_factory=list)  # besides comparisons.yaml's
    memory_of: dict[str, Callable] = field(default_factory=dict)  # name -> work of that memory
    times: dict[str, list] = field(default_factory=dict)  # name -> seconds, measured already
    extra_bytes: dict[str, float] = field(default_factory=dict)  # the same of memory
    details: dict = field(default_factory=dict)  # more fields of the result


def gpu_batch(device):
    """The factor on a CPU's batch size: small batches leave a GPU waiting for kernel launches."""
    return 8 if device == "cuda" else 1


def measure(name, build, size="full", device="cpu", seconds=60.0):
    """Measure what `build(its size, device, folder)` makes; its docstring becomes the note."""
    rows = COMPARISONS.get(name, ())
    declared = [Comparison(**{"sub_label": row["candidate"]} | row) for row in rows]
    with TemporaryDirectory() as folder:
        benchmark = build(SIZES[name][size], device, folder)
        times = benchmark.times | time_interleaved(benchmark.candidates, seconds)
        extra = {name: peak_growth(call, device) for name, call in benchmark.memory_of.items()}
    extra |= benchmark.extra_bytes
    return {
        "label": benchmark.label,
        "seconds": {name: quartiles(samples) for name, samples in times.items()},
        "rounds": max(map(len, times.values()), default=0),
        "extra_bytes": extra,
        "comparisons": [compare(c, times, extra) for c in declared + benchmark.comparisons],
        "note": " ".join(build.__doc__.split()),
        **benchmark.details,
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
    for rounds in range(MAX_ROUNDS):
        if rounds >= MIN_ROUNDS and timer() - start > seconds:
            break
        for name in list(times)[:: (-1) ** rounds]:
            before = timer()
            candidates[name]()
            times[name].append(timer() - before)
    return times


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
    before = peak_resident()
    call()
    return max(peak_resident() - before, 1)


def peak_resident():
    """Bytes of this process that were resident at the peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage counts the parent's
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def describe_model(model, token_rate, what):
    """A model in the table of `details["models"]`."""
    parameters = sum(map(torch.numel, model.parameters()))
    return {"parameters": parameters, "token_rate": token_rate, "what": what}


def forward_backward(module, x):
    """A call that runs a module (or a function) forward and backward, as a training step does."""
    x = x.clone().requires_grad_()
    with torch.no_grad():
        upstream = torch.randn_like(module(x))
    return lambda: module(x).backward(upstream)
