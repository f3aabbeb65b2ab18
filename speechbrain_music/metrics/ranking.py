"""ROC-AUC and average precision in many resamples."""

import numpy as np

from speechbrain_music.metrics.base import ratio


def in_resamples(scores, positive, counts):
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
