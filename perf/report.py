"""The pages of docs/results/speed and their JSON, one file per device."""

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml

from speechbrain_music.reporting.tables import markdown_page, markdown_table
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran

DEVICES = {"cpu": "a CPU", "cuda": "a GPU"}
# Of a page: title, introduction.
PAGES = yaml.safe_load(Path(__file__).with_name("pages.yaml").read_text(encoding="utf-8"))


def describe_run(command):
    """Command, date, commit and machine of a run."""
    git = f"git -C {shlex.quote(str(Path(__file__).parent))} describe --always --dirty"
    commit = subprocess.getoutput(f"{git} 2>/dev/null || echo unknown")
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    machine = f"{where_it_ran()}, torch threads {torch.get_num_threads()}"
    machine += f", load average {os.getloadavg()[0]:.1f}"
    return {"command": command, "date": date, "commit": commit, "machine": machine}


def write(folder, device, name, result, order):
    """Write a result into a folder's JSON, in place of one of that name, and all its pages.

    Returns the text of the result's page.
    """
    folder = Path(folder)
    found = {name: read(folder / f"{name}.json") for name in DEVICES}
    merged = found[device] | {name: result}
    found[device] = {name: merged[name] for name in order if name in merged}
    dump = json.dumps(found[device], indent=2, ensure_ascii=False) + "\n"
    texts = pages(found)
    write_together(
        {folder / f"{device}.json": dump} | {folder / page: text for page, text in texts.items()}
    )
    return texts[f"{name if name in PAGES else device}.md"]


def read(path):
    """The results in a JSON file; none if it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def pages(found):
    """File name -> Markdown, from device -> name -> result."""
    sections, runs = {}, {}
    for device, results in found.items():
        for name, result in results.items():
            alone = name in PAGES
            page, heading = (name, f"On {DEVICES[device]}") if alone else (device, result["label"])
            sections.setdefault(page, []).extend([f"## {heading}", *_section(name, result)])
            runs.setdefault(page, []).append((name, result["run"]))
    texts = {}
    for page, blocks in sections.items():
        title, introduction = PAGES[page]
        texts[f"{page}.md"] = markdown_page(
            f"# {title}", introduction, *blocks, "## Runs", *_runs(runs[page])
        )
    return texts


def _section(name, result):
    """The tables of a benchmark and its conditions."""
    if name == "growth":
        yield from _growth(result)
    if models := result.get("models"):  # that embed a file
        seconds = {key: result["seconds"][key] for key in models}
        rows = [
            [key, f"{model['parameters'] / 1e6:.1f} M", model["token_rate"]]
            + [f"{result['audio_seconds'] / seconds[key]['median']:.1f}", model["what"]]
            for key, model in models.items()
        ]
        head = ["model", "parameters", "tokens per second of audio", "audio seconds per second"]
        yield markdown_table([*head, ""], rows, " rrr")
    outcomes = {None: "", True: "met", False: "**missed**"}
    rows = [
        [c["sub_label"], *(_figure(result, c[x], c["of"]) for x in ("candidate", "baseline"))]
        + [_ratio(c), c["target"] and f"{c['bound']} {c['target']:g}" or "", outcomes[c["met"]]]
        for c in result["comparisons"]
    ]
    head = ["", "candidate", "baseline", "ratio (quartiles)", "target", "result"]
    yield markdown_table(head, rows, "   rr")
    yield f"{result['rounds']} rounds. {result['note']}".strip()


def _growth(result):
    """Tables of time and memory: a row per model and work, a column per length in seconds."""
    ms = {name: 1e3 * figure["median"] for name, figure in result["seconds"].items()}
    mib = {name: size / 2**20 for name, size in result["extra_bytes"].items()}
    points = [name.removesuffix(" s").rsplit(", ", 1) for name in result["outcomes"]]
    lengths = sorted({int(length) for _, length in points})
    for unit, figures in {"ms": ms, "MiB": mib}.items():
        cells = result["outcomes"] | figures
        rows = [
            [line, *(_three_digits(cells.get(f"{line}, {n} s", "")) for n in lengths)]
            for line in dict.fromkeys(line for line, _ in points)
        ]
        head = [f"{unit} per second of audio", *(f"{n} s" for n in lengths)]
        yield markdown_table(head, rows, " ".ljust(len(head), "r"))


def _figure(result, name, of="time"):
    """A candidate with its time or memory."""
    figures = result["extra_bytes"] if of == "memory" else result["seconds"]
    if name not in figures:
        return f"{name}: not measured"
    if of == "memory":
        return f"{name}: {figures[name] / 2**20:.1f} MiB"
    return f"{name}: {_three_digits(1e3 * figures[name]['median'])} ms"


def _three_digits(value):
    return value if isinstance(value, str) else f"{float(f'{value:.3g}'):g}"


def _ratio(comparison):
    """A comparison's ratio, that of times with its quartiles."""
    if comparison["ratio"] is None:
        return "not measured"
    median, low, high = (f"{comparison['ratio'][key]:.2f}" for key in ("median", "q1", "q3"))
    return median if comparison["of"] == "memory" else f"{median} ({low} to {high})"


def _runs(runs):
    """A table of commands and machines, then remarks."""
    found = [run for index, (_, run) in enumerate(runs) if run not in [r for _, r in runs[:index]]]
    rows = [
        [", ".join(name for name, of in runs if of == run), f"`{run['command']}`"]
        + [run[key] for key in ("date", "commit", "machine")]
        for run in found
    ]
    yield markdown_table(["benchmarks", "command", "date", "commit", "machine"], rows)
    yield from (run.get("remark", "") for run in found)
