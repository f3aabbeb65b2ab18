"""A task's results on disk: JSON, the test answers, a page to read, pictures."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from speechbrain_music.reporting.pictures import picture
from speechbrain_music.utils.atomic import atomic_file, write_together

RESULTS, PREDICTIONS, REPORT = "results.json", "predictions.npz", "report.md"
LAYERS, CONFUSION = "layers.png", "confusion.png"
SIZE = (8, 6)  # inches, of both


def write_results(folder, results, table, logits, answers, tracks, names):
    """Writes a run's results; `results.json`, which says that all is there, comes last.

    Arguments
    ---------
    folder : path
        Of the run.
    results : dict
        Of `brains.evaluation`; goes into `results.json` as it is.
    table : pandas.DataFrame
        All probes' validation values, for `probes.csv` and the picture of layers.
    logits : numpy.ndarray
        (E, S, N, C) answers to the test tracks.
    answers : numpy.ndarray
        (N, ...) targets.
    tracks : list of str
        Names of the test tracks.
    names : sequence of str
        Of the C outputs.

    Example
    -------
    >>> import pandas as pd
    >>> from tempfile import TemporaryDirectory
    >>> run = {"layer": "3", "lr": 0.001, "valid": 0.5, "fine_tuned": None}
    >>> count = {"train": 8, "valid": 1, "test": 1}
    >>> data = {"replica": None, "deviations": [], "tracks": count, "unreadable": 0, "absent": {}}
    >>> results = {"task": "genre", "encoder": {"name": "mine", "runs": [run]}, "data": data}
    >>> results |= {"figures": {}, "by_class": {"jazz": {"count": 1}}, "confusion": None}
    >>> results |= {"protocol": {"halved": False}, "published": []}
    >>> table, logits = pd.DataFrame([run]), np.ones((1, 1, 1, 1))
    >>> with TemporaryDirectory() as folder:
    ...     write_results(folder, results, table, logits, np.zeros(1), ["a"], ["jazz"])
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['layers.png', 'predictions.npz', 'probes.csv', 'report.md', 'results.json']
    """
    folder = Path(folder)
    with atomic_file(folder / PREDICTIONS, "wb") as file:
        np.savez_compressed(file, logits=logits, answers=answers, tracks=np.array(tracks))
    with picture(folder / LAYERS, SIZE) as figure:
        _layers(figure, table)
    if results["confusion"] is not None:
        with picture(folder / CONFUSION, SIZE) as figure:
            _confusion(figure, np.array(results["confusion"]), names)
    write_together(
        {
            folder / "probes.csv": table.to_csv(index=False),
            folder / REPORT: _report(results),
            folder / RESULTS: json.dumps(results, indent=2) + "\n",
        }
    )


def read_published(path, metrics):
    """Rows of a recipe's `published.csv` for these metrics, as dicts; [] if there is no file.

    Example
    -------
    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile("w") as file:
    ...     print("model,metric,value\\nMERT,accuracy,0.79\\nMERT,f1,0.7", file=file, flush=True)
    ...     read_published(file.name, ["accuracy"])
    [{'model': 'MERT', 'metric': 'accuracy', 'value': '0.79'}]
    """
    if not Path(path).exists():
        return []
    rows = csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8")))
    return [row for row in rows if row["metric"] in metrics]


def _report(results):
    """The text of `report.md`."""
    data, encoder = results["data"], results["encoder"]
    lines = [f"# {results['task']}: {encoder['name']}", ""]
    if data["replica"]:
        lines += [
            f"**On a replica** ({data['replica']['generator']}): music composed by a program. "
            "These figures say nothing about recorded music, and none may stand beside a "
            "published one.",
            "",
        ]
    for deviation in data["deviations"]:
        lines += [f"**Not the published data**: {deviation}.", ""]
    lines += [
        "| metric | mean | sd over seeds | 95% interval over tracks | chance |",
        "|---|---:|---:|---|---:|",
        *(
            f"| {metric} | {f['mean']:.4f} | {f['sd']:.4f} | {f['low']:.4f} to {f['high']:.4f} "
            f"| {f['chance']:.4f} |"
            for metric, f in results["figures"].items()
        ),
        "",
        f"{data['tracks']['test']} test tracks, {data['tracks']['train']} to train on, "
        f"{data['tracks']['valid']} to choose by. {_chosen(results)}",
        "",
    ]
    if results["protocol"]["halved"]:
        lines += ["Successive halving: half of the probes ended after 1, 2, 4 and 8 epochs.", ""]
    if data["unreadable"]:
        lines += [f"{data['unreadable']} chunks could not be read and are left out.", ""]
    for split, absent in data["absent"].items():
        if absent:
            lines += [f"No {split} track of: {', '.join(absent)}.", ""]
    lines += [f"![score by layer]({LAYERS})", ""]
    if results["confusion"] is not None:
        lines += [f"![confusion]({CONFUSION})", ""]
    if results["published"]:
        if data["published"]:
            lines += [f"The published figures are of {data['published']}.", ""]
        lines += ["| published | metric | value | source |", "|---|---|---:|---|"]
        lines += [
            f"| {row['model']} | {row['metric']} | {float(row['value']):.4g} | {row['source']} |"
            for row in results["published"]
        ]
        lines += [""]
    lines += ["| class | " + " | ".join(_columns(results)) + " |"]
    lines += ["|---|" + "---:|" * len(_columns(results))]
    for name, figures in results["by_class"].items():
        cells = (
            "" if figures[c] is None else f"{figures[c]:.{0 if c == 'count' else 3}f}"
            for c in _columns(results)
        )
        lines += [f"| {name} | " + " | ".join(cells) + " |"]
    return "\n".join(lines) + "\n"


def _columns(results):
    return list(next(iter(results["by_class"].values())))


def _chosen(results):
    parts = []
    for place, run in enumerate(results["encoder"]["runs"]):
        which = f"Encoder {place + 1}: " if len(results["encoder"]["runs"]) > 1 else "Chosen: "
        layer = "the mix of all layers" if run["layer"] == "all" else f"layer {run['layer']}"
        text = f"{which}{layer}, learning rate {run['lr']:g} (validation {run['valid']:.4f})."
        if run["fine_tuned"]:
            tuned = run["fine_tuned"]
            text += f" Fine-tuned: epoch {tuned['epoch']} (validation {tuned['valid']:.4f})."
        parts.append(text)
    return " ".join(parts)


def _layers(figure, table):
    axes = figure.subplots()
    layers = list(dict.fromkeys(table["layer"]))
    means = table.groupby(["layer", "lr"], sort=False)["valid"].mean().unstack()
    for lr in means.columns:
        axes.plot(layers, means.loc[layers, lr], marker=".", label=f"{lr:g}")
    axes.set_xlabel("layer (0 is the front-end, all a learned mix)")
    axes.set_ylabel("validation value, mean over seeds")
    axes.legend(title="learning rate", fontsize=8)
    axes.grid(alpha=0.3)


def _confusion(figure, counts, names):
    axes = figure.subplots()
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, label="share of the class's tracks")
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    step = max(1, len(names) // 32)
    places = range(0, len(names), step)
    axes.set_xticks(places, [names[p] for p in places], rotation=90, fontsize=8)
    axes.set_yticks(places, [names[p] for p in places], fontsize=8)
