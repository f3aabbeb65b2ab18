"""The row of growth: how time and memory grow with the length of the audio."""

from typing import NamedTuple

from benchmarks.cells import (
    FORWARD,
    MEASURED,
    STEP,
    TRAINING,
    Cell,
    Limits,
    attempt,
    run_cell,
    supervise,
)
from benchmarks.contest import AT_MOST, Claim, settle
from benchmarks.timing import Spread, release_memory

MIXINGS, WORKS = ("summary", "attention", "rope"), (FORWARD, TRAINING)
LINEAR = "summary"  # the one with something to reach
SYSTEM = "brn_sum"  # whose whole training step is measured too
REACH = 1.1


class Plan(NamedTuple):
    """What is measured at a size; see `PLANS`.

    Example
    -------
    >>> PLANS["full"].seconds[-1], PLANS["full"].base
    (600, 60)
    """

    seconds: tuple  # of audio, of an encoder's item
    step_seconds: tuple  # of a training step's item
    encoder: dict  # its options
    system: dict  # what the system's yaml is told
    rounds: int  # of the linear mixing's cells; the others are measured once
    base: int  # seconds of audio beside which time a second of audio is held
    memory_base: int  # the same for memory
    limits: Limits


PLANS = {
    "full": Plan(
        (10, 30, 60, 120, 300, 600),
        (30, 60, 120, 300),
        {"num_layers": 2, "d_model": 512},
        {},
        rounds=3,
        base=60,
        memory_base=30,
        limits=Limits(16 * 2**30, 120),
    ),
    "quick": Plan(
        (10, 30, 60),
        (10, 30),
        {"num_layers": 1, "d_model": 512},
        {"num_layers": 2},
        rounds=1,
        base=30,
        memory_base=30,
        limits=Limits(4 * 2**30, 10),
    ),
    "tiny": Plan(
        (1, 2),
        (1, 2),
        {"num_layers": 1, "d_model": 16, "ffn_units": 32, "frontend_channels": 2},
        {"num_layers": 1, "d_model": 16, "ffn_units": 32, "codebook_size": 64},
        rounds=1,
        base=1,
        memory_base=1,
        limits=Limits(4 * 2**30, 30),
    ),
}
NOTE = (
    "One item of audio in an encoder ({encoder}; front-end included), dropout as in training "
    "where it goes backward, else none. {cells}; a call after the first is timed, of SummaryMixing "
    "in {rounds} rounds. Memory is the peak of the first call beyond weights and gradients. Claims "
    "compare a second of audio in the longest item with one in a shorter item. Rotary attention is "
    "torch's, which forward holds no matrix of all pairs; with dropout, on a CPU, it does."
)
APART = "Each cell is a process of its own, which ends at {gib:.0f} GiB or {seconds:g} s"
TOGETHER = "All cells share one process and the whole GPU, the training step in bfloat16"


def measure(size="full", device="cpu", seconds=0, plan=None):
    """Measures all cells, and settles what the linear mixing is to reach.

    Arguments
    ---------
    size : str
        "full", "quick" or "tiny".
    device : str
        "cpu" or "cuda".
    seconds : float
        Not used: the plan says how often.
    plan : Plan, optional
        Instead of the size's.

    Returns
    -------
    dict
        As `contest.measure`, where times and memory are those of a second of audio, and cells: a
        dict of each Cell's fields, outcome, call_seconds (a Spread's) and extra_bytes.

    Example
    -------
    >>> plan = PLANS["tiny"]._replace(seconds=(1,), step_seconds=())
    >>> {cell["outcome"] for cell in measure(plan=plan)["cells"]}
    {'measured'}
    """
    plan = plan or PLANS[size]
    release_memory()  # of rows before, in this process
    limits = Limits.here(plan.limits)
    on_gpu = device == "cuda"  # whose memory the allocator counts, and gives back
    within = attempt if on_gpu else lambda work, *of: supervise(work, limits, *of)
    cells = [
        *(Cell(what, work, s) for s in plan.seconds for what in MIXINGS for work in WORKS),
        *(Cell(SYSTEM, STEP, s) for s in plan.step_seconds),
    ]
    outcomes = dict.fromkeys(cells, MEASURED)
    samples = {cell: [] for cell in cells}
    for again in range(plan.rounds):
        for cell in cells:
            if outcomes[cell] != MEASURED or (again and cell.what != LINEAR):
                continue
            options = plan.system if cell.work == STEP else plan.encoder
            outcomes[cell], sample = within(run_cell, cell, options, device)
            samples[cell].append(sample)
    found = {cell: samples[cell] for cell in cells if outcomes[cell] == MEASURED}
    times = {str(c): [time / c.seconds for time, _ in found[c]] for c in found}
    extra = {str(c): max(bytes_ for _, bytes_ in found[c]) / c.seconds for c in found}
    encoder = {"block": "branchformer", **plan.encoder}
    return {
        "seconds": {name: Spread.of(values)._asdict() for name, values in times.items()},
        "rounds": plan.rounds,
        "gflops": {},
        "extra_bytes": extra,
        "claims": [settle(claim, times, extra) for claim in _claims(plan)],
        "note": NOTE.format(
            encoder=", ".join(f"{name} {value}" for name, value in encoder.items()),
            rounds=plan.rounds,
            cells=TOGETHER
            if on_gpu
            else APART.format(gib=limits.bytes / 2**30, seconds=limits.seconds),
        ),
        "shares": {},
        "encoder": encoder,
        "limits": limits._asdict(),
        "cells": [
            {
                **cell._asdict(),
                "outcome": outcomes[cell],
                "call_seconds": _spread(found[cell]) if cell in found else None,
                "extra_bytes": max(b for _, b in found[cell]) if cell in found else None,
            }
            for cell in cells
        ],
    }


def _spread(samples):
    return Spread.of([time for time, _ in samples])._asdict()


def _claims(plan):
    longest = plan.seconds[-1]
    return [
        Claim(
            f"growth, {LINEAR}, {work}: {quantity} a second of audio, {longest} s and {base} s",
            str(Cell(LINEAR, work, longest)),
            str(Cell(LINEAR, work, base)),
            REACH,
            of,
            AT_MOST,
        )
        for work in WORKS
        for quantity, of, base in (
            ("time", "time", plan.base),
            ("memory", "memory", plan.memory_base),
        )
    ]
