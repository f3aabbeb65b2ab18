"""Version identification (cover songs): which tracks are performances of the same work."""

import numpy as np
import pandas as pd
import torch

from speechbrain_music.metrics.base import read_column
from speechbrain_music.metrics.retrieval import TOP, retrieve

ORIGINAL = "original"


class VersionIdentification:
    """The task: each track is a query, and all others of its split are ranked by similarity.

    Relevant are those of the same work. A query is not ranked itself; one without another version
    is ranked but is no query. `metrics` are means over queries: map (mean average precision), p10
    (precision at 10: with fewer than ten versions it is below 1), mr1 (mean rank of the first
    version) and rank_percentile (of all versions, 0 is best). Attributes as of `Task`.

    Arguments
    ---------
    column : str
        The manifest's column with the name of the work.
    changes : str
        The column with the kind of change against the work's first version, "" for that one; all
        are empty where nothing is known.
    """

    metrics, corpus_metrics = ("map", "p10", "mr1", "rank_percentile"), ()
    selected = scored = ("map",)
    outputs, note = 2, ""
    heads = "raw", "centred", "whitened", "attention"

    def __init__(self, column="work", changes="change"):
        self.column, self.changes = column, changes

    def encode(self, table):
        """The work of each row of a manifest: a number (M,) int64."""
        return torch.from_numpy(pd.factorize(np.array(read_column(table, self.column)))[0])

    def absent(self, targets):
        """No class can lack tracks."""
        return []

    def score(self, similarities, works, tracks=None):
        """Metrics of each query, by `retrieval.METRICS`: (M,) float64, nan if without versions.

        similarities: a function from rows (R,) of tracks to (R, M); works (M,) are numbers or
        names. With `tracks` (K,), only these rows are ranked, and have scores (K,).
        """
        tracks = np.arange(len(works)) if tracks is None else tracks
        return retrieve(lambda rows: similarities(tracks[rows])[:, tracks], works[tracks])

    def bounds(self, metric, queries):
        """Least and greatest mean of a metric; each of W works has `queries` (W,) tracks."""
        bounds = {"mr1": (1, None), "p10": (0, min(TOP, int(max(queries)) - 1) / TOP)}
        return bounds.get(metric, (0, 1))
