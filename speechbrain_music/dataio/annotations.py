"""Annotations in time: beats, and labelled intervals (chords, sections).

They are what people annotate: seconds, not frames. Metrics compare with these times.
"""

from typing import NamedTuple

import numpy as np


class Beats(NamedTuple):
    """Beats of a track."""

    times: np.ndarray  # (N,) float64 seconds, ascending
    positions: np.ndarray  # (N,) int64 in the bar, from 1 (the downbeat); 0 where it is unknown


class LabelledIntervals(NamedTuple):
    """Chords or sections of a track, one after the other."""

    intervals: np.ndarray  # (N, 2) float64 seconds
    labels: list  # (N,) of str
