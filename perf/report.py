"""The pages of docs/results/speed and their JSON, one file per device."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from perf.__main__ import BENCHMARKS
from perf.benchmark import MEASURED
from perf.embedding import BASELINES
from perf.growth import PANELS, by_model, draw, per_second
from perf.steps import WHOLE
from speechbrain_music.utils.atomic import write_together

DEVICES = {"cpu": "a CPU", "cuda": "a GPU"}
RATIO = (
    "The ratio is baseline / candidate where the target is a lower bound, else candidate / "
    "baseline: the median over rounds of the ratio within a round, with its quartiles."
)
INTERLEAVED = (
    "The candidates of a benchmark run in one process, interleaved, with the same settings, inputs "
    "and weights. " + RATIO
)
MEMORY = {
    "cpu": "Extra memory is the growth of a new process's peak during one call. glibc keeps freed "
    "memory on all sides (`utils/memory.py`), without which all are slower.",
    "cuda": "Extra memory is the growth of the allocator's peak during one call.",
}


def describe_run(command, device):
    """Command, date, commit and machine of a run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {
        "processor": _processor(),
        "cores": cores,
        "torch threads": torch.get_num_threads(),
        "memory": f"{memory:.0f} GiB",
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "speechbrain": version("speechbrain"),
        "load average at the start": round(os.getloadavg()[0], 1),
    }
    if device == "cuda":
        machine["GPU"] = torch.cuda.get_device_name()
    try:
        machine["transformers"] = version("transformers")
    except PackageNotFoundError:
        pass
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return {"command": command, "date": date, "commit": _commit(), "machine": machine}


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit():
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(folder, results, device):
    """Write results into a folder's JSON, in place of those of the same name, and all its pages."""
    folder = Path(folder)
    found = {name: read(folder / f"{name}.json") for name in DEVICES}
    merged = found[device] | results
    found[device] = {name: merged[name] for name in BENCHMARKS if name in merged}
    if "growth" in results:
        draw(results["growth"], folder / f"growth_{device}.png")
    texts = {folder / name: text for name, text in pages(found).items()}
    dump = json.dumps(found[device], indent=2, ensure_ascii=False) + "\n"
    write_together({folder / f"{device}.json": dump, **texts})


def read(path):
    """The results in a JSON file; none if it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def pages(found):
    """File name -> Markdown, from device -> name -> result."""
    texts = {}
    for device, results in found.items():
        single = {n: r for n, r in results.items() if n not in ("growth", "embedding")}
        if single:
            title = f"Speed and memory on {DEVICES[device]}"
            intro = f"{INTERLEAVED}\n\n{MEMORY[device]}"
            texts[f"{device}.md"] = _join(f"# {title}", intro, *_sections(single))
    for name, title, intro, section in (
        ("growth", "Growth of time and memory with the length of the audio", GROWTH, _growth),
        ("embedding", "Embedding a file", EMBEDDING, _embedding),
    ):
        measured = {device: results[name] for device, results in found.items() if name in results}
        if measured:
            sections = []
            for device, result in measured.items():
                sections += [f"## On {DEVICES[device]}", *section(result, device)]
                sections += _sections({name: result})
            texts[f"{name}.md"] = _join(f"# {title}", intro, *sections)
    return texts


def _join(*blocks):
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(head, rows):
    """A Markdown table; columns after the first are right-aligned if their title starts with :."""
    rule = [" ---: " if title.startswith(":") else " --- " for title in head]
    lines = [[title.removeprefix(":") for title in head], *rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], f"|{'|'.join(rule)}|", *text[1:]])


# ---- what all pages share ----


def _sections(results):
    """Comparisons, parts, missed targets, conditions and runs of some benchmarks."""
    rows, parts, missed, checks, notes = [], [], [], [], []
    for name, result in results.items():
        label, comparisons = result["label"], result["comparisons"]
        if name == "parts":
            parts = _parts(result)
        else:
            shown = [c for c in comparisons if name != "embedding" or c["target"]]
            rows += [_comparison_row(result, comparison) for comparison in shown]
        if not comparisons:
            rows += [[label, _figure(result, name)] + [""] * 4 for name in result["seconds"]]
        missed += [_missed(result, c) for c in comparisons if c["met"] is False]
        checks.append([label, str(result["rounds"]), result["checked"] or "-"])
        notes += [f"- {label}: {result['note']}"] if result["note"] else []
    level = "##" if len(results) > 1 else "###"
    head = ["benchmark", "candidate", "baseline", ":ratio (quartiles)", ":target", "result"]
    blocks = [table(head, rows)] if rows else []
    blocks += parts
    if missed:
        blocks += [f"{level} Targets missed", "\n".join(missed)]
    head = ["benchmark", ":rounds", "checked to agree before timing"]
    blocks += [f"{level} Conditions", table(head, checks), "\n".join(notes)]
    head = ["benchmarks", "command", "date", "commit", "machine"]
    remarks = dict.fromkeys(result["run"].get("remark", "") for result in results.values())
    return [*blocks, f"{level} Runs", table(head, _runs(results)), *remarks]


def _what(result, comparison):
    return f"{result['label']}: {comparison['sub_label']}"


def _comparison_row(result, comparison):
    sides = [_figure(result, comparison[x], comparison["of"]) for x in ("candidate", "baseline")]
    outcome = {None: "", True: "met", False: "**missed**"}[comparison["met"]]
    return [_what(result, comparison), *sides, ratio(comparison), _target(comparison), outcome]


def _target(comparison):
    target = comparison["target"]
    return "" if target is None else f"{comparison['bound']} {target:g}"


def _figure(result, name, of="time"):
    if name not in result["extra_bytes" if of == "memory" else "seconds"]:
        return f"{name}: not measured"
    if of == "memory":
        return f"{name}: {result['extra_bytes'][name] / 2**20:.1f} MiB"
    rate = f" ({result['gflops'][name]:.0f} GFLOP/s)" if name in result["gflops"] else ""
    return f"{name}: {_milliseconds(result, name)}{rate}"


def _milliseconds(result, name):
    return f"{three_digits(1e3 * result['seconds'][name]['median'])} ms"


def three_digits(value):
    """A number as text, with three significant digits."""
    return f"{float(f'{value:.3g}'):g}"


def ratio(comparison):
    """A comparison's ratio, that of times with its quartiles."""
    value = comparison["ratio"]
    if value is None:
        return "not measured"
    spread = f" ({value['q1']:.2f} to {value['q3']:.2f})" if comparison["of"] == "time" else ""
    return f"{value['median']:.2f}{spread}"


