"""Figures of whole tracks as a task: what intervals and comparisons of systems need."""

import numpy as np
import torch

from speechbrain_music.metrics.base import Task, ratio


class TrackScores(Task):
    """Weighted means over tracks of figures that were computed track by track.

    In place of logits and targets, both (N, C): each track's figures and their weights, 0 where a
    figure is not defined. A mean over tracks has weights of 1, one over a corpus the tracks'
    durations.

    Arguments
    ---------
    task : FrameTask
        With its metrics.
    heads : sequence of str
        Each head has all metrics of the task, under the name `<head> <metric>`.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> task = SimpleNamespace(metrics=["f"], selected=["f"], scored=["f"])
    >>> scores = TrackScores(task, ["mlp"])
    >>> scores.figures(torch.tensor([[0.5], [1.0], [0.0]]), torch.tensor([[1.0], [1.0], [0.0]]))
    {'mlp f': 0.75}
    """

    floor = 0.0

    def __init__(self, task, heads):
        named = [f"{head} {metric}" for head in heads for metric in task.metrics]
        super().__init__(named)
        self.metrics = self.names
        self.selected = tuple(f"{head} {metric}" for head in heads for metric in task.selected)
        self.scored = tuple(f"{head} {metric}" for head in heads for metric in task.scored)

    def figures(self, logits, targets):
        counts = np.ones((1, len(logits)), np.int64)
        return {name: float(v[0]) for name, v in self._resampled(logits, targets, counts).items()}

    def _resampled(self, logits, targets, counts):
        weights = targets.double().cpu().numpy()
        sums = counts @ (logits.double().cpu().numpy() * weights)
        return dict(zip(self.names, ratio(sums, counts @ weights).T, strict=True))

    def chance(self, train_targets, targets):
        """The figures of a constant prediction; `train_targets` holds them, (N, C)."""
        return self.figures(train_targets, targets)

    def by_class(self, logits, targets):
        return {}


def table_of(scores, task):
    """(N, C) figures and weights of N tracks, from dicts metric -> (figure, weight)."""
    pairs = torch.tensor([[score[metric] for metric in task.metrics] for score in scores])
    return pairs.double().unbind(2)
