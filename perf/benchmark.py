"""Time and memory of candidates that do the same work, compared in one process."""

import ctypes
import gc
import os
import re
import resource
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode

MIN_ROUNDS, MAX_ROUNDS = 3, 200
AT_LEAST, AT_MOST = ">=", "<="
MEASURED, NO_MEMORY, TIMEOUT = "measured", "does not fit", "over the time limit"
POLL_SECONDS = 0.02
MATMULS = ("mm", "addmm", "bmm", "baddbmm")


class Mismatch(AssertionError):
    """Candidates that must compute the same do not, so their times cannot be compared."""


class Comparison(NamedTuple):
    """A candidate against a baseline.

    With the bound ">=" the ratio is baseline / candidate, with "<=" it is candidate / baseline.
    """

    sub_label: str
    candidate: str
    baseline: str
    target: float | None = None
    of: str = "time"  # or "memory"
    bound: str = AT_LEAST


@dataclass(frozen=True)
class Benchmark:
    """Candidates for the same work; a builder makes one from a size and a device."""

    label: str  # the work and its sizes
    candidates: dict[str, Callable]  # name -> function that does the work once
    comparisons: list[Comparison] = field(default_factory=list)
    # Raises `Mismatch` where candidates must compute the same and do not.
    check: Callable[[dict], None] = lambda candidates: None
    checked: str = ""  # what `check` makes sure of
    flops: dict[str, int] = field(default_factory=dict)  # of a candidate's matrix products
    sums: dict[str, list] = field(default_factory=dict)  # name -> candidates, added per round
    note: str = ""  # conditions of the measurement


def gpu_batch(device):
    """The factor on a CPU's batch size: small batches leave a GPU waiting for kernel launches."""
    return 8 if device == "cuda" else 1


def measure(build, size="full", device="cpu", seconds=60.0):
    """Check and measure a benchmark; return plain values for the JSON file.

    `build` makes a `Benchmark` of a size ("full", "quick" or "tiny") and a device. It must be
    picklable, because memory is measured in a new process. Timing takes about `seconds`.
    """
    benchmark = build(size, device)
    benchmark.check(benchmark.candidates)
    times = time_interleaved(benchmark.candidates, seconds, device)
    for name, parts in benchmark.sums.items():
        times[name] = [sum(together) for together in zip(*map(times.get, parts), strict=True)]
    of_memory = [c for c in benchmark.comparisons if c.of == "memory"]
    names = sorted({name for c in of_memory for name in (c.candidate, c.baseline)})
    extra = {name: extra_memory(build, name, size, device) for name in names}
    result = make_result(benchmark, times, extra)
    for name, flops in benchmark.flops.items():
        result["gflops"][name] = flops / result["seconds"][name]["median"] / 1e9
    for c in result["comparisons"]:
        if (c["met"], c["of"], c["bound"]) == (False, "time", AT_LEAST):
            call = benchmark.candidates[c["candidate"]]
            result["operators"][c["candidate"]] = operators(call, device)
    return result


def make_result(benchmark, times, extra):
    """The JSON of a benchmark, from seconds per round and extra bytes by candidate."""
    return {
        "label": benchmark.label,
        "seconds": {name: quartiles(samples) for name, samples in times.items()},
        "rounds": len(next(iter(times.values()), [])),
        "gflops": {},
        "extra_bytes": extra,
        "comparisons": [compare(each, times, extra) for each in benchmark.comparisons],
        "checked": benchmark.checked,
        "note": benchmark.note,
        "operators": {},
    }


def compare(comparison, times, extra):
    """A comparison's fields, its ratio and whether the target is met.

    The ratio is None if a side was not measured; `met` is None without a target.
    """
    of_memory = comparison.of == "memory"
    measured = extra if of_memory else times
    above, below = comparison.baseline, comparison.candidate
    if comparison.bound == AT_MOST:
        above, below = below, above
    ratio, met = None, None
    if above in measured and below in measured:
        if of_memory:
            ratio = quartiles([extra[above] / max(extra[below], 1)])
        else:
            ratio = quartiles([a / b for a, b in zip(times[above], times[below], strict=True)])
    if comparison.target is not None:
        sign = 1 if comparison.bound == AT_LEAST else -1
        met = ratio is not None and sign * ratio["median"] >= sign * comparison.target
    return {**comparison._asdict(), "ratio": ratio, "met": met}


def quartiles(values):
    """Median and quartiles of one value or more, as a dict."""
    ranks = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    found = torch.tensor(values, dtype=torch.float64).quantile(ranks).tolist()
    return dict(zip(("median", "q1", "q3"), found, strict=True))


def time_interleaved(candidates, seconds, device):
    """Time candidates in rounds; return name -> seconds per round.

    torch.utils.benchmark times one candidate after the other. Here each round calls every
    candidate once, and every second round in reverse order, so that a drift of the machine's
    speed hardly changes a ratio within a round. With `seconds` 0 there are `MIN_ROUNDS` rounds.
    """
    for call in candidates.values():  # warm-up
        time_call(call, device)
    order = list(candidates)
    times = {name: [] for name in order}
    start = perf_counter()
    while (rounds := len(times[order[0]])) < MAX_ROUNDS:
        if rounds >= MIN_ROUNDS and perf_counter() - start > seconds:
            break
        for name in order:
            times[name].append(time_call(candidates[name], device))
        order.reverse()
    return times


