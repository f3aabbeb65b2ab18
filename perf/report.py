"""The pages of docs/results/speed and their JSON, one file per device."""

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from speechbrain_music.reporting.pages import render
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran

PAGE = Path(__file__).with_name("templates") / "speed.md"


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
    merged = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    merged[name] = result
    found = {name: merged[name] for name in order if name in merged}
    text, dump = page(device, found), json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_together({path: dump, path.with_suffix(".md"): text})
    return text


def page(device, found):
    """Markdown of a device, from name -> result."""
    runs = pd.DataFrame([{"names": name, "remark": ""} | of["run"] for name, of in found.items()])
    runs = runs.groupby(["command", "date", "commit", "machine", "remark"], sort=False)
    return render(
        PAGE,
        device=device,
        found=found,
        growth={name: _growth(result) for name, result in found.items() if "outcomes" in result},
        three_digits=_three_digits,
        runs=runs["names"].agg(", ".join).reset_index().to_dict("records"),
    )


def _growth(result):
    """Time and memory: unit -> model and work -> length -> text."""
    ms = {name: _three_digits(1e3 * of["median"]) for name, of in result["seconds"].items()}
    mib = {name: _three_digits(size / 2**20) for name, size in result["extra_bytes"].items()}
    tables = {}
    for unit, figures in {"ms": ms, "MiB": mib}.items():
        cells = pd.Series(result["outcomes"] | figures)
        cells.index = cells.index.str.rsplit(", ", n=1, expand=True)
        tables[unit] = cells.unstack(fill_value="", sort=False).to_dict("index")
    return tables


def _three_digits(value):
    return f"{float(f'{value:.3g}'):g}"
