"""What pre-training gives, on a machine that has nothing: `make demo`.

python recipes/demo/demo.py [--out results/demo] [--hours 1] [--epochs 12] [--clips 600]

Composes music, pre-trains `brn_sum_tiny` on it, and compares what simple classifiers get from mel
statistics, from untrained encoders and from the pre-trained one. Everything is in `report.md`.
Further options (`--lr 0.001` ...) are handed to the pre-training recipe.
"""

import argparse
import logging
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, keyed, make_corpus
from speechbrain_music.data_prep.replica.notes import make_note
from speechbrain_music.data_prep.replica.synth import load_bank
from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.export import load_export
from speechbrain_music.reporting.run_log import HELD_OUT, beside, read_rows
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import run_recipe

TRAIN = Path(__file__).parents[1] / "pretrain" / "train.py"
YAML = Path(__file__).parents[2] / "hparams" / "brn_sum_tiny.yaml"
SPLITS = {"train": 0.4, "valid": 0.2, "test": 0.4}  # each with artists of its own
LONGEST = 30.0  # seconds of a track to pre-train on: many short ones differ more than few long ones
CLIP = 6.0  # seconds of a clip to probe
TEMPO_CLASSES = (95.0, 120.0)  # slow, medium, fast
STRENGTHS = (0.001, 0.01, 0.1)  # of the classifier: inverse regularisation
UNTRAINED = 3
RESAMPLES = 2000


class Result(NamedTuple):
    """A probe's outcome: which layer was chosen, and which test clips it got right."""

    layer: int
    right: np.ndarray


class Stopwatch:
    """Seconds by stage, in the order of the stages."""

    def __init__(self):
        self.seconds = {}

    @contextmanager
    def stage(self, name):
        """Times a block."""
        print(f"-- {name}", flush=True)
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


def make_songs(folder, clips):
    """Waves and labels of composed clips by split: {split: (waves, genres, tempo classes)}."""
    songs = {}
    for number, (split, share) in enumerate(SPLITS.items()):
        plan = CorpusPlan(1000 + number, shortest=CLIP, longest=CLIP, per_artist=1, held_out=True)
        count = round(clips * share)
        path = make_corpus(folder / split, count * CLIP / 3600, plan)
        table = read_manifest(path, folder / split)
        waves = np.stack([read_segment(wav) for wav in table["wav"]])
        tempi = np.digitize(table["tempo"].astype(float), TEMPO_CLASSES)
        songs[split] = waves, table["genre"].to_numpy(), tempi
    return songs


def make_notes(clips):
    """Waves and instrument families of single notes: {split: (waves, families)}."""
    bank, notes = load_bank(), {}
    for number, (split, share) in enumerate(SPLITS.items()):
        made = [
            make_note(keyed(2000 + number, index), bank, held_out=index % 2 == 1)
            for index in range(round(clips * share))
        ]
        families = np.array([truth["family"] for _, truth in made])
        notes[split] = np.stack([wave for wave, _ in made]), families
    return notes


@torch.no_grad()
def embed(waves, features, encoder=None):
    """Mean and deviation over time, (clips, layers, 2 d); of the log-mel if there is no encoder."""
    pooled = []
    for batch in torch.from_numpy(waves).split(32):
        mel, lengths = features(batch, torch.full((len(batch),), batch.shape[1]))
        hidden = encoder(mel, lengths)[1] if encoder else [mel]
        pooled.append(torch.stack([torch.cat([h.mean(1), h.std(1)], 1) for h in hidden], 1))
    return torch.cat(pooled).numpy()


def probe(vectors, labels):
    """One rule for all: a linear classifier; layer and strength chosen on the validation clips."""
    best = (-1.0,)
    for layer in range(vectors["train"].shape[1]):
        for strength in STRENGTHS:
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3)
            )
            model.fit(vectors["train"][:, layer], labels["train"])
            accuracy = model.score(vectors["valid"][:, layer], labels["valid"])
            if accuracy > best[0]:
                best = accuracy, layer, model
    _, layer, model = best
    return Result(layer, model.predict(vectors["test"][:, layer]) == labels["test"])


def interval(values):
    """Mean of per-clip values and its 95% bootstrap interval over the clips."""
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return values.mean(), low, high


