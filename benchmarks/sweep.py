"""The whole sweep of a GTZAN-sized task, once: `python -m benchmarks.sweep`.

252 probes (13 hidden states of 512 and their mix, six learning rates, three seeds) on 930 tracks,
443 of them to train on, whose features hold the class weakly: minutes, so no row of the table.
"""

import logging
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks.report import machine
from speechbrain_music.evaluation.features import FeatureSplit
from speechbrain_music.evaluation.probes import ProbeBrain, train_probes
from speechbrain_music.evaluation.protocol import load_task
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.utils.memory import keep_freed_memory

YAML = Path(__file__).parents[1] / "hparams" / "gtzan_genre.yaml"
COUNTS = {"train": 443, "valid": 197, "test": 290}
LAYERS, DIM, CLASSES = 13, 512, 10
STRENGTH = 0.15  # of a class's centre, where a track's own deviation is 1


def make_splits(seed=0):
    """Random features around their class's centre: split -> FeatureSplit."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(CLASSES, size=sum(COUNTS.values()))
    centres = STRENGTH * rng.standard_normal((CLASSES, LAYERS, DIM))
    values = (centres[classes] + rng.standard_normal((len(classes), LAYERS, DIM))).astype("f4")
    splits, begin = {}, 0
    for name, count in COUNTS.items():
        rows = np.arange(begin, begin + count)
        begin += count
        answers = torch.from_numpy(classes[rows])
        splits[name] = FeatureSplit(values, rows, torch.arange(count), answers, list(rows))
    return splits


def main():
    """Runs and prints it."""
    logging.basicConfig(level=logging.WARNING)
    keep_freed_memory()
    _, hparams, run_opts, _ = load_task([str(YAML), "--encoder", "mel", "--device", "cpu"])
    began = perf_counter()
    task = SingleLabel("class", range(CLASSES))
    run = SimpleNamespace(hparams=hparams | {"task": task}, run_opts=run_opts)
    encoder = SimpleNamespace(layers=tuple(map(str, range(LAYERS))))
    features = SimpleNamespace(encoder=encoder, splits=make_splits())
    swept = train_probes(ProbeBrain, features, run)
    seconds = perf_counter() - began
    epochs = swept.table["epoch"]
    print(
        f"{len(swept.table)} probes in {seconds / 60:.1f} minutes; best epochs {epochs.min()} to "
        f"{epochs.max()}, median {epochs.median():g}; {machine('cpu')}"
    )


if __name__ == "__main__":
    main()
