"""Frame tasks: heads trained on windows of tracks, evaluated on whole tracks."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from speechbrain_music.evaluation.frame_features import TrainingWindows
from speechbrain_music.evaluation.heads import HeadBrain, best_rate, train_grid
from speechbrain_music.metrics.feature_statistics import mean_and_std
from speechbrain_music.nnet.frame_heads import FrameHead, step_count

STATISTICS = 20_000  # frames, evenly spaced, from which features are standardised


class FrameBrain(HeadBrain):
    """Trains one FrameHead on a frame task at the rate of its logits; a recipe subclasses it."""

    def compute_objectives(self, logits, batch, stage):
        """The task's loss, summed over the logits that count."""
        return self.task.loss(logits, batch.targets).sum()

    def count(self, batch):
        """Logits."""
        return self.modules.head.steps(batch.lengths).sum()

    def validate(self):
        """The mean of the selected metrics over whole tracks, decoded."""
        tracks, predicted = self.split, self.predict(self.split)
        found = zip(tracks.annotations, predicted, tracks.seconds, strict=True)
        scores = pd.DataFrame([self.task.score(*track) for track in found])
        return scores[list(self.task.selected)].mean().mean()

    def predict(self, tracks):
        """The annotations, Beats or LabelledIntervals, of the tracks of a `TrackSplit`."""
        head, frames = self.modules.head, map(tracks.frames, range(len(tracks.names)))
        return [predict_track(head, self.task, each, self.device) for each in frames]


@torch.no_grad()
def predict_track(head, task, frames, device="cpu"):
    """The annotation of a whole track: (T, L, d) frames -> Beats or LabelledIntervals."""
    logits = head.eval()(frames[None].to(device), torch.tensor([len(frames)]))
    return task.decode(logits[0].float())


class TrainedHeads(NamedTuple):
    """The heads of an encoder on a task."""

    task: object  # FrameTask at the rate of the logits
    table: pd.DataFrame  # a row per head: head, lr, seed, valid, epoch
    brains: list  # FrameBrain of each row, with its best weights
    chosen: dict  # kind of head -> rows of its best learning rate, one per seed


def train_heads(brain_class, features, run):
    """Trains one head of each kind for each learning rate and seed; returns `TrainedHeads`."""
    hparams, train, rate = run.hparams, features.splits["train"], features.encoder.frame_rate
    task = hparams["task"]
    # Logits are given for several frames together, or several for one frame.
    up, down = max(1, round(task.rate / rate)), max(1, round(rate / task.rate))
    task = task.at(rate * up / down)
    rows = np.concatenate([np.arange(part.start, part.stop) for part in train.rows])
    rows = rows[:: -(-len(rows) // STATISTICS)]
    mean, std = map(torch.from_numpy, mean_and_std(train.values, rows))
    steps = [step_count(part.stop - part.start, up, down) for part in train.rows]
    targets = list(map(task.targets, train.annotations, steps))
    task.balance(targets)
    shape = mean, std, task.outputs, up, down, hparams["hidden"], hparams["probe_dropout"]
    window, batch_size = round(hparams["window_seconds"] * rate), hparams["batch_size"]
    rows, brains = train_grid(
        brain_class,
        features,
        run._replace(hparams=hparams | {"task": task}),
        hparams["heads"],
        lambda kind: FrameHead(kind, *shape),
        lambda head, seed: TrainingWindows(train, targets, head, window, batch_size, seed),
    )
    table = pd.DataFrame(rows)
    chosen = {kind: best_rate(part) for kind, part in table.groupby("head", sort=False)}
    return TrainedHeads(task, table, brains, chosen)


def predict_test(heads, features):
    """Predictions for the test tracks: kind of head -> list over seeds of lists over tracks."""
    test, brains = features.splits["test"], heads.brains
    return {kind: [brains[i].predict(test) for i in rows] for kind, rows in heads.chosen.items()}
