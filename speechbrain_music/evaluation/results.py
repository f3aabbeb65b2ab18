"""Results of an encoder on a task: figures, intervals, results.json, a report and pictures."""

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music.evaluation.probes import AUTO, STANDARDIZE, choose_on_validation
from speechbrain_music.evaluation.protocol import RESULTS, protocol_of, results_key
from speechbrain_music.metrics.resampling import (
    compare,
    draw_counts,
    interval,
    over_encoders,
    recentred,
    score,
)
from speechbrain_music.reporting.pages import render
from speechbrain_music.reporting.pictures import draw_layers, picture
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.environment import versions
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

PREDICTIONS, REPORT = "predictions.npz", "report.md"
LAYERS, CONFUSION = "layers.png", "confusion.png"
REPORTS = Path(__file__).with_name("templates")  # of results.json and what the text adds to it


# ---- figures ----


def resampled_figures(task, logits, targets, resamples=1000, seed=0):
    """Figures of a system's encoders on bootstrap resamples of the tracks: metric -> (E, R).

    logits (E, S, N, C) are of E encoders, S probe seeds and N tracks. Figures are means over probe
    seeds. Systems are compared on the resamples of one `seed`.
    """
    counts = draw_counts(logits.shape[2], resamples, seed)

    def of_encoder(probes, metric):
        return np.mean([recentred(drawn[metric], value[metric]) for drawn, value in probes], axis=0)

    encoders = [
        [(task.resampled(probe, targets, counts), task.figures(probe, targets)) for probe in probes]
        for probes in logits
    ]
    return {
        metric: np.stack([of_encoder(probes, metric) for probes in encoders])
        for metric in task.metrics
    }


def summarise(task, logits, targets, train_targets, resamples=1000):
    """The figures of a system on a task; arguments as `resampled_figures`.

    figures: metric -> mean and sd over encoders and probe seeds, low and high (95%, over tracks and
    encoders), chance. each: (E, S) dicts of figures. marble_compat: metric -> mean, as MARBLE's
    code averages over classes, of metrics for which that differs. score: mean, low, high of what
    the task adds to a score across tasks. by_class: class -> means over encoders and seeds.
    confusion: (C, C) summed over them, or None. absent: classes with no test track. Raises
    UserError if these tracks leave a figure undefined.
    """
    try:
        each = [[task.figures(probe, targets) for probe in probes] for probes in logits]
        marble = [task.marble_compat(probe, targets) for probes in logits for probe in probes]
        chance = task.chance(train_targets, targets)
        drawn = resampled_figures(task, logits, targets, resamples)
        drawn = {m: over_encoders(values, np.random.default_rng(0)) for m, values in drawn.items()}
        drawn = {m: values.clip(*task.bounds(m, targets)) for m, values in drawn.items()}
        figures = {}
        for metric in task.metrics:
            values = np.array([[probe[metric] for probe in probes] for probes in each])
            sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
            figures[metric] = {"mean": float(values.mean()), "sd": sd, **interval(drawn[metric])}
            figures[metric]["chance"] = chance[metric]
        score_bounds = interval(score(task, drawn, chance))
    except ValueError as error:
        raise UserError(f"the test split cannot be evaluated: {error}") from error
    means = {metric: value["mean"] for metric, value in figures.items()}
    tables = [task.by_class(probe, targets) for probes in logits for probe in probes]
    by_class = {name: {} for name in tables[0]}
    for name, figures_of in by_class.items():
        for key in tables[0][name]:
            values = [table[name][key] for table in tables]
            figures_of[key] = None if None in values else float(np.mean(values))
    confusions = [task.confusion(probe, targets) for probes in logits for probe in probes]
    return {
        "figures": figures,
        "each": each,
        "marble_compat": {k: float(np.mean([one[k] for one in marble])) for k in marble[0]},
        "score": {"mean": score(task, means, chance), **score_bounds},
        "by_class": by_class,
        "confusion": None if confusions[0] is None else sum(confusions).tolist(),
        "absent": task.absent(targets),
    }