def report(results, labels, rows, seconds, facts):
    """The text of `report.md`."""
    last = rows[-1]
    lines = [
        "# Demo: what a few minutes of pre-training on composed music give",
        "",
        f"{facts['steps']} optimiser steps of `brn_sum_tiny` on {facts['hours']:.2f} hours of "
        f"composed music ({facts['generator']}), one seed. All music here was composed and "
        "rendered by a program: **no figure says anything about recorded music**, and none may be "
        "set beside a published one.",
        "",
        "## Pre-training, on held-out composed tracks",
        "",
        "| on masked tokens | model | trivial predictors |",
        "|---|---:|---|",
    ]
    for name, key, baselines in HELD_OUT:
        lines.append(f"| {name} | {last[key]:.3f} | {beside(last, key, baselines)} |")
    gain = last["cross_entropy_unigram"] - last["cross_entropy"]
    below = last["mel_mse"] < last["mel_mse_interpolation"]
    lines += [
        "",
        f"The cross-entropy lies {gain:.2f} nat under the unigram's; the reconstruction is "
        f"{'under' if below else 'NOT under'} interpolation.",
        "",
        f"![curves]({facts['curves']})",
        "",
        "## Probes: a linear classifier on frozen features",
        "",
        "Mean and standard deviation over time of each clip; layer and regularisation chosen on "
        "validation clips, the test clips used once; artists and seeds of the three splits differ. "
        "Accuracy with its 95% bootstrap interval over test clips.",
        "",
        "| probe | test clips | chance | mel statistics | untrained, mean of "
        f"{UNTRAINED} | pre-trained | its layer |",
        "|---|---:|---:|---|---|---|---:|",
    ]
    verdicts = []
    for task, by_name in results.items():
        test = labels[task]["test"]
        chance = max(np.mean(test == label) for label in set(test))
        right = {name: np.mean([r.right for r in runs], axis=0) for name, runs in by_name.items()}
        cells = " | ".join("{:.3f} ({:.3f} to {:.3f})".format(*interval(v)) for v in right.values())
        layer = by_name["pre-trained"][0].layer
        lines.append(f"| {task} | {len(test)} | {chance:.3f} | {cells} | {layer} |")
        for other in ("mel", "untrained"):
            mean, low, high = interval(right["pre-trained"] - right[other])
            word = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
            verdicts.append(
                f"- {task}, pre-trained against {other}: {mean:+.3f} ({low:+.3f} to {high:+.3f}): "
                f"{word}"
            )
    lines += ["", "Paired differences, 95% intervals over test clips:", "", *verdicts]
    lines += [
        "",
        "What this shows: whether the whole chain works here, from music to figures, and what "
        "minutes give on music of the same making. What it does not: the worth of the method. "
        "The encoder is tiny, the run has one seed, the intervals cover the choice of test clips "
        "alone, and training can make features worse for one task while better for another.",
        "",
        "## Where the time went",
        "",
        *(f"- {name}: {value:.0f} s" for name, value in seconds.items()),
        f"- in all: {sum(seconds.values()) / 60:.1f} minutes",
        "",
        facts["machine"],
        "",
    ]
    return "\n".join(lines)


def main(argv):
    """Runs the demo; see this file's head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/demo"))
    parser.add_argument("--music", type=Path, default=Path("data/replica/demo"))
    parser.add_argument("--hours", type=float, default=1.0, help="of music to pre-train on")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--clips", type=int, default=600, help="of each probe, all splits together")
    args, others = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING)
    watch = Stopwatch()

    corpus = args.music / f"corpus_{args.hours:g}h"
    with watch.stage("composing music to pre-train on"):
        plan = CorpusPlan(longest=LONGEST)
        tracks = read_manifest(make_corpus(corpus, args.hours, plan), corpus)
    output = args.out / "brn_sum_tiny"
    with watch.stage("pre-training"):
        options = {"data_folder": corpus, "output_folder": output, "number_of_epochs": args.epochs}
        pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
        subprocess.run([sys.executable, str(TRAIN), str(YAML), *pairs, *others], check=True)
    with watch.stage("composing clips for the probes"):
        songs, notes = (
            make_songs(args.music / f"songs_{args.clips}", args.clips),
            make_notes(args.clips),
        )
    labels = {
        "genre": {split: part[1] for split, part in songs.items()},
        "tempo class": {split: part[2] for split, part in songs.items()},
        "instrument": {split: part[1] for split, part in notes.items()},
    }
    trained = load_export(output / "export")
    models = {"mel": [None], "untrained": [], "pre-trained": [trained.encoder]}
    for seed in range(UNTRAINED):
        torch.manual_seed(seed)
        models["untrained"].append(Encoder(**trained.config["encoder"]).eval())
    results = {task: {name: [] for name in models} for task in labels}
    with watch.stage("probes"):
        for clips, tasks in ((songs, ("genre", "tempo class")), (notes, ("instrument",))):
            for name, encoders in models.items():
                for encoder in encoders:
                    vectors = {
                        split: embed(part[0], trained.features, encoder)
                        for split, part in clips.items()
                    }
                    for task in tasks:
                        results[task][name].append(probe(vectors, labels[task]))

    rows = read_rows(output, "valid")
    packages = ("speechbrain-music", "torch", "speechbrain", "numpy", "scikit-learn")
    facts = {
        "steps": rows[-1]["step"],
        "hours": tracks["duration"].sum() / 3600,
        "generator": f"generator {tracks['generator'][0]}",
        "curves": (output / "curves.png").relative_to(args.out),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages),
    }
    text = report(results, labels, rows, watch.seconds, facts)
    write_together({args.out / "report.md": text})
    print(text)


if __name__ == "__main__":
    run_recipe(main)
