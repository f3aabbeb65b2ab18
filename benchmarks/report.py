"""What a run of the benchmarks writes down: RESULTS.md to read, results.json to compute with."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks import ROWS
from benchmarks.contest import AT_LEAST, PRODUCTS
from benchmarks.growth_report import draw, tables
from benchmarks.timing import three_digits
from speechbrain_music.utils.atomic import write_together

HEADER = """# Benchmarks

Written by `{command}` on {date}; every figure is in `{raw}`.
Machine: {machine}.

Contenders share one process, one setting and the same inputs and weights, and take turns; those
that should agree were checked to agree first. Times are medians; a ratio is theirs / ours, the
median over rounds of the ratio within a round, with its quartiles; where the reach is an upper
bound, it is ours / theirs. {memory}

| what | ours | theirs | ratio | reach | |
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


def table(rows, facts, command, device="cpu", date=None):
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
    date : str, optional
        When, if not today.
    """
    text = HEADER.format(
        command=command,
        date=date or today(),
        machine=in_words(facts),
        raw=f"results{_suffix(device)}.json",
        memory=GPU_MEMORY if device == "cuda" else CPU_MEMORY,
    )
    remarks, sections = [], []
    for name, row in rows.items():
        if row.get("made"):
            remarks.append(_made_apart(name, row["made"]))
        if row.get("note"):
            remarks.append(f"- {name}: {row['note']}")
        if name in SECTIONS:
            sections.append(SECTIONS[name](row))
        if name in APART:
            continue
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
    text += "\n" + "\n".join(remarks) + "\n" if remarks else ""
    return "\n".join([text, *sections]) if sections else text


def _made_apart(name, made):
    return (
        f"- {name}: was made apart by `{made['command']}` on {made['date'][:10]}; "
        f"machine: {in_words(made['machine'])}."
    )


def parts_table(row):
    """The section on a step's parts: their times, and their shares of the whole.

    Example
    -------
    >>> spread = {"median": 0.5, "lower": 0.4, "upper": 0.6}
    >>> claim = {"what": "step: mel", "ours": "mel", "theirs": "whole", "ratio": spread}
    >>> row = {"claims": [claim], "seconds": {"mel": {"median": 1}, "whole": {"median": 2}}}
    >>> parts_table(row).splitlines()[-2]
    '| mel | 1000 ms | 50.0% (40.0% to 60.0%) |'
    """
    whole = row["claims"][0]["theirs"]
    lines = [
        f"## Parts of a step\n\nOf a {row['claims'][0]['what'].partition(':')[0]}:\n",
        "| part | time | share of the step |",
        "|---|---:|---:|",
    ]
    for claim in row["claims"]:
        share = {name: f"{value:.1%}" for name, value in claim["ratio"].items()}
        lines.append(
            f"| {claim['ours']} | {_time(row, claim['ours'])} | "
            f"{share['median']} ({share['lower']} to {share['upper']}) |"
        )
    return "\n".join([*lines, f"| {whole} | {_time(row, whole)} | 100% |", ""])


def growth_section(row):
    """The section on growth: the picture and its tables.

    Example
    -------
    >>> growth_section({"cells": []}).splitlines()[0]
    '## Growth with the length'
    """
    return f"## Growth with the length\n\n![time and memory](growth.png)\n\n{tables(row)}"


SECTIONS = {"parts": parts_table, "growth": growth_section}
APART = {"parts"}  # whose claims stand in the section only


def cause(claim, shares):
    """A line on where the time of a claim goes that is not reached."""
    spent = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    text = f"- {claim['what']}: its time goes to {spent}"
    if PRODUCTS in shares and claim["theirs"] != "products":
        bound = claim["ratio"]["median"] / shares[PRODUCTS]
        text += f"; with all but the products free of cost the ratio would be {bound:.2f}"
    return text + "."


def _figure(row, name, of):
    if name not in row["extra_bytes" if of == "memory" else "seconds"]:
        return f"{name}: not measured"
    if of == "memory":
        return f"{row['extra_bytes'][name] / 2**20:.1f} MiB"
    rate = f" ({row['gflops'][name]:.0f} GFLOP/s)" if name in row["gflops"] else ""
    return f"{name}: {_time(row, name)}{rate}"


def _time(row, name):
    return f"{three_digits(1e3 * row['seconds'][name]['median'])} ms"


def ratio(claim):
    """A claim's ratio, of times with its quartiles."""
    value = claim["ratio"]
    if value is None:
        return "not measured"
    spread = f" ({value['lower']:.2f} to {value['upper']:.2f})" if claim["of"] == "time" else ""
    return f"{value['median']:.2f}{spread}"


def _verdict(claim):
    if claim["reach"] is None:
        return " | "
    bound = claim.get("bound", AT_LEAST)
    text = f"{bound} {claim['reach']:g} | "
    if claim["met"]:
        return text + "met"
    if claim["ratio"] is None:
        return text + "not met"
    part = claim["ratio"]["median"] / claim["reach"]
    return text + (f"short by {1 - part:.0%}" if bound == AT_LEAST else f"over by {part - 1:.0%}")


def write(folder, rows, facts, command, device="cpu"):
    """Writes RESULTS.md and results.json into a folder, all or nothing; growth's files too.

    Rows that are not all there are take the place of those of the same name that the folder has,
    each with the command, date and machine of its own.

    Arguments
    ---------
    folder : path
        Made if it is not there. A GPU's files have names of their own.
    rows, facts, command, device
        As for `table`.
    """
    folder, suffix = Path(folder), _suffix(device)
    raw_name, page = folder / f"results{suffix}.json", folder / f"RESULTS{suffix.upper()}.md"
    made = {"command": command, "date": _now(), "machine": facts}
    raw = {**made, "rows": rows}
    if set(rows) < set(ROWS) and raw_name.exists():
        raw = json.loads(raw_name.read_text(encoding="utf-8"))
        raw["rows"] |= {name: {**row, "made": made} for name, row in rows.items()}
        raw["rows"] = {name: raw["rows"][name] for name in ROWS if name in raw["rows"]}
    text = table(raw["rows"], raw["machine"], raw["command"], device, raw["date"][:10])
    files = {raw_name: _dump(raw), page: text.replace("growth.png", f"growth{suffix}.png")}
    if "growth" in rows:
        growth = {**made, **rows["growth"]}
        draw(growth, folder / f"growth{suffix}.png")
        files = {folder / f"growth{suffix}.json": _dump(growth), **files}
    write_together(files)


def _suffix(device):
    return "_cuda" if device == "cuda" else ""


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")


def _dump(raw):
    return json.dumps(raw, indent=2) + "\n"


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
    raw = {"command": command, "date": _now(), "machine": facts, **figures}
    markdown, raw_name = (Path(folder) / name for name in names)
    write_together({raw_name: _dump(raw), markdown: text})
