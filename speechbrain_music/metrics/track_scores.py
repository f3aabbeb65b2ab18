"""Scores of whole tracks as a task: what intervals and comparisons of systems need."""

import numpy as np
import torch

from speechbrain_music.metrics.base import Task, ratio


class TrackScores(Task):
    """Weighted means over tracks of scores that a `FrameTask` gave to each track.

    In place of logits stand, for N tracks and C metrics, (N, 2 C): each score and its weight; in
    place of targets the same of a constant prediction. A weight is 0 where a score is not defined,
    else 1; for the means over a corpus it is what the task says: a duration, or a count which may
    depend on the prediction. Each head has all metrics of the task: `<head> <metric>`, and
    `<head> corpus_<metric>` where both means exist.

    Arguments
    ---------
    task : FrameTask or VersionIdentification
        Its metrics are taken.
    heads : sequence of str
        Names of the heads that were trained.
    """

    floor = 0.0

    def __init__(self, task, heads):
        corpus = [f"corpus_{m}" if m in task.metrics else m for m in task.corpus_metrics]
        self.metrics = tuple(f"{head} {m}" for head in heads for m in (*task.metrics, *corpus))
        super().__init__(self.metrics)
        self.outputs = 2 * len(self.metrics)
        self.scored = tuple(f"{head} {metric}" for head in heads for metric in task.scored)
        self.task = task

    def of_tracks(self, annotations, predictions, seconds):
        """Scores of one head's predictions, each with its weight, (N, 2 C / heads) float64."""
        task, rows = self.task, []
        for track in zip(annotations, predictions, seconds, strict=True):
            pairs = task.weighted_scores(*track)
            once = [(score, float(np.isfinite(score))) for score, _ in map(pairs.get, task.metrics)]
            both = [*once, *map(pairs.get, task.corpus_metrics)]
            rows.append([(np.nan_to_num(score), weight) for score, weight in both])
        return torch.tensor(rows, dtype=torch.float64).flatten(1)

    def _resampled(self, logits, targets, counts):
        scores, weights = logits.double().cpu().unflatten(1, (-1, 2)).numpy().transpose(2, 0, 1)
        sums = counts @ (scores * weights)
        return dict(zip(self.metrics, ratio(sums, counts @ weights).T, strict=True))

    def chance(self, train_targets, targets):
        """The figures of a constant prediction, whose scores `train_targets` are."""
        return self.figures(train_targets, targets)

    def bounds(self, metric, targets):
        bounds = getattr(self.task, "bounds", super().bounds)  # a frame task has none of its own
        return bounds(metric.rpartition(" ")[2], targets[:, 2 * self.metrics.index(metric) + 1])
