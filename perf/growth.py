"""Growth of time and memory with the length of the audio: measured, as tables, as a picture."""

import os
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.ticker import FormatStrFormatter
from torch.utils.benchmark import Timer

from perf.benchmark import (
    AT_MOST,
    MEASURED,
    Benchmark,
    Comparison,
    clock,
    make_result,
    peak_growth,
    quartiles,
    release_memory,
    run_here,
    run_isolated,
)
from perf.training import TINY, TrainingStep, make_batch, make_waves
from speechbrain_music.models.encoder import MIXERS, make_encoder
from speechbrain_music.models.frontend import BANDS, STACK, TOKEN_RATE
from speechbrain_music.reporting.pictures import picture
from speechbrain_music.utils.memory import keep_freed_memory

FORWARD, TRAINING, STEP = "forward", "forward + backward", "training step"
WORKS = (FORWARD, TRAINING)
LINEAR = "summary"  # the mixer that has a target
SYSTEM = "brn_sum"  # whose whole training step is measured too
TARGET = 1.1
TIMER_SECONDS = 0.2  # of calls in a process
TINY_ENCODER = {"num_layers": 1, "d_model": 16, "ffn_units": 32, "frontend_channels": 2}


class Point(NamedTuple):
    """What is measured: a mixing (or a system), the work, and the length of one item."""

    model: str
    work: str
    audio_seconds: int

    def __str__(self):
        return f"{self.model}, {self.work}, {self.audio_seconds} s"


class Plan(NamedTuple):
    """Lengths, models, repetitions and limits of a size."""

    seconds: tuple  # of audio, for an encoder
    step_seconds: tuple  # of audio, for a training step
    encoder: dict  # its options
    system: dict  # options of the system's yaml
    rounds: int = 3  # of the linear mixing; the others are measured once
    base: int = 60  # the shorter length of the comparisons of time
    memory_base: int = 30  # and of memory
    max_bytes: int = 16 * 2**30  # of a process
    max_seconds: float = 120


PLANS = {
    "full": Plan(
        (10, 30, 60, 120, 300, 600), (30, 60, 120, 300), {"num_layers": 2, "d_model": 512}, {}
    ),
    "quick": Plan(
        (10, 30, 60),
        (10, 30),
        {"num_layers": 1, "d_model": 512},
        {"num_layers": 2},
        *(1, 30, 30, 4 * 2**30, 10),
    ),
    "tiny": Plan((1, 2), (1, 2), TINY_ENCODER, TINY, *(1, 1, 1, 4 * 2**30, 30)),
}
NOTE = (
    "One item of audio through an encoder ({encoder}; front-end included), with dropout in "
    "forward + backward. {isolation}; calls after the first are timed, of SummaryMixing in "
    "{rounds} rounds. Memory is the peak of the first call beyond weights and gradients. Rotary "
    "attention is torch's, which holds no matrix of all pairs, except with dropout on a CPU."
)
ISOLATED = "Each point has a process of its own, ended at {gib:.0f} GiB or {seconds:g} s"
TOGETHER = "All points share one process and the whole GPU; the training step is in bfloat16"


