"""Growth of time and memory with the length of the audio."""

import os
import signal
from functools import partial
from multiprocessing import get_context
from threading import Thread
from time import sleep

import torch
from torch.utils.benchmark import Timer

from perf.benchmark import Benchmark, Comparison, peak_growth, peak_resident
from perf.training import make_batch, make_brain, make_waves
from speechbrain_music.models.encoder import MIXERS, make_encoder
from speechbrain_music.models.frontend import BANDS, STACK, TOKEN_RATE
from speechbrain_music.utils.memory import keep_freed_memory

MEASURED, NO_MEMORY, TIMEOUT = "measured", "does not fit", "over the time limit"
FORWARD, TRAINING, STEP = "forward", "forward + backward", "training step"
LINEAR = "summary"  # the mixer that has a target
SYSTEM = "brn_sum"  # whose whole training step is measured too
TARGET = 1.1
NAME = "{}, {}, {} s"  # model, work, length
TIMER_SECONDS = 1.0  # of calls in a process
MAX_BYTES, MAX_SECONDS = 16 * 2**30, 120  # of a process


def growth(size, device, folder):
    """Time and memory per second of audio stay constant where they grow linearly with the length.

    One item goes through a Branchformer encoder of two blocks, with dropout in forward + backward.
    Each point has a process of its own, limited to 16 GiB and 120 s; on a GPU its memory counts,
    and the training step is in bfloat16. "Does not fit" and "over the time limit" are results: a
    point that exceeds the limits. Memory is the peak of the first call beyond weights and
    gradients; later calls are timed.
    """
    lengths = size["lengths"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = {"max_seconds": MAX_SECONDS, "device": device}
    if device == "cpu":
        limits["max_bytes"] = min(MAX_BYTES, memory * 2 // 3)
    points = [(m, w, n, "options") for n in lengths for m in MIXERS for w in (FORWARD, TRAINING)]
    points += [(SYSTEM, STEP, seconds, "step_options") for seconds in size["step_lengths"]]
    outcomes, times, extra = {}, {}, {}
    for *point, options in points:
        name, arguments = NAME.format(*point), (*point, size[options], device)
        outcomes[name], found = run_isolated(measure_point, *arguments, **limits)
        if found:
            times[name], extra[name] = [found[0]], found[1]
    comparisons = []
    for work in (FORWARD, TRAINING):
        for of, base in zip(("time", "memory"), size["bases"], strict=True):
            label = f"{of} per second of audio, {lengths[-1]} s against {base} s, {work}"
            sides = [NAME.format(LINEAR, work, seconds) for seconds in (lengths[-1], base)]
            comparisons.append(Comparison(label, *sides, TARGET, of, "<="))
    label, details = "growth of SummaryMixing", {"outcomes": outcomes}
    return Benchmark(label, {}, comparisons, times=times, extra_bytes=extra, details=details)


def measure_point(model, work, seconds, options, device="cpu"):
    """Time (median after the first call) and extra bytes (of the first) per second of audio."""
    keep_freed_memory()
    make_call = make_work(model, work, options, device)
    make_call(1)()  # gradients, optimizer state, threads, buffers of libraries
    call = make_call(seconds)
    extra_bytes = peak_growth(call, device)
    threads = torch.get_num_threads()
    timer = Timer("call()", globals={"call": call}, num_threads=threads)
    took = timer.blocked_autorange(min_run_time=TIMER_SECONDS).median
    return took / seconds, extra_bytes / seconds


def make_work(model, work, options, device="cpu"):
    """A function from seconds of audio to a call that does the work on them."""
    torch.manual_seed(0)
    if work == STEP:
        step = make_brain(model, device, **options).fit_batch
        return lambda seconds: partial(step, make_batch(make_waves(1, seconds, device)))
    training = work == TRAINING
    encoder = make_encoder(mixer=model, **options).to(device).train(training)

    def call(mel):
        with torch.set_grad_enabled(training):
            out = encoder(mel)[0]
        if training:
            out.sum().backward()

    frames = TOKEN_RATE * STACK
    return lambda seconds: partial(call, torch.randn(1, seconds * frames, BANDS, device=device))


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
    while peak_resident() <= max_bytes:
        sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)  # torch's errors where memory runs out are many
