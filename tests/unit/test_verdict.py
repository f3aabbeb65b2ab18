"""Figures with their spread, comparisons and answers of tracks, by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from speechbrain.utils.run_opts import RunOptions

from speechbrain_music.brains import sweep as sweeping
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.brains.protocol import load_task
from speechbrain_music.dataio.feature_batches import FeatureSplit, SequentialChunks
from speechbrain_music.metrics.comparison import compare
from speechbrain_music.metrics.summary import resampled_figures, summarise
from speechbrain_music.metrics.tasks import MultiLabel, MusicalKey, Regression, SingleLabel

LETTER = SingleLabel("letter", list("abc"))
ANSWERS = torch.tensor([0, 0, 1, 1])
TRAIN = torch.tensor([1, 1, 0])


def says(*systems, classes=3):
    """Logits (E, S, N, C) of encoders whose probes answer with these classes."""
    return torch.eye(classes)[torch.tensor(systems)]


def test_figures_by_hand():
    logits = says([[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 1, 1, 0], [0, 0, 0, 0]])
    found = summarise(LETTER, logits, ANSWERS, TRAIN, resamples=200)
    accuracy = found["figures"]["accuracy"]
    assert [[probe["accuracy"] for probe in probes] for probes in found["each"]] == [
        [1, 0.75],
        [0.5, 0.5],
    ]
    assert accuracy["mean"] == pytest.approx(0.6875)
    # Deviations 0.3125, 0.0625, -0.1875, -0.1875; their squares over 3.
    assert accuracy["sd"] == pytest.approx((0.171875 / 3) ** 0.5)
    assert accuracy["chance"] == 0.5  # b, the commonest in training
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert found["score"]["mean"] == pytest.approx(0.375)
    bounds = [(accuracy[bound] - 0.5) / 0.5 for bound in ("low", "high")]
    assert [found["score"]["low"], found["score"]["high"]] == pytest.approx(bounds)
    assert found["confusion"] == [[7, 1, 0], [4, 4, 0], [0, 0, 0]]


def test_absent_classes_are_named_and_have_no_figure():
    train = torch.tensor([1, 1, 2])
    found = summarise(LETTER, says([[0, 0, 1, 0]]), ANSWERS, train, resamples=20)
    assert found["absent"] == ["c"]
    absent = found["by_class"]["c"]
    assert absent["count"] == 0 and {v for k, v in absent.items() if k != "count"} == {None}
    assert found["by_class"]["b"]["recall"] == 0.5 and found["by_class"]["b"]["precision"] == 1
    assert found["figures"]["accuracy"]["sd"] == 0.0  # one probe has no spread


def test_classes_are_means_over_encoders_and_seeds():
    logits = says([[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 1, 1, 0], [0, 0, 0, 0]])
    found = summarise(LETTER, logits, ANSWERS, TRAIN, resamples=20)["by_class"]
    assert found["a"]["recall"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert found["b"]["recall"] == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    assert found["b"]["precision"] is None  # the last probe never answers b
    assert found["a"]["count"] == 2


def width(logits, answers):
    accuracy = summarise(LETTER, logits, answers, TRAIN)["figures"]["accuracy"]
    return accuracy["high"] - accuracy["low"]


def test_encoders_that_differ_widen_the_interval():
    answers = torch.arange(200) % 2
    good, bad = answers.clone(), answers.clone()
    good[::10], bad[::2] = 2, 2
    alone = [width(says([one.tolist()]), answers) for one in (good, bad)]
    both = width(says([good.tolist()], [bad.tolist()]), answers)
    assert both > 0.4 > 2 * max(alone)  # both good or both bad, in half of the resamples
    same = width(says([bad.tolist()], [bad.tolist()]), answers)
    assert same == pytest.approx(alone[1])


def test_probe_seeds_are_averaged_and_not_drawn():
    answers = [[0, 0, 1, 0], [1, 1, 1, 0]]
    one, two = (resampled_figures(LETTER, says([a]), ANSWERS, 50)["accuracy"] for a in answers)
    both = resampled_figures(LETTER, says(answers), ANSWERS, 50)["accuracy"]
    np.testing.assert_allclose(both, (one + two) / 2)


def test_equal_seeds_give_equal_resamples():
    logits = says([[0, 0, 1, 0]], [[1, 1, 1, 0]])
    draw = partial(resampled_figures, LETTER, logits, ANSWERS, 50)
    first = draw(seed=1, encoder_seed=2)["accuracy"]
    np.testing.assert_array_equal(first, draw(seed=1, encoder_seed=2)["accuracy"])
    assert (first != draw(seed=2, encoder_seed=2)["accuracy"]).any()
    assert (first != draw(seed=1, encoder_seed=1)["accuracy"]).any()


@pytest.mark.parametrize(
    "task, logits, answers",
    [
        (LETTER, says([[0, 0]]), torch.tensor([1, 1])),  # a constant answer is perfect
        (LETTER, says([[0, 0]]) * torch.nan, torch.tensor([0, 1])),
        (MultiLabel("tags", ["slow"]), torch.zeros(1, 1, 2, 1), torch.ones(2, 1)),
        (Regression(["arousal_z"]), torch.zeros(1, 1, 2, 1), torch.ones(2, 1)),
    ],
)
def test_a_split_that_cannot_be_judged_is_one_sentence(task, logits, answers):
    with pytest.raises(ValueError, match="^the test split cannot be judged: .+") as caught:
        summarise(task, logits, answers, torch.tensor([1]) if task is LETTER else answers, 20)
    assert type(caught.value).__name__ == "UserError" and "\n" not in str(caught.value)


def test_the_score_is_of_the_scored_metric():
    task = MusicalKey("key", ["C major", "G major"])
    # G for C is worth half, and G is what the training tracks would have one answer.
    found = summarise(
        task, says([[1, 0]], classes=2), torch.tensor([0, 0]), torch.tensor([1]), resamples=20
    )
    figures = {metric: (f["mean"], f["chance"]) for metric, f in found["figures"].items()}
    assert figures == {"weighted_score": (0.75, 0.5), "accuracy": (0.5, 0)}
    assert found["score"]["mean"] == pytest.approx(0.5)


# Comparisons


def drawn(value, under=0, resamples=999):
    """A figure, and its resamples, of which so many are below 0."""
    values = np.full(resamples, float(value))
    values[:under] = -1e-3
    return value, values


ZERO = drawn(0.0)


def test_a_difference_by_hand():
    flat = np.ones(1001)
    first = {"key": (0.6, np.linspace(0.5, 0.7, 1001)), "genre": (0.5, 0.5 * flat)}
    second = {"key": (0.2, 0.2 * flat), "genre": (0.75, 0.75 * flat)}
    (pair,) = compare({"a": first, "b": second})
    assert (pair["first"], pair["second"]) == ("a", "b")
    key, genre, whole = pair["tasks"]["key"], pair["tasks"]["genre"], pair["all tasks"]
    assert key["difference"] == pytest.approx(0.4) and key["differs"]
    assert (key["low"], key["high"]) == pytest.approx((0.305, 0.495))
    assert genre["difference"] == pytest.approx(-0.25) and genre["differs"]
    # 2 x 1 / 1002, corrected for two tasks.
    assert key["p"] == pytest.approx(2 * 2 / 1002)
    assert whole["difference"] == pytest.approx(0.075)
    assert (whole["low"], whole["high"]) == pytest.approx((0.0275, 0.1225)) and whole["differs"]
    assert whole["p"] == pytest.approx(2 / 1002)


def test_equal_systems_never_differ():
    noise = np.random.default_rng(0).random(999)
    one = {"key": (0.5, noise), "genre": (0.7, noise + 0.2)}
    (pair,) = compare({"a": one, "b": dict(one)})
    for found in (*pair["tasks"].values(), pair["all tasks"]):
        assert found["difference"] == 0 and found["p"] == 1 and not found["differs"]


def test_a_weak_difference_among_many_tasks_is_none():
    weak = drawn(0.1, under=9)  # p = 2 x (9 + 1) / (999 + 1) = 0.02
    (alone,) = compare({"a": {"key": weak}, "b": {"key": ZERO}})
    assert alone["tasks"]["key"]["p"] == pytest.approx(0.02) and alone["tasks"]["key"]["differs"]
    others = {f"task{n}": ZERO for n in range(7)}
    (pair,) = compare({"a": {"key": weak} | others, "b": {"key": ZERO} | others})
    key = pair["tasks"]["key"]
    assert key["low"] > 0  # its own interval would call it one
    assert key["p"] == pytest.approx(0.16) and not key["differs"]


def test_a_task_that_one_lacks_is_left_out():
    systems = {
        "a": {"key": drawn(0.4), "genre": drawn(0.9)},
        "b": {"key": drawn(0.1)},
        "c": {"tags": drawn(0.1)},
    }
    (pair,) = compare(systems)  # c shares no task with any
    assert (pair["first"], pair["second"], list(pair["tasks"])) == ("a", "b", ["key"])
    assert pair["all tasks"]["difference"] == pytest.approx(0.3)


# Tracks


class LetterBrain(ProbeBrain):
    task = LETTER


def test_a_track_is_answered_by_the_mean_over_its_chunks(monkeypatch):
    """Of chunks that lie apart, in other batches, as many as they are."""
    monkeypatch.setattr(sweeping, "SequentialChunks", partial(SequentialChunks, batch_size=2))
    tracks = torch.tensor([2, 0, 1, 0, 2, 2, 1])
    rng = np.random.default_rng(0)
    values = rng.standard_normal((24, 1, 5)).astype(np.float32)
    rows = {"train": np.arange(3, 10), "valid": np.arange(10, 17), "test": np.arange(23, 16, -1)}
    splits = {
        name: FeatureSplit(values, part, tracks, torch.tensor([0, 1, 2]), ["x", "y", "z"])
        for name, part in rows.items()
    }
    options = {"encoder": "mel", "hidden": 4, "number_of_epochs": 3, "batch_size": 4}
    options |= {"learning_rates": [0.01], "probe_seeds": [0]}
    argv = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    hparams = load_task(["hparams/gtzan_genre.yaml", *argv])[1]
    run_opts = RunOptions(noprogressbar=True, device="cpu")
    swept = sweeping.sweep(LetterBrain, splits, ["mel"], hparams, run_opts)

    def by_hand(name):
        with torch.no_grad():
            x = swept.standardize(torch.from_numpy(values[rows[name]])[None])
            chunks = swept.mixed(x)[0]  # the only probe
        means = [chunks[[1, 3]], chunks[[2, 6]], chunks[[0, 4, 5]]]
        return torch.stack([part.mean(0) for part in means])

    torch.testing.assert_close(swept.logits[0], by_hand("test"))
    valid = LETTER.figures(by_hand("valid"), torch.tensor([0, 1, 2]))["accuracy"]
    assert swept.table["valid"].tolist() == pytest.approx([valid])
