"""Classes of task: one label, a key, tags, numbers.

A track has one row of logits, averaged over its chunks by the caller.
"""

import inspect
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from speechbrain_music.metrics.base import Task, ratio, read_column, refused
from speechbrain_music.utils.errors import UserError

# Entries of counts (R, N) that are sorted at a time: 32 MB as int64.
AT_A_TIME = 2**22


class SingleLabel(Task):
    """One class per track; cross-entropy; accuracy.

    `classes` are all values of a manifest's column, in the order of the outputs.

    Example
    -------
    >>> task = SingleLabel("genre", ["blues", "jazz"])
    >>> targets = task.encode(pd.DataFrame({"ID": ["a", "b"], "genre": ["jazz", "blues"]}))
    >>> targets, task.figures(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), targets)
    (tensor([1, 0]), {'accuracy': 0.5})
    """

    metrics = selected = scored = ("accuracy",)
    per_output = False

    def __init__(self, column, classes):
        super().__init__(classes)
        self.column = column
        # Score of a predicted class (column) where a class (row) is true: a metric is its mean.
        self.score_matrix = {"accuracy": torch.eye(self.outputs, dtype=torch.float64)}

    def encode(self, table):
        labels = enumerate(read_column(table, self.column))
        places = [self._place(table, row, label) for row, label in labels]
        return torch.tensor(places, dtype=torch.int64)

    def loss(self, logits, targets):
        rows = logits.float().flatten(0, -2)
        return F.cross_entropy(rows, targets.flatten(), reduction="none").view(targets.shape)

    def _resampled(self, logits, targets, counts):
        pairs, drawn = (targets.cpu(), logits.argmax(dim=-1).cpu()), counts.sum(axis=1)
        return {
            name: ratio(counts @ self.score_matrix[name][pairs].numpy(), drawn)
            for name in self.metrics
        }

    def chance(self, train_targets, targets):
        figures = {}
        for metric in self.metrics:
            scores = self.score_matrix[metric]
            constant = scores[train_targets].mean(dim=0).argmax()
            figures[metric] = float(scores[targets, constant].mean())
        return figures

    def absent(self, targets):
        counts = targets.bincount(minlength=self.outputs).tolist()
        return [name for name, count in zip(self.names, counts, strict=True) if not count]

    def by_class(self, logits, targets):
        confusion = self.confusion(logits, targets)
        parts = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        columns = map(torch.Tensor.tolist, parts)
        figures = {}
        for name, hits, count, predicted in zip(self.names, *columns, strict=True):
            recall = hits / count if count else None
            precision = hits / predicted if predicted else None
            figures[name] = {"count": count, "recall": recall, "precision": precision}
        return figures

    def confusion(self, logits, targets):
        targets = self._checked(logits, targets)
        pairs = targets * self.outputs + logits.argmax(dim=-1)
        counts = pairs.bincount(minlength=self.outputs**2)
        return counts.view(self.outputs, self.outputs).cpu()


class MusicalKey(SingleLabel):
    """A key like "Eb minor"; cross-entropy; MIREX weighted score and accuracy.

    The score is mir_eval's: 1 for the key, 0.5 for the key a fifth above, 0.3 for the relative and
    0.2 for the parallel one.
    """

    note = "The weighted score counts a fifth above as 0.5 and a fifth below as 0."
    metrics = ("weighted_score", "accuracy")
    selected = scored = ("weighted_score",)

    def __init__(self, column, classes):
        import mir_eval.key

        super().__init__(column, classes)
        score = mir_eval.key.weighted_score
        if "allow_descending_fifths" in inspect.signature(score).parameters:  # after 0.8.2
            score = partial(score, allow_descending_fifths=False)
        try:
            scores = [[score(i, j) for j in self.names] for i in self.names]
        except ValueError as error:
            raise UserError(
                f"{column} cannot be scored ({error}): write keys as 'Eb minor'"
            ) from None
        matrix = self.score_matrix["weighted_score"] = torch.tensor(scores, dtype=torch.float64)
        if (same := (matrix == 1).triu(1).nonzero()).numel():
            one, two = (self.names[place] for place in same[0])
            raise UserError(f"{column} has {one!r} and {two!r}, the same key: write it in one way")


