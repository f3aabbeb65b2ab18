"""The pages of docs/results/speed and their JSON, one file per device."""

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch
import yaml

from speechbrain_music.reporting.tables import markdown_page, markdown_table
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran

# Of a device's page: title, introduction.
PAGES = yaml.safe_load(Path(__file__).with_name("pages.yaml").read_text(encoding="utf-8"))
SIDES = ("candidate", "baseline")  # of a comparison


def describe_run(command):
    """Command, date, commit and machine of a run."""
    git = f"git -C {shlex.quote(str(Path(__file__).parent))} describe --always --dirty"
    commit = subprocess.getoutput(f"{git} 2>/dev/null || echo unknown")
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    machine = f"{where_it_ran()}, torch threads {torch.get_num_threads()}"
    machine += f", load average {os.getloadavg()[0]:.1f}"
    return {"command": command, "date": date, "commit": commit, "machine": machine}


def write(folder, device, name, result, order):
    """Write a result into a folder's JSON and page of a device, in place of one of that name.

    Returns the page's text.
    """
    path = Path(folder, f"{device}.json")
    merged = read(path) | {name: result}
    found = {name: merged[name] for name in order if name in merged}
    text, dump = page(device, found), json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_together({path: dump, path.with_suffix(".md"): text})
    return text


def read(path):
    """The results in a JSON file; none if it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def page(device, found):
    """Markdown of a device, from name -> result."""
    title, introduction = PAGES[device]
    blocks = [block for result in found.values() for block in _section(result)]
    return markdown_page(f"# {title}", introduction, *blocks, "## Runs", *_runs(found))


def _section(result):
    """A benchmark's heading, tables and conditions."""
    yield f"## {result['label']}"
    if "outcomes" in result:
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
    ms = {name: f"{_three_digits(1e3 * of['median'])} ms" for name, of in result["seconds"].items()}
    mib = {name: f"{size / 2**20:.1f} MiB" for name, size in result["extra_bytes"].items()}
    outcomes, rows = {None: "", True: "met", False: "**missed**"}, []
    for c in result["comparisons"]:
        figures = mib if c["of"] == "memory" else ms
        sides = [f"{name}: {figures.get(name, 'not measured')}" for name in map(c.get, SIDES)]
        target = f"{c['bound']} {c['target']:g}" if c["target"] else ""
        rows.append([c["sub_label"], *sides, _ratio(c), target, outcomes[c["met"]]])
    head = ["", *SIDES, "ratio (quartiles)", "target", "result"]
    yield markdown_table(head, rows, "   rr")
    yield f"{result['rounds']} rounds. {result['note']}".strip()


def _growth(result):
    """Tables of time and memory: a row per model and work, a column per length in seconds."""
    ms = {name: _three_digits(1e3 * of["median"]) for name, of in result["seconds"].items()}
    mib = {name: _three_digits(size / 2**20) for name, size in result["extra_bytes"].items()}
    for unit, figures in {"ms": ms, "MiB": mib}.items():
        cells = pd.Series(result["outcomes"] | figures)
        cells.index = cells.index.str.rsplit(", ", n=1, expand=True)
        table = cells.unstack(fill_value="", sort=False)
        head = [f"{unit} per second of audio", *table]
        yield markdown_table(head, table.reset_index().values, " ".ljust(len(head), "r"))


def _three_digits(value):
    return f"{float(f'{value:.3g}'):g}"


def _ratio(comparison):
    """A comparison's ratio, that of times with its quartiles."""
    if comparison["ratio"] is None:
        return "not measured"
    median, low, high = (f"{comparison['ratio'][key]:.2f}" for key in ("median", "q1", "q3"))
    return median if comparison["of"] == "memory" else f"{median} ({low} to {high})"


def _runs(found):
    """A table of commands and machines, then remarks."""
    runs = pd.DataFrame([{"names": name, "remark": ""} | of["run"] for name, of in found.items()])
    runs["command"] = "`" + runs["command"] + "`"
    columns = ["command", "date", "commit", "machine"]
    runs = runs.groupby([*columns, "remark"], sort=False)["names"].agg(", ".join).reset_index()
    yield markdown_table(["benchmarks", *columns], runs[["names", *columns]].values)
    yield from runs["remark"]
