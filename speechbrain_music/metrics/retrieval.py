"""Retrieval of excerpts of the same recording or label: top-1 accuracy, average precision."""

import numpy as np

METRICS = ("top1", "average_precision")
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


def retrieve(vectors, recordings, places, gap=0, groups=None):
    """Rank the other excerpts by cosine similarity to each excerpt; those of its group are
    relevant.

    vectors (N, D) are of length 1; recordings and places (N,) int are the recording of each
    excerpt and the excerpt's number in it; `gap` neighbours on each side are not ranked, with
    infinity no excerpt of the same recording is. groups (N,) are the recordings by default. Ties
    are averaged. Returns top1 (whether the most similar excerpt is of the group) and
    average_precision, each (N,) float64, nan where no relevant excerpt is ranked.
    """
    found = {name: np.full(len(vectors), np.nan) for name in METRICS}
    for query, own, same, row in _queries(recordings, places, gap, groups, vectors):
        relevant = row[same]
        ranked = np.delete(row, own)
        best = ranked.max()
        found["top1"][query] = (relevant == best).sum() / (ranked == best).sum()
        through, hits = (  # how many score as high as each relevant one, or higher
            len(values) - np.searchsorted(np.sort(values), relevant, "left")
            for values in (ranked, relevant)
        )
        found["average_precision"][query] = np.mean(hits / through)
    return found


def chance_level(recordings, places, gap=0, groups=None):
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
    return chance


def _queries(recordings, places, gap, groups, vectors=None):
    """For each excerpt with relevant ones: its row, the rows that are not ranked (itself and its
    neighbours), those that are relevant, and (N,) similarities."""
    groups = recordings if groups is None else groups
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        similar = None if vectors is None else vectors[rows] @ vectors.T
        for number, query in enumerate(rows):
            near = np.abs(places[rows] - places[query]) <= gap
            near &= recordings[rows] == recordings[query]
            if not near.all():
                yield query, rows[near], rows[~near], None if similar is None else similar[number]
