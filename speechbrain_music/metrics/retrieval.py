"""Retrieval of items of the same recording, label or work: average precision and others."""

import numpy as np

METRICS = ("top1", "average_precision", "precision_at_10", "first_rank", "rank_percentile")
TOP = 10
FEATURES = ("raw", "centred")  # how the features of a study become vectors


def unit_vectors(features, kind="standardised"):
    """Features (N, D) scaled to rows of length 1, float32; 0 where a row is 0.

    `kind` is "raw"; "centred": minus the mean of all rows, which removes what they share; or
    "standardised": also divided by each column's deviation (0 where a column does not vary).
    """
    features = features.astype(np.float64)
    if kind != "raw":
        varies = features.min(axis=0) < features.max(axis=0)
        scale = features.std(axis=0) if kind == "standardised" else 1.0
        features = (features - features.mean(axis=0)) / np.where(varies, scale, np.inf)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def retrieve(vectors, recordings, places=None, gap=0, groups=None):
    """Rank the other excerpts by similarity to each excerpt; those of its group are relevant.

    vectors (N, D) are of length 1, their similarity is the cosine; or a function from rows (R,) to
    their similarities (R, N). recordings and places (N,) int are the recording of each excerpt and
    the excerpt's number in it; `gap` neighbours on each side are not ranked, with infinity no
    excerpt of the same recording is. Without places a recording is one excerpt. groups (N,) are the
    recordings by default. Returns the values of `rank_scores`, each (N,) float64, nan where no
    relevant excerpt is ranked.
    """
    found = {name: np.full(len(recordings), np.nan) for name in METRICS}
    similarities = vectors if callable(vectors) else lambda rows: vectors[rows] @ vectors.T
    for query, own, same, row in _queries(recordings, places, gap, groups, similarities):
        for name, value in rank_scores(np.delete(row, own), row[same]).items():
            found[name][query] = value
    return found


def rank_scores(ranked, relevant):
    """The scores of a query, by `METRICS`: similarities (n,) of all candidates and (r,) of the
    relevant ones among them.

    top1: whether the most similar candidate is relevant. average_precision: mean over the relevant
    ones of the share of relevant ones down to their rank. precision_at_10: share of the first ten
    that is relevant. first_rank: of the first relevant one, from 1. rank_percentile: mean of the
    relevant ones' ranks, from 0 (first) to 1 (last). Candidates of equal similarity are in random
    order, of which this is the mean; in average_precision all of them rank as the last.
    """
    ranked, hits = np.sort(ranked), np.sort(relevant)

    def above(values, side):  # how many score higher, or as high ("left")
        return len(values) - np.searchsorted(values, hits, side)

    higher, through = above(ranked, "right"), above(ranked, "left")
    tied, best = through - higher, hits == hits[-1]
    return {
        "top1": best.sum() / tied[-1] if not higher[-1] else 0.0,
        "average_precision": np.mean(above(hits, "left") / through),
        "precision_at_10": ((TOP - higher) / tied).clip(0, 1).sum() / TOP,
        "first_rank": higher[-1] + (tied[-1] + 1) / (best.sum() + 1),
        "rank_percentile": np.mean(higher + (tied - 1) / 2) / max(1, len(ranked) - 1),
    }


def chance_level(recordings, places=None, gap=0, groups=None):
    """The expected values of `retrieve` if the order is random.

    Of N ranked excerpts, R of them relevant, the expected average precision is
    (H + (R - 1) (N - H) / (N - 1)) / N, with H = 1 + 1/2 + ... + 1/N: an excerpt at rank k is
    relevant in R of N cases, and then R - 1 of the N - 1 others are, k - 1 of which rank higher.
    """
    harmonic = np.cumsum(1 / np.arange(1, len(recordings) + 1))
    chance = {name: np.full(len(recordings), np.nan) for name in METRICS}
    for query, own, same, _ in _queries(recordings, places, gap, groups):
        ranked, relevant = len(recordings) - len(own), len(same)
        h = harmonic[ranked - 1]
        share = (relevant - 1) / (ranked - 1) if ranked > 1 else 0.0
        chance["top1"][query] = relevant / ranked
        chance["average_precision"][query] = (h + share * (ranked - h)) / ranked
        chance["precision_at_10"][query] = min(TOP, ranked) * relevant / ranked / TOP
        chance["first_rank"][query] = (ranked + 1) / (relevant + 1)
        chance["rank_percentile"][query] = 0.5 if ranked > 1 else 0.0
    return chance


def _queries(recordings, places, gap, groups, similarities=None):
    """For each excerpt with relevant ones: its row, the rows that are not ranked (itself and its
    neighbours), those that are relevant, and (N,) similarities."""
    groups = recordings if groups is None else groups
    places = np.zeros(len(recordings)) if places is None else places
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        similar = None if similarities is None else similarities(rows)
        for number, query in enumerate(rows):
            near = np.abs(places[rows] - places[query]) <= gap
            near &= recordings[rows] == recordings[query]
            if not near.all():
                yield query, rows[near], rows[~near], None if similar is None else similar[number]
