"""The pages of docs/results/speed and their JSON, one file per device."""

import json
import os
import platform
import re
import shlex
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
import yaml

from perf.embedding import BASELINES
from perf.growth import curves, draw
from speechbrain_music.reporting.tables import markdown_page, markdown_table
from speechbrain_music.utils.atomic import write_together

DEVICES = {"cpu": "a CPU", "cuda": "a GPU"}
# Of a page: title, introduction.
PAGES = yaml.safe_load(Path(__file__).with_name("pages.yaml").read_text(encoding="utf-8"))


def describe_run(command, device):
    """Command, date, commit and machine of a run."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text("utf-8")) if info.exists() else []
    machine = {
        "processor": (models or [platform.processor()])[0],
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "memory": f"{memory:.0f} GiB",
        "Python": platform.python_version(),
    }
    packages = [name for name in ("speechbrain", "transformers") if find_spec(name)]
    machine |= {"torch": torch.__version__} | {name: version(name) for name in packages}
    machine["load average at the start"] = round(os.getloadavg()[0], 1)
    if device == "cuda":
        machine["GPU"] = torch.cuda.get_device_name()
    git = f"git -C {shlex.quote(str(Path(__file__).parent))} describe --always --dirty"
    commit = subprocess.getoutput(f"{git} 2>/dev/null || echo unknown")
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return {"command": command, "date": date, "commit": commit, "machine": machine}


def write(folder, results, device, order):
    """Write results into a folder's JSON, in place of those of the same name, and all its pages."""
    folder = Path(folder)
    found = {name: read(folder / f"{name}.json") for name in DEVICES}
    merged = found[device] | results
    found[device] = {name: merged[name] for name in order if name in merged}
    if "growth" in results:
        draw(results["growth"], folder / f"growth_{device}.png")
    dump = json.dumps(found[device], indent=2, ensure_ascii=False) + "\n"
    texts = {folder / name: text for name, text in pages(found).items()}
    write_together({folder / f"{device}.json": dump, **texts})


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
            sections.setdefault(page, []).extend([f"## {heading}", *_section(name, device, result)])
            runs.setdefault(page, []).append((name, result["run"]))
    texts = {}
    for page, blocks in sections.items():
        title, introduction = PAGES[page]
        blocks += ["## Runs", *_runs(runs[page])]
        texts[f"{page}.md"] = markdown_page(f"# {title}", introduction, *blocks)
    return texts


def _section(name, device, result):
    """The tables of a benchmark and its conditions."""
    comparisons = result["comparisons"]
    if name == "growth":
        yield f"![Time and memory per second of audio, by length](growth_{device}.png)"
        for unit, lines in curves(result).items():
            lengths = sorted({length for line in lines.values() for length in line})
            rows = [[k, *(_three_digits(v.get(n, "")) for n in lengths)] for k, v in lines.items()]
            head = [unit, *(f"{length} s" for length in lengths)]
            yield markdown_table(head, rows, " ".ljust(len(head), "r"))
    if name == "embedding":
        yield _models(result)
        yield [f"- {name}: {model['what']}" for name, model in result["models"].items()]
        comparisons = [c for c in comparisons if c["target"]]
    outcomes = {None: "", True: "met", False: "**missed**"}
    rows = [["", _figure(result, name), *[""] * 4] for name in result["seconds"]]
    if comparisons:
        rows = [
            [c["sub_label"], *(_figure(result, c[x], c["of"]) for x in ("candidate", "baseline"))]
            + [_ratio(c), c["target"] and f"{c['bound']} {c['target']:g}" or "", outcomes[c["met"]]]
            for c in comparisons
        ]
    head = ["", "candidate", "baseline", "ratio (quartiles)", "target", "result"]
    yield markdown_table(head, rows, "   rr")
    checked = result["checked"] and f" Checked to agree before timing: {result['checked']}."
    yield f"{result['rounds']} rounds.{checked} {result['note']}".strip()


def _figure(result, name, of="time"):
    """A candidate with its time or memory."""
    figures = result["extra_bytes"] if of == "memory" else result["seconds"]
    if name not in figures:
        return f"{name}: not measured"
    if of == "memory":
        return f"{name}: {figures[name] / 2**20:.1f} MiB"
    rate = f" ({result['gflops'][name]:.0f} GFLOP/s)" if name in result["gflops"] else ""
    return f"{name}: {_three_digits(1e3 * figures[name]['median'])} ms{rate}"


def _three_digits(value):
    return value if isinstance(value, str) else f"{float(f'{value:.3g}'):g}"


def _ratio(comparison):
    """A comparison's ratio, that of times with its quartiles."""
    if comparison["ratio"] is None:
        return "not measured"
    median, low, high = (f"{comparison['ratio'][key]:.2f}" for key in ("median", "q1", "q3"))
    return median if comparison["of"] == "memory" else f"{median} ({low} to {high})"


def _models(result):
    """A table of the encoders that embed the file."""
    seconds, extra = result["seconds"], result["extra_bytes"]
    baseline = min(BASELINES, key=lambda name: seconds[name]["median"])
    against = [c for c in result["comparisons"] if (c["baseline"], c["of"]) == (baseline, "time")]
    ratios = {c["candidate"]: _ratio(c) for c in against}
    head = ["model", "parameters", "tokens per second of audio"]
    head += ["audio seconds per second (quartiles)", f"ratio to {baseline}", "memory"]
    rows = []
    for name, model in result["models"].items():
        speeds = [result["audio_seconds"] / seconds[name][key] for key in ("median", "q3", "q1")]
        memory = f"{extra[name] / 2**30:.1f} GiB" if name in extra else ""
        rows.append([name, f"{model['parameters'] / 1e6:.1f} M", model["token_rate"]])
        rows[-1] += ["{:.1f} ({:.1f} to {:.1f})".format(*speeds), ratios.get(name, "1"), memory]
    return markdown_table(head, rows, " rrrrr")


def _runs(runs):
    """A table of commands and machines, then remarks."""
    found = [run for index, (_, run) in enumerate(runs) if run not in [r for _, r in runs[:index]]]
    rows = []
    for run in found:
        machine = ", ".join(f"{key} {value}" for key, value in run["machine"].items())
        names = ", ".join(name for name, of in runs if of == run)
        rows.append([names, f"`{run['command']}`", run["date"], run["commit"], machine])
    yield markdown_table(["benchmarks", "command", "date", "commit", "machine"], rows)
    yield from (run.get("remark", "") for run in found)