def _missed(result, comparison):
    text = f"- {_what(result, comparison)}: {ratio(comparison)}, target {_target(comparison)}"
    if comparison["ratio"]:
        text += f", missed by {abs(comparison['ratio']['median'] / comparison['target'] - 1):.0%}"
    return "; ".join(filter(None, [text, _cause(result, comparison)])) + "."


def _cause(result, comparison):
    """Where the candidate's time goes, or its ratio to a baseline without a target."""
    candidate = comparison["candidate"]
    if comparison["of"] == "time" and candidate in result["operators"]:
        shares = result["operators"][candidate]
        text = "time in " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        products = shares.get("matrix products")
        if products and comparison["baseline"] != "matrix products":
            bound = comparison["ratio"]["median"] / products
            text += f"; the ratio would be {bound:.2f} if only matrix products took time"
        return text
    bounds = (
        f"{other['ratio']['median']:.2f} times {other['baseline']}"
        for other in result["comparisons"]
        if other["candidate"] == candidate
        and (other["target"], other["of"], other["bound"]) == (None, "time", comparison["bound"])
    )
    return "; ".join(bounds)


def _runs(results):
    runs = []
    for name, result in results.items():
        if not runs or runs[-1][1] != result["run"]:
            runs.append(([], result["run"]))
        runs[-1][0].append(name)
    return [
        [", ".join(names), f"`{run['command']}`", run["date"], run["commit"]]
        + [", ".join(f"{key} {value}" for key, value in run["machine"].items())]
        for names, run in runs
    ]


# ---- single benchmarks ----


def _parts(result):
    rows = []
    for comparison in result["comparisons"]:
        share = {key: f"{value:.1%}" for key, value in comparison["ratio"].items()}
        name = comparison["candidate"]
        spread = f"{share['median']} ({share['q1']} to {share['q3']})"
        rows.append([name, _milliseconds(result, name), spread])
    rows.append([WHOLE, _milliseconds(result, WHOLE), "100%"])
    head = ["part", ":time", ":share of the step (quartiles)"]
    return [f"## Parts of a {result['label']}", table(head, rows)]


GROWTH = (
    "Time and memory per second of audio stay constant where they grow linearly with the length. "
    '"Does not fit" and "over the time limit" are results: a point that exceeds the limits.'
)


def _growth(result, device):
    blocks = [f"![Time and memory per second of audio, by length](growth_{device}.png)"]
    lengths = sorted({point["audio_seconds"] for point in result["points"]})
    for key, factor, unit in PANELS:
        head = [unit, *(f":{length} s" for length in lengths)]
        rows = []
        for (model, work), series in by_model(result["points"]).items():
            row = [_point(series.get(length), key, factor) for length in lengths]
            rows.append([f"{model}, {work}", *row])
        blocks.append(table(head, rows))
    return blocks


def _point(point, key, factor):
    if point is None:
        return ""
    if point["outcome"] != MEASURED:
        return point["outcome"]
    return three_digits(factor * per_second(point, key))


EMBEDDING = (
    "Each candidate reads the same FLAC file with the same code, resamples it to its own rate, and "
    "averages its last hidden state over time. Weights are random, on which speed does not depend."
)


def _embedding(result, device):
    baseline = min(BASELINES, key=lambda name: result["seconds"][name]["median"])
    against = {
        c["candidate"]: ratio(c)
        for c in result["comparisons"]
        if (c["baseline"], c["of"]) == (baseline, "time")
    }
    rows = []
    for name, model in result["models"].items():
        took = result["seconds"][name]
        speed = [f"{result['audio_seconds'] / took[key]:.1f}" for key in ("median", "q3", "q1")]
        memory = result["extra_bytes"].get(name)
        rows.append(
            [
                name,
                f"{model['parameters'] / 1e6:.1f} M",
                str(model["token_rate"]),
                f"{speed[0]} ({speed[1]} to {speed[2]})",
                against.get(name, "1"),
                "" if memory is None else f"{memory / 2**30:.1f} GiB",
            ]
        )
    head = ["model", ":parameters", ":tokens per second of audio"]
    head += [":audio seconds per second (quartiles)", f":ratio to {baseline}", ":memory"]
    models = "\n".join(f"- {name}: {model['what']}" for name, model in result["models"].items())
    return [table(head, rows), models]
