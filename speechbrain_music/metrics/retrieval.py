"""Retrieval of items of the same recording, label or work: average precision and others."""

import numpy as np
import torch

from speechbrain_music.metrics.feature_statistics import make_standardizations

METRICS = ("top1", "map", "p10", "mr1", "rank_percentile")
TOP = 10
# What is done to the features of a layer: kinds of `make_standardizations`, in words.
FEATURES = {"raw": False, "centred": "centre", "standardised": True, "whitened": "whiten"}


def layer_vectors(values, features):
    """Layers of (N, L, D) values, each (N, D) of rows of length 1, by the statistics of all rows.

    `features` is "raw"; "centred": minus the mean, which removes what all share; "standardised":
    also divided by each column's deviation; or "whitened": also decorrelated.
    """
    kind = FEATURES[features]
    standardize = make_standardizations(values, np.arange(len(values)), [kind])[kind]
    values = standardize(torch.from_numpy(np.array(values))).numpy()
    return [unit_vectors(layer) for layer in values.swapaxes(0, 1)]


def unit_vectors(features):
    """Features (N, D) scaled to rows of length 1, float32; 0 where a row is 0."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def retrieve(similarities, groups, positions=None, gap=0):
    """Rank the other items by similarity to each item; those of its group are relevant.

    similarities: a function from rows (R,) of items to their similarities (R, N) with all items.
    groups (N,): of each item. An item is not ranked for one of its group whose position (N,) is
    `gap` or less away: excerpts of a recording lie one after the other, and each item has a
    position of its own by default. Returns the values of `rank_scores`, each (N,) float64, nan
    where no relevant item is ranked.
    """
    found = {name: np.full(len(groups), np.nan) for name in METRICS}
    for rows, near in _groups(groups, positions, gap):
        for query, own, row in zip(rows, near, similarities(rows), strict=True):
            if not own.all():
                scores = rank_scores(np.delete(row, rows[own]), row[rows[~own]])
                for name, value in scores.items():
                    found[name][query] = value
    return found


def rank_scores(ranked, relevant):
    """The scores of a query, by `METRICS`: similarities (n,) of all candidates and (r,) of the
    relevant ones among them.

    top1: whether the most similar candidate is relevant. map: average precision, the mean over the
    relevant ones of the share of relevant ones down to their rank. p10: share of the first ten that
    is relevant. mr1: rank of the first relevant one, from 1. rank_percentile: mean of the relevant
    ones' ranks, from 0 (first) to 1 (last). Candidates of equal similarity are in random order, of
    which this is the mean; in average precision all of them rank as the last.
    """
    ranked, hits = np.sort(ranked), np.sort(relevant)

    def above(values, side):  # how many score higher, or as high ("left")
        return len(values) - np.searchsorted(values, hits, side)

    higher, through = above(ranked, "right"), above(ranked, "left")
    tied, best = through - higher, hits == hits[-1]
    return {
        "top1": best.sum() / tied[-1] if not higher[-1] else 0.0,
        "map": np.mean(above(hits, "left") / through),
        "p10": ((TOP - higher) / tied).clip(0, 1).sum() / TOP,
        "mr1": higher[-1] + (tied[-1] + 1) / (best.sum() + 1),
        "rank_percentile": np.mean(higher + (tied - 1) / 2) / max(1, len(ranked) - 1),
    }


def chance_level(groups, positions=None, gap=0):
    """The expected values of `retrieve` if the order is random.

    Of N ranked items, R of them relevant, the expected average precision is
    (H + (R - 1) (N - H) / (N - 1)) / N, with H = 1 + 1/2 + ... + 1/N: an item at rank k is
    relevant in R of N cases, and then R - 1 of the N - 1 others are, k - 1 of which rank higher.
    """
    ranked, relevant = np.full((2, len(groups)), np.nan)
    for rows, near in _groups(groups, positions, gap):
        others = (~near).sum(axis=1)
        ranked[rows] = len(groups) - near.sum(axis=1)
        relevant[rows] = np.where(others, others, np.nan)
    harmonic = np.cumsum(1 / np.arange(1, len(groups) + 1))[ranked.astype(int) - 1]
    share = (relevant - 1) / np.maximum(ranked - 1, 1)
    return {
        "top1": relevant / ranked,
        "map": (harmonic + share * (ranked - harmonic)) / ranked,
        "p10": np.minimum(TOP, ranked) * relevant / ranked / TOP,
        "mr1": (ranked + 1) / (relevant + 1),
        "rank_percentile": np.where(ranked > 1, 0.5, 0.0) + 0 * relevant,
    }


def _groups(groups, positions, gap):
    """For each group: its rows (G,), and for each of them (G, G) which are not ranked."""
    positions = np.arange(len(groups)) if positions is None else positions
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        yield rows, np.abs(positions[rows] - positions[rows][:, None]) <= gap