def growth(size="full", device="cpu", seconds=0, plan=None):
    """Measure all points; the plan, not `seconds`, says how often.

    Times and memory of the returned dict are per second of audio; `points` holds each point's
    outcome, call_seconds and extra_bytes.
    """
    plan = plan or PLANS[size]
    release_memory()  # of benchmarks before, in this process
    max_bytes = min(plan.max_bytes, available_bytes() * 4 // 5)
    run = partial(run_isolated, max_bytes=max_bytes, max_seconds=plan.max_seconds)
    isolation = ISOLATED.format(gib=max_bytes / 2**30, seconds=plan.max_seconds)
    if device == "cuda":
        run, isolation = run_here, TOGETHER
    points = [
        *(Point(model, work, s) for s in plan.seconds for model in MIXERS for work in WORKS),
        *(Point(SYSTEM, STEP, s) for s in plan.step_seconds),
    ]
    outcomes = dict.fromkeys(points, MEASURED)
    samples = {point: [] for point in points}
    for again in range(plan.rounds):
        for point in points:
            if outcomes[point] != MEASURED or (again and point.model != LINEAR):
                continue
            options = plan.system if point.work == STEP else plan.encoder
            outcomes[point], sample = run(measure_point, point, options, device)
            samples[point].append(sample)
    found = {point: samples[point] for point in points if outcomes[point] == MEASURED}
    times = {str(p): [s / p.audio_seconds for s, _ in found[p]] for p in found}
    extra = {str(p): max(b for _, b in found[p]) / p.audio_seconds for p in found}
    encoder = {"block": "branchformer", **plan.encoder}
    options = ", ".join(f"{name} {value}" for name, value in encoder.items())
    note = NOTE.format(encoder=options, isolation=isolation, rounds=plan.rounds)
    benchmark = Benchmark("growth of SummaryMixing", {}, _comparisons(plan), note=note)
    return {
        **make_result(benchmark, times, extra),
        "rounds": plan.rounds,
        "encoder": encoder,
        "limits": {"bytes": max_bytes, "seconds": plan.max_seconds},
        "points": [
            {
                **point._asdict(),
                "outcome": outcomes[point],
                "call_seconds": quartiles([s for s, _ in found[point]]) if point in found else None,
                "extra_bytes": max(b for _, b in found[point]) if point in found else None,
            }
            for point in points
        ],
    }


def available_bytes():
    """Memory that processes can take now; all of the machine's where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 1024 * int(re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()).group(1))


def _comparisons(plan):
    long = plan.seconds[-1]
    return [
        Comparison(
            f"{of} per second of audio, {long} s against {base} s, {work}",
            str(Point(LINEAR, work, long)),
            str(Point(LINEAR, work, base)),
            *(TARGET, of, AT_MOST),
        )
        for work in WORKS
        for of, base in (("time", plan.base), ("memory", plan.memory_base))
    ]


def measure_point(point, options, device="cpu"):
    """Seconds of a call (median after the first) and extra bytes of the first, in this process."""
    keep_freed_memory()
    work = make_work(point, options, device)
    work(1)()  # gradients, optimizer state, threads, buffers of libraries
    call = work(point.audio_seconds)
    extra_bytes = peak_growth(call, device)
    threads = torch.get_num_threads()
    timer = Timer("call()", timer=clock(device), globals={"call": call}, num_threads=threads)
    return timer.blocked_autorange(min_run_time=TIMER_SECONDS).median, extra_bytes


def make_work(point, options, device="cpu"):
    """A function from seconds of audio to a call that does the point's work on them."""
    torch.manual_seed(0)
    if point.work == STEP:
        step = TrainingStep(point.model, device, **options)
        return lambda seconds: partial(step, make_batch(make_waves(1, seconds, device)))
    training = point.work == TRAINING
    encoder = make_encoder(mixer=point.model, **options).to(device).train(training)

    def call(mel):
        with torch.set_grad_enabled(training):
            out = encoder(mel)[0]
        if training:
            out.sum().backward()

    frames = TOKEN_RATE * STACK
    return lambda seconds: partial(call, torch.randn(1, seconds * frames, BANDS, device=device))


# ---- the table's rows and the picture ----

PANELS = (  # figure per second of audio, its factor, its unit
    ("call_seconds", 1e3, "ms per second of audio"),
    ("extra_bytes", 2**-20, "MiB per second of audio"),
)
COLOURS = {"summary": "tab:blue", "attention": "tab:red", "rope": "tab:orange"}
LINES = {TRAINING: "-", FORWARD: "--"}


def per_second(point, key):
    """A measured point's call_seconds or extra_bytes per second of its audio."""
    value = point[key]["median"] if key == "call_seconds" else point[key]
    return value / point["audio_seconds"]


def by_model(points):
    """(model, work) -> {seconds of audio: point}."""
    series = {}
    for point in points:
        series.setdefault((point["model"], point["work"]), {})[point["audio_seconds"]] = point
    return series


def draw(result, path):
    """Draw time and memory per second of audio over its length into a PNG.

    A line that ends early ends with a cross and the reason.
    """
    points = [point for point in result["points"] if point["work"] != STEP]
    lengths = sorted({point["audio_seconds"] for point in points})
    with picture(path, (12, 5.6)) as figure:
        panels = figure.subplots(1, 2)
        for axes, (key, factor, unit) in zip(panels, PANELS, strict=True):
            axes.set(xscale="log", yscale="log", xlabel="length of the audio (s)", ylabel=unit)
            for (model, work), series in by_model(points).items():
                _draw_line(axes, model, work, series, key, factor)
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.set_xticks([], minor=True)
            axes.set_xlim(lengths[0] * 0.8, lengths[-1] * 2)
            for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                set_formatter(FormatStrFormatter("%g"))
            axes.tick_params(axis="y", which="minor", labelsize=7)
            axes.grid(alpha=0.3, which="both")
        if panels[0].lines:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
        layers = result["encoder"]["num_layers"]
        figure.suptitle(
            f"Branchformer encoder of {layers} blocks: time and memory (flat is linear growth)"
        )


def _draw_line(axes, model, work, series, key, factor):
    series = [point for _, point in sorted(series.items())]
    measured = [point for point in series if point["outcome"] == MEASURED]
    if not measured:
        return
    xy = [(point["audio_seconds"], factor * per_second(point, key)) for point in measured]
    style = {"color": COLOURS[model], "marker": ".", "label": f"{model}, {work}"}
    axes.plot(*zip(*xy, strict=True), LINES[work], **style)
    lost = [point for point in series if point["outcome"] != MEASURED]
    if lost:
        axes.plot(*xy[-1], marker="x", ms=11, mew=2, color=COLOURS[model])
        reason = f"  {lost[0]['audio_seconds']} s: {lost[0]['outcome']}"
        axes.text(*xy[-1], reason, color=COLOURS[model], fontsize=8, va="bottom")