def compare_layers(task, tested, resamples=1000):
    """Validation scores of single layers by their best probes, and which layers suffice.

    tested: as `write_results`. valid: layer -> mean of the selected metrics. best: a layer. less:
    layer -> how much it is below the best, as `metrics.resampling.compare`, with Holm's correction
    over layers. text: a clause that names the layers that do not differ from the best. None for a
    single layer, and where a metric is not defined.
    """
    targets, scores = tested[0][0].splits["valid"].targets, {}
    try:
        for layer in tested[0][0].encoder.layers:
            logits = [
                choose_on_validation(probes, layer).brain.predict(probes.valid_set, sb.Stage.VALID)
                for _, probes, *_ in tested
            ]
            figures = resampled_figures(task, torch.stack(logits), targets, resamples)
            figures = np.mean([figures[metric] for metric in task.selected], axis=0)
            value = float(np.mean([task.select(each, targets) for each in logits]))
            scores[layer] = value, over_encoders(figures, np.random.default_rng(0))
        best = max(scores, key=lambda layer: scores[layer][0])
        others = {layer: score for layer, score in scores.items() if layer != best}
        (pair,) = compare({"best": dict.fromkeys(others, scores[best]), "others": others})
    except ValueError:  # a metric is not defined, or there are no others to compare
        return None
    less = pair["tasks"]
    alike = [layer for layer in scores if layer == best or not less[layer]["differs"]]
    text = f"layers {', '.join(alike)} cannot be told from the best ({best})"
    text = text if alike[1:] else f"layer {best} is better than all others"
    valid = {layer: value for layer, (value, _) in scores.items()}
    return {"valid": valid, "best": best, "less": less, "text": text, "tracks": len(targets)}


def read_layers(folder, fingerprint):
    """Task -> most of `compare_layers` in a folder's newest results of an encoder, their origin."""
    found = {}
    for path in sorted(Path(folder).rglob(RESULTS), key=os.path.getmtime):
        # Others are of one layer, of frames, or of another program.
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            results = json.loads(path.read_text(encoding="utf-8"))
            if fingerprint in [run["identity"] for run in results["encoder"]["runs"]]:
                layers = results["layers"]
                found[str(results["task"])] = {
                    "valid": {key: float(value) for key, value in layers["valid"].items()},
                    "text": str(layers["text"]),
                    **{key: int(layers[key]) for key in ("best", "tracks")},
                    **{"path": path, "replica": results["data"]["replica"]},
                }
    return found


def read_published(path, name, metrics=None):
    """Rows of a recipe's `published.csv` for a task, as dicts; [] if there is no file."""
    if not Path(path).exists():
        return []
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    rows = [row for row in rows if row.get("task", name) == name]
    return [row for row in rows if metrics is None or row["metric"] in metrics]


# ---- files ----


def write_results(run, data_report, tested):
    """Writes results.json, predictions, report and pictures of a run; returns the output folder.

    tested: for each encoder (TaskFeatures, TrainedProbes, Candidate, test logits). The recipe's
    published.csv is shown with results on the published data only.
    """
    if not if_main_process():
        return run.output
    hparams, task = run.hparams, run.hparams["task"]
    features = tested[0][0]
    splits = features.splits
    logits = torch.stack([part[3] for part in tested])
    test, train = splits["test"], splits["train"]
    runs = [{"identity": f.encoder.identity} | best.chosen for f, _, best, _ in tested]
    summary = summarise(task, logits, test.targets, train.targets, hparams["resamples"])
    results = describe(run, data_report, tested, runs, summary)
    results["layers"] = compare_layers(task, tested, hparams["resamples"])
    results["protocol"]["halved"] = len(train.rows) > hparams["successive_halving_above"]
    table = table_of(tested)
    # Mean over seeds, of the better features.
    curves = table.groupby(["standardize", "layer", "lr"], sort=False)["valid"].mean()
    curves = curves.groupby(["layer", "lr"], sort=False).max().unstack(sort=False)
    with picture(run.output / LAYERS) as figure:
        draw_layers(
            figure,
            _title(results),
            curves.rename(columns="{:g}".format),
            f"{', '.join(task.selected)} on the validation split, mean over seeds",
            legend="learning rate",
            chosen=[(run["layer"], run["valid"]) for run in runs],
            chance=np.mean([results["figures"][metric]["chance"] for metric in task.selected]),
        )
    if results["confusion"] is not None:
        with picture(run.output / CONFUSION) as figure:
            _confusion(figure, np.array(results["confusion"]), task.names, _title(results))
    words = STANDARDIZE | {"auto": " or ".join(STANDARDIZE[kind] for kind in AUTO)}
    arrays, shown = (logits, test.targets, test.names), words[hparams["standardize"]]
    write_files(run.output, results, "probes.md", tested, *arrays, standardize=shown)
    return run.output


