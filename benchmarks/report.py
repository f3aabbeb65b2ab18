"""What a run of the benchmarks writes down: RESULTS.md to read, results.json to compute with."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.contest import PRODUCTS
from speechbrain_music.utils.atomic import write_together

HEADER = """# Benchmarks

Written by `{command}` on {date}; every figure is in `results.json`.
Machine: {machine}.

Contenders share one process, one setting and the same inputs and weights, and take turns; those
that should agree were checked to agree first. Times are medians; a ratio is theirs / ours, the
median over rounds of the ratio within a round, with its quartiles. {memory}

| what | ours | theirs | theirs / ours | reach | |
|---|---|---|---|---|---|
"""
CPU_MEMORY = (
    "On all sides glibc keeps freed memory (`utils/memory.py`): without it every side is slower, "
    "by page faults. Extra memory is the growth of a fresh process's peak during one call."
)
GPU_MEMORY = "Extra memory is the growth of the peak of torch's allocator during one call."


def machine(device):
    """What the figures depend on, in words: processor, threads, memory, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "torch threads": torch.get_num_threads(),
        "memory": f"{memory:.0f} GiB",
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "speechbrain": version("speechbrain"),
        "load average at the start": round(os.getloadavg()[0], 1),
    }
    if device == "cuda":
        facts["GPU"] = torch.cuda.get_device_name()
    return {name: fact for name, fact in facts.items() if fact is not None}


def in_words(facts):
    """Those of `machine` in one line."""
    return ", ".join(f"{name} {fact}" for name, fact in facts.items())


def today():
    """The date in UTC, as 2026-01-31."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(rows, facts, command, device="cpu"):
    """RESULTS.md as text.

    Arguments
    ---------
    rows : dict
        Name -> what `contest.measure` returned.
    facts : dict
        Of `machine`.
    command : str
        How it was started.
    device : str
        "cpu" or "cuda".
    """
    text = HEADER.format(
        command=command,
        date=today(),
        machine=in_words(facts),
        memory=GPU_MEMORY if device == "cuda" else CPU_MEMORY,
    )
    remarks = []
    for row in rows.values():
        for claim in row["claims"]:
            ours, theirs = (_figure(row, claim[side], claim["of"]) for side in ("ours", "theirs"))
            text += (
                f"| {claim['what']} | {ours} | {theirs} | {ratio(claim)} | {_verdict(claim)} |\n"
            )
            if claim["met"] is False and claim["ours"] in row["shares"]:
                remarks.append(cause(claim, row["shares"][claim["ours"]]))
        if not row["claims"]:
            text += "".join(
                f"| {name} | {_figure(row, name, 'time')} | | | | |\n" for name in row["seconds"]
            )
    return text + ("\n" + "\n".join(remarks) + "\n" if remarks else "")


def cause(claim, shares):
    """A line on where the time of a claim goes that is not reached."""
    spent = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    text = f"- {claim['what']}: its time goes to {spent}"
    if PRODUCTS in shares and claim["theirs"] != "products":
        bound = claim["ratio"]["median"] / shares[PRODUCTS]
        text += f"; with all but the products free of cost the ratio would be {bound:.2f}"
    return text + "."


def _figure(row, name, of):
    if of == "memory":
        return f"{row['extra_bytes'][name] / 2**20:.1f} MiB"
    rate = f" ({row['gflops'][name]:.0f} GFLOP/s)" if name in row["gflops"] else ""
    return f"{name}: {1e3 * row['seconds'][name]['median']:.3g} ms{rate}"


def ratio(claim):
    """A claim's ratio, of times with its quartiles."""
    value = claim["ratio"]
    spread = f" ({value['lower']:.2f} to {value['upper']:.2f})" if claim["of"] == "time" else ""
    return f"{value['median']:.2f}{spread}"


def _verdict(claim):
    if claim["reach"] is None:
        return " | "
    missing = 1 - claim["ratio"]["median"] / claim["reach"]
    return f">= {claim['reach']} | " + ("met" if claim["met"] else f"short by {missing:.0%}")


def write(folder, rows, facts, command, device="cpu"):
    """Writes RESULTS.md and results.json into a folder, both or neither.

    Arguments
    ---------
    folder : path
        Made if it is not there.
    rows, facts, command, device
        As for `table`.
    """
    text = table(rows, facts, command, device)
    write_pair(folder, ("RESULTS.md", "results.json"), text, facts, command, rows=rows)


def write_pair(folder, names, text, facts, command, **figures):
    """Writes a text and what it was made of, both or neither.

    Arguments
    ---------
    folder : path
        Made if it is not there.
    names : tuple of str
        Of the text and of the JSON.
    text : str
        To read.
    facts, command
        As for `table`.
    **figures
        To compute with: plain values.
    """
    date = datetime.now(UTC).isoformat(timespec="seconds")
    raw = {"command": command, "date": date, "machine": facts, **figures}
    markdown, raw_name = (Path(folder) / name for name in names)
    write_together({raw_name: json.dumps(raw, indent=2) + "\n", markdown: text})
