"""Intervals, p-values and scores against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from speechbrain_music.metrics.resampling import (
    compare,
    draw_counts,
    holm,
    interval,
    over_encoders,
    paired_p,
    recentred,
    score,
)
from speechbrain_music.metrics.tasks import MultiLabel, MusicalKey, Regression


def test_counts_are_those_of_a_bootstrap():
    counts = draw_counts(50, resamples=400, seed=3)
    assert counts.shape == (400, 50) and counts.dtype == np.int32
    assert (counts.sum(axis=1) == 50).all()
    assert (counts == draw_counts(50, resamples=400, seed=3)).all()
    assert (counts != draw_counts(50, resamples=400, seed=4)).any()
    # 50 draws of 1/50: every track once on average, variance 1 - 1/50.
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    for bad in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="1 or more"):
            draw_counts(*bad)


def test_interval_by_hand():
    values = np.random.default_rng(0).permutation(np.arange(201.0))
    assert interval(values) == pytest.approx({"low": 5, "high": 195})  # 2.5% and 97.5%
    assert interval([1, math.nan, 3, math.nan]) == pytest.approx({"low": 1.05, "high": 2.95})
    with pytest.raises(ValueError, match="nan"):
        interval([math.nan, math.nan])


def test_score_by_hand():
    # (0.75 - 0.5) / 0.5 = 0.5 and (0.4 - 0.2) / 0.8 = 0.25.
    figures, chance = {"roc_auc": 0.75, "average_precision": 0.4}, {"roc_auc": 0.5}
    tags = MultiLabel("tags", ["slow"])
    found = score(tags, figures, chance | {"average_precision": 0.2})
    assert type(found) is float and found == pytest.approx(0.375)
    # Accuracy does not count; under chance is under 0.
    figures, chance = {"weighted_score": 0.1, "accuracy": 1.0}, {"weighted_score": 0.2}
    key = MusicalKey("key", ["C major", "G major"])
    assert score(key, figures, chance) == pytest.approx(-0.125)
    # R2 of -3 counts as 0, before the mean with 0.5.
    task = Regression(["arousal_z", "valence_z"])
    figures = {"r2_arousal": np.array([-3, 0.2]), "r2_valence": np.array([0.5, math.nan])}
    found = score(task, figures, {"r2_arousal": 0.0, "r2_valence": 0.0})
    assert found.tolist() == pytest.approx([0.25, math.nan], nan_ok=True)
    with pytest.raises(ValueError, match="below 1"):
        score(tags, {"roc_auc": 1, "average_precision": 1}, {"roc_auc": 0, "average_precision": 1})


def test_paired_p_by_hand():
    # One of four at or under 0: 2 x (1 + 1) / (4 + 1).
    assert paired_p([-1, 1, 2, 3]) == paired_p([1, -1, -2, -3]) == pytest.approx(0.8)
    assert paired_p([1, 2, 3, math.nan]) == pytest.approx(2 / 4)
    assert paired_p(np.zeros(9)) == paired_p([-1, 1]) == 1
    with pytest.raises(ValueError, match="nan"):
        paired_p([math.nan])


def test_holm_by_hand():
    # Sorted 0.01 x 4, 0.02 x 3, 0.03 x 2 (no less than before), 0.9 x 1.
    p_values = {"tags": 0.03, "key": 0.9, "genre": 0.01, "pitch": 0.02}
    assert holm(p_values) == pytest.approx({"tags": 0.06, "key": 0.9, "genre": 0.04, "pitch": 0.06})
    assert list(holm(p_values)) == list(p_values)
    assert holm({"a": 0.8, "b": 0.7}) == {"a": 1, "b": 1}
    assert holm({}) == {}


def test_resampled_values_are_recentred_at_the_figure():
    drawn = [0.5, math.nan, 0.7] * 10
    assert recentred(drawn, 0.4)[:3] == pytest.approx([0.3, math.nan, 0.5], nan_ok=True)
    assert recentred(drawn, 0.59)[:3] == pytest.approx(drawn[:3], nan_ok=True)  # 0.01 is no bias


def test_one_track_decides_nothing():
    """Systems that differ on one of 300 tracks, as probes of three seeds."""
    right = np.random.default_rng(0).random((3, 300)) < 0.7
    worse = right.copy()
    worse[0, np.flatnonzero(right[0])[0]] = False
    counts, scores = draw_counts(300, seed=1), {}
    for name, hits in (("one", right), ("two", worse)):
        drawn = [recentred(counts @ seed / 300, seed.mean()) for seed in hits]
        scores[name] = {"task": (hits.mean(), np.mean(drawn, axis=0))}
    (pair,) = compare(scores)
    assert pair["tasks"]["task"]["p"] > 0.5
    assert pair["all tasks"]["low"] == 0 and not pair["all tasks"]["differs"]


def test_the_error_of_a_mean_over_encoders_is_students():
    values = np.repeat([[0.0], [1.0], [5.0]], 200_000, axis=1)
    errors = (over_encoders(values, np.random.default_rng(0)) - 2) / math.sqrt(7 / 3)
    # Quantiles of Student's t with 2 degrees of freedom.
    assert np.quantile(errors, [0.05, 0.9, 0.975]) == pytest.approx([-2.92, 1.886, 4.303], rel=0.02)
    one = np.random.default_rng(1).random((1, 7))
    assert (over_encoders(one, np.random.default_rng(0)) == one[0]).all()
    # Each resample stays itself: encoders that agree have its value.
    same = np.repeat(one, 3, axis=0)
    assert over_encoders(same, np.random.default_rng(0)) == pytest.approx(one[0])
    # Tasks with the same encoders can be added.
    other = np.random.default_rng(2).random((3, 200_000))
    parts = [over_encoders(part, np.random.default_rng(0)) for part in (values, other)]
    assert sum(parts) == pytest.approx(over_encoders(values + other, np.random.default_rng(0)))


def test_a_pooled_spread_has_the_degrees_of_freedom_of_all_systems():
    systems = [np.repeat(np.array(x)[:, None], 300_000, axis=1) for x in ([0.0, 1], [4.0, 7], [2])]
    spread = math.sqrt((0.5 + 4.5) / 2)  # of five encoders of three systems, one of them single
    draw = [
        over_encoders(systems[i], np.random.default_rng(i), systems[:i] + systems[i + 1 :])
        for i in range(3)
    ]
    errors = (draw[0] - 0.5) * math.sqrt(2) / spread
    # Quantiles of Student's t with 2 degrees of freedom; so has the difference of two systems.
    expected = pytest.approx([-2.92, 1.886, 4.303], rel=0.02)
    assert np.quantile(errors, [0.05, 0.9, 0.975]) == expected
    assert np.quantile((draw[0] - draw[1] + 5) / spread, [0.05, 0.9, 0.975]) == expected
    assert (draw[2] == 2).all()


@pytest.mark.slow
def test_pooled_intervals_cover_the_truth_and_are_shorter():
    """Four systems of two encoders on the same 60 tracks, the first two compared."""
    rng, worlds, found = np.random.default_rng(5), 400, {True: [], False: []}
    counts = draw_counts(60, 500) / 60
    for _ in range(worlds):
        tracks = rng.normal(size=60)
        systems = [
            tracks + rng.normal(size=(2, 60)) + 0.2 * rng.normal(size=(2, 1)) for _ in range(4)
        ]
        drawn = [s @ counts.T for s in systems]
        value = systems[0].mean() - systems[1].mean()
        for pooled, spans in found.items():
            one, two = (
                over_encoders(
                    drawn[i], np.random.default_rng(i), (drawn[:i] + drawn[i + 1 :]) * pooled
                )
                for i in range(2)
            )
            spans.append(interval(recentred(one - two, value)).values())
    covered, width = (
        {pooled: np.mean([f(*span) for span in spans]) for pooled, spans in found.items()}
        for f in (lambda low, high: low <= 0 <= high, lambda low, high: high - low)
    )
    assert covered[True] >= 0.93 and width[True] < 0.6 * width[False], (covered, width)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3), (3, 3), (2, 1)])
def test_intervals_of_differences_cover_the_truth(first, second):
    """Two systems of so many encoders on the same 60 tracks; encoders and tracks differ alike."""
    rng, covered, worlds = np.random.default_rng(first), 0, 400
    counts = draw_counts(60, 500) / 60
    for _ in range(worlds):
        tracks = rng.normal(size=60)
        # A single encoder is the system: its own error is no part of the interval.
        systems = [
            tracks + rng.normal(size=(n, 60)) + 0.2 * (n > 1) * rng.normal(size=(n, 1))
            for n in (first, second)
        ]
        drawn = [
            over_encoders(s @ counts.T, np.random.default_rng(i)) for i, s in enumerate(systems)
        ]
        value = systems[0].mean() - systems[1].mean()
        low, high = interval(recentred(drawn[0] - drawn[1], value)).values()
        covered += low <= 0 <= high
    assert covered / worlds >= 0.93, covered / worlds  # two standard errors are 0.022


@pytest.mark.slow
def test_the_interval_of_average_precision_covers_the_expected_one():
    """Of test sets of this size. Tracks that a resample holds twice raise average precision."""
    rng, worlds, tracks, tags = np.random.default_rng(0), 100, 60, 20
    task = MultiLabel("tags", [f"tag {number}" for number in range(tags)])
    values, intervals, percentiles = [], [], []
    for _ in range(worlds):
        there = rng.random((tracks, tags)) < 0.1
        logits = torch.from_numpy(rng.normal(size=there.shape) + 1.5 * there)
        targets = torch.from_numpy(there.astype(np.float32))
        drawn = task.resampled(logits, targets, draw_counts(tracks, 200))["average_precision"]
        values.append(task.figures(logits, targets)["average_precision"])
        intervals.append(interval(recentred(drawn, values[-1])).values())
        percentiles.append(interval(drawn).values())
    expected = np.mean(values)
    covered, before = (
        np.mean([low <= expected <= high for low, high in found])
        for found in (intervals, percentiles)
    )
    assert covered >= 0.92 > 0.9 > before, (covered, before)
