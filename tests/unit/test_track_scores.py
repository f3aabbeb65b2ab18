"""Scores of tracks: means over tracks and over the corpus, and what intervals need."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechbrain_music.dataio.annotations import Beats
from speechbrain_music.evaluation.results import summarise
from speechbrain_music.metrics.frame_tasks import BeatTracking
from speechbrain_music.metrics.track_scores import TrackScores


class Fake:
    """A task whose annotations are (score, weight) already; the second metric may be undefined."""

    metrics, corpus_metrics = ("f", "down"), ("f", "pooled")
    scored = ("f",)

    def weighted_scores(self, reference, estimate, duration):
        value = {"f": estimate, "down": reference, "pooled": 1 - estimate}
        return {metric: (score, duration) for metric, score in value.items()}


def test_means():
    scores = TrackScores(Fake(), ["mlp", "tcn"])
    assert scores.metrics[:4] == ("mlp f", "mlp down", "mlp corpus_f", "mlp pooled")
    assert scores.scored == ("mlp f", "tcn f")
    values = scores.of_tracks([0.5, np.nan, 0.1], [0.2, 0.4, 0.9], [10.0, 30.0, 60.0])
    assert values.shape == (3, 8) and values[1, 1::2].tolist() == [1, 0, 30, 30]
    both = [values.repeat(1, 2)] * 2
    figures = scores.figures(*both)
    assert figures["tcn f"] == pytest.approx(0.5)
    assert figures["tcn down"] == pytest.approx(0.3)  # of two tracks
    assert figures["tcn corpus_f"] == pytest.approx((0.2 * 10 + 0.4 * 30 + 0.9 * 60) / 100)
    counts = np.array([[1, 1, 1], [0, 2, 1], [0, 3, 0]])
    drawn = scores.resampled(*both, counts)
    assert drawn["mlp f"] == pytest.approx([0.5, (0.8 + 0.9) / 3, 0.4])
    assert np.isnan(drawn["mlp down"][2]) and drawn["mlp down"][1] == pytest.approx(0.1)


def test_pooled_beats():
    """MARBLE's F of pooled hits: each prediction counts by its own number of beats."""
    task, true = BeatTracking(), Beats(np.arange(3.0), np.ones(3, np.int64))
    many = Beats(np.arange(0, 3, 0.25)[:9], np.ones(9, np.int64))  # all three, and six more
    scores = TrackScores(task, ["mlp"])
    found = scores.of_tracks([true, true], [true, many], [3.0, 3.0])
    figures = scores.figures(found, scores.of_tracks([true, true], [true, true], [3.0, 3.0]))
    assert figures["mlp marble_beat_f"] == pytest.approx(2 * 6 / (3 + 3 + 3 + 9))


def test_summary():
    """Two encoders of three seeds: the figures of tasks on whole clips, from scores of tracks."""
    rng = np.random.default_rng(0)
    scores = TrackScores(SimpleNamespace(**vars(Fake), corpus=None), ["mlp"])
    values = torch.from_numpy(rng.uniform(0.5, 0.9, (2, 3, 50, 4)))
    values = torch.stack([values, torch.ones_like(values)], -1).flatten(-2)
    chance = torch.tensor([0.25, 1.0], dtype=torch.float64).repeat(50, 4)
    found = summarise(scores, values, chance, chance, 200)
    figure = found["figures"]["mlp f"]
    assert figure["mean"] == pytest.approx(values[..., 0].mean().item())
    assert figure["low"] < figure["mean"] < figure["high"] and figure["chance"] == 0.25
    assert found["score"]["mean"] == pytest.approx((figure["mean"] - 0.25) / 0.75)
    assert found["confusion"] is None and found["by_class"] == {}