def time_call(call, device):
    """Seconds of one call, until the device has finished it."""
    now = clock(device)
    start = now()
    call()
    return now() - start


def clock(device):
    """A clock that waits for a GPU's queue; torch's own does so on a CPU too where a GPU exists."""
    return timer if device == "cuda" else perf_counter


def operators(call, device="cpu", top=6):
    """Shares of a call's time by torch operator, largest first; matrix products count as one."""
    call()
    gpu = device == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    with profile(activities=activities, acc_events=True) as profiler:
        call()
    spent = Counter()
    for event in profiler.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, whose time its operator includes
        name = event.key.removeprefix("aten::")
        time = event.self_device_time_total if gpu else event.self_cpu_time_total
        spent["matrix products" if name in MATMULS else name] += time
    total = spent.total() or 1
    return {name: time / total for name, time in spent.most_common(top)}


# ---- memory, and processes of their own ----


def extra_memory(build, candidate, size, device="cpu"):
    """Bytes that one call needs at its peak beyond its inputs and weights, in a new process."""
    # A process forked from one that looked for GPUs cannot use them.
    method = "spawn" if device == "cuda" else "forkserver"
    arguments = build, candidate, size, device
    outcome, found = run_isolated(_extra_memory, *arguments, method=method)
    if outcome != MEASURED:
        raise MemoryError(f"{candidate}: its memory was not measured, it {outcome}")
    return found


def _extra_memory(build, candidate, size, device):
    call = build(size, device).candidates[candidate]
    build("tiny", device).candidates[candidate]()  # threads, handles, buffers of libraries
    return peak_growth(call, device)


def peak_growth(call, device="cpu"):
    """Bytes by which the peak of this process's memory grows during one call.

    It is resident memory on a CPU, that of torch's allocator on a GPU.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    release_memory()
    if (reset := Path("/proc/self/clear_refs")).exists():
        reset.write_text("5", encoding="ascii")  # the peak restarts at what is resident now
    before = _peak()
    call()
    return _peak() - before


def release_memory():
    """Return freed memory to the system, which a call would otherwise use without being seen."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # not glibc


def _peak():
    status = Path("/proc/self/status")
    if status.exists():  # getrusage includes the parent's peak before the fork
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text("utf-8")).group(1))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_isolated(work, *arguments, max_bytes=None, max_seconds=None, method="forkserver"):
    """Run `work(*arguments)` in a process of its own, which is killed beyond the limits.

    Returns `MEASURED` and the result, or `NO_MEMORY` or `TIMEOUT` and None. A process that fails
    for another reason is a RuntimeError.
    """
    context = get_context(method)
    context.set_forkserver_preload(["perf.growth"])
    receiver, sender = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    process = context.Process(target=_send, args=(sender, threads, work, arguments), daemon=True)
    process.start()
    sender.close()
    start = perf_counter()
    try:
        while not receiver.poll(POLL_SECONDS):
            if max_bytes is not None and _resident_bytes(process.pid) > max_bytes:
                return NO_MEMORY, None
            if max_seconds is not None and perf_counter() - start > max_seconds:
                return TIMEOUT, None
        return receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -9:  # the kernel kills where memory runs out
            return NO_MEMORY, None
        raise RuntimeError(f"{arguments}: failed with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send(sender, threads, work, arguments):
    torch.set_num_threads(threads)
    sender.send(run_here(work, *arguments))


def run_here(work, *arguments):
    """Run `work(*arguments)` in this process; return (outcome, result) as `run_isolated`."""
    try:
        return MEASURED, work(*arguments)
    except (MemoryError, torch.OutOfMemoryError):
        return NO_MEMORY, None
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return NO_MEMORY, None


def _resident_bytes(pid):
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0  # it cannot be seen on this system
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# ---- what candidates are made of ----


def forward_backward(module, x, parameters=None, context=nullcontext):
    """A call that runs a module forward and backward, to its input and its parameters.

    The call returns the output and then the gradients as one list, and leaves no gradient. A
    plain function as `module` needs `parameters`; `context` makes that of the forward pass.
    """
    x = x.clone().requires_grad_()
    leaves = [x, *(module.parameters() if parameters is None else parameters)]
    generator = torch.Generator().manual_seed(1)
    upstream = None

    def call():
        nonlocal upstream
        with context():
            out = module(x)
        if upstream is None:
            upstream = torch.randn(out.shape, generator=generator).to(out)
        out.backward(upstream)
        results = [out.detach(), *(leaf.grad for leaf in leaves)]
        for leaf in leaves:
            leaf.grad = None
        return results

    return call


def count_flops(call):
    """Floating point operations of a call's matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def assert_same(what, found, expected, tolerance=1e-4):
    """Raise `Mismatch` unless two lists of tensors are equal within rounding.

    The tolerance is relative to each tensor's largest value.
    """
    for one, other in zip(found, expected, strict=True):
        error = (one - other).abs().max() / other.abs().max().clamp(min=1e-3)
        if not error <= tolerance:
            raise Mismatch(f"{what} differ by {error:.1e} of the largest value")
