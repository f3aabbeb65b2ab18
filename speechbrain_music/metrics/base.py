"""Base class of tasks."""

import math

import numpy as np
import torch

from speechbrain_music.utils.errors import UserError


class Task:
    """A task: encodes labels as targets, computes the loss and the figures.

    N tracks, C outputs, P probes, R resamples; B items of a batch. Logits that do not fit the
    targets or are not finite, and a figure that these targets leave undefined, are a ValueError.

    `names` are those of the outputs: classes, tags or dimensions (UserError if there is none, or
    one twice). A subclass has `metrics`, in the order of reports; the mean of those `selected`
    chooses a probe, that of those `scored` enters a score across tasks.
    """

    per_output = True  # targets are (N, C) float32, a number an output; else (N,) int64, classes
    floor = -math.inf  # what a figure below it counts as in a score across tasks
    note = ""  # a rule of a metric that versions of a library differ in; for reports

    def __init__(self, names):
        self.names = tuple(map(str, names))
        self.outputs = len(self.names)
        self.places = {name: place for place, name in enumerate(self.names)}
        if len(self.places) < self.outputs or not self.names:
            raise UserError(f"the names {self.names} must be one or more, none twice: fix them")

    def encode(self, table):
        """Targets of a manifest's rows (pandas.DataFrame of text); UserError for a bad label."""
        raise NotImplementedError

    def loss(self, logits, targets):
        """Loss of each item, float32: logits (..., B, C), targets (..., B[, C]) -> (..., B)."""
        raise NotImplementedError

    def figures(self, logits, targets):
        """dict metric -> float: logits (N, C), targets (N[, C])."""
        once = np.ones((1, len(targets)), np.int64)
        return {metric: float(v[0]) for metric, v in self.resampled(logits, targets, once).items()}

    def select(self, logits, targets):
        """Mean of the selected metrics of P probes: logits (P, N, C) -> (P,) float64 on the CPU.

        -inf for a probe whose logits are not finite, so that it is not chosen.
        """
        values = torch.full((len(logits),), -math.inf, dtype=torch.float64)
        for probe in logits.isfinite().flatten(1).all(dim=1).nonzero().flatten().tolist():
            found = self.figures(logits[probe], targets)
            values[probe] = np.mean([found[metric] for metric in self.selected])
        return values

    def resampled(self, logits, targets, counts):
        """Figures in R resamples: counts (R, N) int -> dict metric -> (R,) float64 array.

        Each equals `figures` on the rows repeated that often; nan where that is not defined.
        """
        return self._resampled(logits.detach(), self._checked(logits, targets), counts)

    def _resampled(self, logits, targets, counts):
        raise NotImplementedError

    def chance(self, train_targets, targets):
        """dict metric -> float: the score of the best constant prediction for `train_targets`."""
        raise NotImplementedError

    def bounds(self, metric, targets):
        """The least and the greatest value of a metric, None where there is no bound."""
        return None if metric.startswith("r2") else 0, 1

    def marble_compat(self, logits, targets):
        """As `figures`, of the metrics that MARBLE's code averages in another way."""
        return {}

    def absent(self, targets):
        """Names of classes or tags that no track has."""
        return []

    def by_class(self, logits, targets):
        """dict name -> dict of figures, None for those a class or tag leaves undefined."""
        return {}

    def confusion(self, logits, targets):
        """(C, C) int64 counts, rows = truth; None where there are no classes."""
        return None

    def _place(self, table, row, label):
        """The output of a label of a manifest's row; UserError for a bad one."""
        if label not in self.places:
            raise refused(table, row, self.column, label, self.names)
        return self.places[label]

    def _checked(self, logits, targets):
        """`targets` on the logits' device, float64 if they are numbers and not classes."""
        rows = logits.shape[-2:] if self.per_output else logits.shape[-2:-1]
        if (
            logits.ndim != 2
            or logits.shape[-1] != self.outputs
            or targets.shape != rows
            or targets.is_floating_point() != self.per_output
        ):
            raise ValueError(
                f"logits {tuple(logits.shape)} and {targets.dtype} targets {tuple(targets.shape)} "
                f"do not fit: pass logits (tracks, {self.outputs}), and targets as encode makes "
                "them"
            )
        if not len(targets):
            raise ValueError("there is no track to evaluate: pass one or more")
        if not logits.isfinite().all():
            raise ValueError("logits are not finite: the probe diverged; lower its learning rate")
        targets = targets.to(logits.device)
        return targets.double() if self.per_output else targets


def read_column(table, column):
    """The texts of a manifest's column, "" for an empty cell; UserError if there is no column."""
    if column not in table:
        raise UserError(
            f"the manifest has no column {column}, only {', '.join(table)}: add it to the labels "
            "that the yaml's `prepare` reads, and run the same command again"
        )
    return table[column].fillna("").tolist()


def refused(table, row, column, value, allowed):
    """The UserError for a label outside `allowed` (sequence of str)."""
    track = table["ID"].iloc[row] if "ID" in table else f"in row {row}"
    known = ", ".join(allowed[:12]) + (f" ... ({len(allowed)} in all)" if allowed[12:] else "")
    return UserError(
        f"track {track} has {column} {value!r}, allowed are {known}: correct the label, "
        "or the classes of the yaml, and run the same command again"
    )


def ratio(total, of):
    """total / of in float64, nan where `of` is 0."""
    return np.divide(total, of, out=np.full(np.shape(total), np.nan), where=of > 0)