def describe(run, data_report, tested, runs, summary):
    """The dict of results.json: what was evaluated, on what, how, and what was found.

    tested: for each encoder a tuple that begins with its features; runs: for each a dict with its
    identity and what was chosen; summary: see `summarise`.
    """
    hparams, replica, features = run.hparams, data_report["replica"], tested[0][0]
    readable = features.chunks.table["split"].drop(list(features.reasons)).value_counts()
    published = []
    if replica is None and not data_report["deviations"]:
        path, metrics = run.recipe.with_name("published.csv"), hparams["task"].metrics
        published = read_published(path, hparams["name"], metrics)
    return {
        "task": ":".join(filter(None, [hparams["name"], hparams.get("label")])),
        "command": [str(part) for part in run.argv],
        "key": results_key(hparams, [part[0].cache for part in tested], features.chunks.labels),
        "encoder": {"spec": hparams["encoder"], "name": run.encoders[0].name, "runs": runs},
        "data": {
            "data_set": data_report["data_set"],
            "replica": replica and {k: replica[k] for k in ("generator", "scale", "seed")},
            "settings": data_report["settings"],
            "published": data_report.get("published"),
            "deviations": data_report["deviations"],
            "tracks": {split: len(part.names) for split, part in features.splits.items()},
            "chunks": {split: int(readable[split]) for split in features.splits},
            "unreadable": len(features.reasons),
            "reasons": list(features.reasons.values())[:20],
            "absent": features.chunks.absent,
        },
        "protocol": protocol_of(hparams),
        "note": hparams["task"].note,
        **summary,
        "published": published,
        "versions": versions(),
        "seconds": round(time.time() - run.began, 1),
    }


def describe_heads(part, found):
    """The run of an encoder for `describe`, from its features and trained heads.

    heads: head -> its layer and learning rate, "-" for none, and mean validation value.
    """
    shown, valid = found.table.filter(["layer", "lr"]), found.table["valid"]
    shown = shown.astype(object).fillna("-")
    heads = {
        head: shown.loc[rows[0]].to_dict() | {"valid": float(valid[rows].mean())}
        for head, rows in found.chosen.items()
    }
    joined = {key: "/".join(str(best[key]) for best in heads.values()) for key in shown}
    return {"identity": part.encoder.identity, "heads": heads, **joined}


def table_of(tested):
    """The rows of all probes; tested: for each encoder a tuple, the second has its `table`."""
    tables = [part[1].table.assign(encoder=i) for i, part in enumerate(tested)]
    return pd.concat(tables, ignore_index=True)


def write_files(folder, results, template, tested, logits, targets, names, **shown):
    """Writes a run's files; results.json comes last: with it the run is complete.

    The report's template gets the results and what else is `shown`. tested is as for `table_of`;
    logits (E, S, N, C), targets (N[, C]) and names (N,) are of the test tracks.
    """
    with atomic_file(folder / PREDICTIONS, "wb") as file:
        arrays = {"logits": logits.numpy(), "targets": targets.numpy()}
        np.savez_compressed(file, **arrays, tracks=np.array(names))
    write_together(
        {
            folder / "probes.csv": table_of(tested).to_csv(index=False),
            folder / REPORT: render(REPORTS / template, **results, **shown),
            folder / RESULTS: json.dumps(results, indent=2) + "\n",
        }
    )
    for metric, figure in results["figures"].items():
        logger.info(
            f"{results['task']}, {results['encoder']['name']}: {metric} {figure['mean']:.4f} "
            f"({figure['low']:.4f} to {figure['high']:.4f}), chance {figure['chance']:.4f}"
        )
    logger.info(f"The report is {folder / REPORT}")


def _title(results):
    where = " (replica)" if results["data"]["replica"] else ""
    return f"{results['task']}{where}: {results['encoder']['name']}"


def _confusion(figure, counts, names, title):
    axes = figure.subplots()
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_title(f"{title}, accuracy {np.trace(counts) / counts.sum():.3f}")
    figure.colorbar(image, label="share of the class's tracks")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    shown = slice(None, None, max(1, len(names) // 32))
    places = range(len(names))[shown]
    axes.set_xticks(places, names[shown], rotation=90, fontsize=8)
    axes.set_yticks(places, names[shown], fontsize=8)