class MultiLabel(Task):
    """Any number of tags per track; binary cross-entropy; ROC-AUC and average precision, macro.

    A tag that no track has, or every track, cannot be scored: means are over the other tags.

    `classes` are all tags, in the order of the outputs, between which a cell of the manifest's
    column has a separator; an empty cell is a track without tags.
    """

    metrics = scored = ("roc_auc", "average_precision")
    selected = ("roc_auc",)

    def __init__(self, column, classes, separator="|"):
        super().__init__(classes)
        self.column, self.separator = column, separator

    def encode(self, table):
        targets = torch.zeros(len(table), self.outputs)
        for row, cell in enumerate(read_column(table, self.column)):
            for tag in filter(None, map(str.strip, cell.split(self.separator))):
                targets[row, self._place(table, row, tag)] = 1
        return targets

    def loss(self, logits, targets):
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return losses.mean(dim=-1)

    def marble_compat(self, logits, targets):
        # A tag that cannot be scored counts as 0; the precision of one that all tracks have as 1.
        truth = self._checked(logits, targets) > 0
        found = {m: np.nan_to_num(v) for m, v in self._by_tag(logits, targets).items()}
        found["average_precision"][truth.all(dim=0).cpu().numpy()] = 1
        return {metric: float(values.mean()) for metric, values in found.items()}

    def _by_tag(self, logits, targets, counts=None):
        """metric -> (C, R) values of all tags, nan where they cannot be scored; once by default."""
        scores, truth = logits.double().cpu().numpy(), targets.cpu().numpy() > 0
        counts = np.ones((1, len(scores)), np.int64) if counts is None else counts
        step = max(1, AT_A_TIME // len(scores))
        parts = np.split(counts, range(step, len(counts), step))
        found = [
            np.concatenate([_in_resamples(*tag, part) for part in parts], axis=1)
            for tag in zip(scores.T, truth.T, strict=True)
        ]
        return dict(zip(self.metrics, np.stack(found, axis=1), strict=True))

    def _scoreable(self, targets):
        """Indices of the tags that some tracks have and some have not."""
        positives = targets.sum(dim=0)
        tags = ((positives > 0) & (positives < len(targets))).nonzero().flatten().tolist()
        if not tags:
            raise UserError(
                f"no tag is on some of {len(targets)} tracks and not on others: use more tracks"
            )
        return tags

    def _resampled(self, logits, targets, counts):
        self._scoreable(targets)
        return {
            metric: ratio(np.nan_to_num(values).sum(axis=0), (~np.isnan(values)).sum(axis=0))
            for metric, values in self._by_tag(logits, targets, counts).items()
        }

    def chance(self, train_targets, targets):
        # With equal scores for all tracks the precision is the share of positive ones.
        shares = targets[:, self._scoreable(targets)].double().mean(dim=0)
        return {"roc_auc": 0.5, "average_precision": float(shares.mean())}

    def absent(self, targets):
        return [self.names[tag] for tag in (~targets.any(dim=0)).nonzero().flatten().tolist()]

    def by_class(self, logits, targets):
        self._checked(logits, targets)
        found, figures = self._by_tag(logits, targets), {}
        for tag, (name, count) in enumerate(zip(self.names, targets.sum(dim=0), strict=True)):
            row = {m: None if np.isnan(v[tag]) else v[tag].item() for m, v in found.items()}
            figures[name] = {"count": int(count)} | row
        return figures


class Regression(Task):
    """Numbers, standardised as `arousal_z` is; squared error; R2 of each.

    The names are those of the manifest's columns without `_z`.
    """

    floor = 0.0

    def __init__(self, columns):
        self.columns = tuple(columns)
        super().__init__(column.removesuffix("_z") for column in self.columns)
        self.metrics = self.selected = self.scored = tuple(f"r2_{name}" for name in self.names)

    def encode(self, table):
        targets = torch.empty(len(table), self.outputs)
        for place, column in enumerate(self.columns):
            texts = read_column(table, column)
            numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
            targets[:, place] = torch.tensor(numbers.tolist())
            bad = (~targets[:, place].isfinite()).nonzero()
            if len(bad):
                raise refused(table, int(bad[0]), column, texts[bad[0]], ["finite numbers"])
        return targets

    def loss(self, logits, targets):
        return (logits.float() - targets).square().mean(dim=-1)

    def _resampled(self, logits, targets, counts):
        for name, column in zip(self.names, targets.T, strict=True):
            if (column == column[0]).all():
                raise UserError(
                    f"R2 of {name} is not defined, all {len(column)} targets are {column[0]:g}: "
                    "use more tracks"
                )
        errors = (logits.double() - targets).square().cpu().numpy()
        truth = (targets - targets.mean(dim=0)).cpu().numpy()
        drawn, total = counts.sum(axis=1, keepdims=True), counts @ truth**2
        spread = total - drawn * ratio(counts @ truth, drawn) ** 2
        spread[spread < 1e-12 * total] = 0  # rounding leaves one where all values are the same
        return dict(zip(self.metrics, (1 - ratio(counts @ errors, spread)).T, strict=True))

    def chance(self, train_targets, targets):
        return dict.fromkeys(self.metrics, 0.0)

    def by_class(self, logits, targets):
        found = self.figures(logits, targets)
        return {name: {"r2": found[f"r2_{name}"]} for name in self.names}


def _in_resamples(scores, positive, counts):
    """ROC-AUC and average precision (R,) of one tag in R resamples of N items.

    counts (R, N) int: how often an item is in a resample. Scores (N,) are sorted once, a resample
    only changes these. nan where a resample holds no positive or no negative item.
    """
    order = np.argsort(-scores)  # the best score first
    ranked, hits = scores[order], order[positive[order]]
    # Thresholds at which positive items lie; each with all items above it, and with its ties.
    thresholds = np.unique(scores[positive])[::-1]
    above, through = (np.searchsorted(-ranked, -thresholds, side) for side in ("left", "right"))
    last_hit = np.searchsorted(-scores[hits], -thresholds, "right")

    items = _cumulated(counts[:, order])
    items_above, items_through = items[:, above], items[:, through]
    true_through = _cumulated(counts[:, hits])[:, np.append(0, last_hit)]
    true_above, true_through = true_through[:, :-1], true_through[:, 1:]
    drawn = true_through - true_above
    positives = drawn.sum(axis=1)
    negatives = items[:, -1] - positives

    # An item beats the negatives under its threshold, and half of those on it.
    false_alarms = (items_above - true_above + items_through - true_through) / 2
    beaten = (drawn * (negatives[:, None] - false_alarms)).sum(axis=1)
    precision = (drawn * (true_through / np.maximum(items_through, 1))).sum(axis=1)
    pairs = positives * negatives
    return ratio(beaten, pairs), ratio(precision, np.where(pairs > 0, positives, 0))


def _cumulated(counts):
    """(R, N) -> (R, N + 1) int64 sums of the first 0, 1 ... N items."""
    return np.pad(counts, ((0, 0), (1, 0))).cumsum(axis=1, dtype=np.int64)
