"""Figures of a system, their intervals, and comparisons, by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from speechbrain_music.evaluation.protocol import QUICK
from speechbrain_music.evaluation.results import REPORTS, _confusion, resampled_figures, summarise
from speechbrain_music.metrics.resampling import compare
from speechbrain_music.metrics.tasks import MultiLabel, Regression, SingleLabel
from speechbrain_music.reporting.pages import render
from speechbrain_music.reporting.pictures import draw_layers

LETTER = SingleLabel("letter", list("abc"))
TARGETS = torch.tensor([0, 0, 1, 1])
TRAIN = torch.tensor([1, 1, 0])


def predicts(*systems, classes=3):
    """Logits (E, S, N, C) of encoders whose probes predict these classes."""
    return torch.eye(classes)[torch.tensor(systems)]


def test_figures_by_hand():
    logits = predicts([[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 1, 1, 0], [0, 0, 0, 0]])
    found = summarise(LETTER, logits, TARGETS, TRAIN, resamples=200)
    accuracy = found["figures"]["accuracy"]
    each = [[probe["accuracy"] for probe in probes] for probes in found["each"]]
    assert each == [[1, 0.75], [0.5, 0.5]] and found["absent"] == ["c"]
    assert accuracy["mean"] == pytest.approx(0.6875)
    # Deviations 0.3125, 0.0625, -0.1875, -0.1875; their squares over 3.
    assert accuracy["sd"] == pytest.approx((0.171875 / 3) ** 0.5)
    assert accuracy["chance"] == 0.5  # b, the most frequent in training
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert found["score"]["mean"] == pytest.approx(0.375)
    bounds = [(accuracy[bound] - 0.5) / 0.5 for bound in ("low", "high")]
    assert [found["score"]["low"], found["score"]["high"]] == pytest.approx(bounds)
    assert found["confusion"] == [[7, 1, 0], [4, 4, 0], [0, 0, 0]]
    classes = found["by_class"]
    assert classes["a"]["recall"] == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert classes["b"]["precision"] is None  # the last probe never predicts b
    assert classes["a"]["count"] == 2
    assert classes["c"] == {"count": 0, "recall": None, "precision": None}
    one = summarise(LETTER, logits[:1, :1], TARGETS, TRAIN, resamples=20)
    assert one["figures"]["accuracy"]["sd"] == 0  # one probe has no spread


def test_encoders_that_differ_widen_the_interval():
    targets = torch.arange(200) % 2
    good, bad = targets.clone(), targets.clone()
    good[::10], bad[::2] = 2, 2

    def width(*encoders):
        logits = predicts(*([encoder.tolist()] for encoder in encoders))
        accuracy = summarise(LETTER, logits, targets, TRAIN)["figures"]["accuracy"]
        return accuracy["high"] - accuracy["low"]

    # Both good or both bad, in half of the resamples.
    assert width(good, bad) > 0.4 > 2 * max(width(good), width(bad))
    assert width(bad, bad) == pytest.approx(width(bad))


def test_probe_seeds_are_averaged_and_not_drawn():
    classes = [[0, 0, 1, 0], [1, 1, 1, 0]]
    one, two = (resampled_figures(LETTER, predicts([c]), TARGETS, 50)["accuracy"] for c in classes)
    both = resampled_figures(LETTER, predicts(classes), TARGETS, 50)["accuracy"]
    np.testing.assert_allclose(both, (one + two) / 2)


def test_equal_seeds_give_equal_resamples():
    logits = predicts([[0, 0, 1, 0]], [[1, 1, 1, 0]])
    draw = partial(resampled_figures, LETTER, logits, TARGETS, 50)
    first = draw(seed=1)["accuracy"]
    assert first.shape == (2, 50)  # of each encoder
    np.testing.assert_array_equal(first, draw(seed=1)["accuracy"])
    assert (first != draw(seed=2)["accuracy"]).any()


@pytest.mark.parametrize(
    "task, logits, targets",
    [
        (LETTER, predicts([[0, 0]]), torch.tensor([1, 1])),  # a constant prediction is perfect
        (LETTER, predicts([[0, 0]]) * torch.nan, torch.tensor([0, 1])),
        (MultiLabel("tags", ["slow"]), torch.zeros(1, 1, 2, 1), torch.ones(2, 1)),
        (Regression(["arousal_z"]), torch.zeros(1, 1, 2, 1), torch.ones(2, 1)),
    ],
)
def test_undefined_figures_are_user_errors(task, logits, targets):
    with pytest.raises(ValueError, match="^the test split cannot be evaluated: .+") as caught:
        summarise(task, logits, targets, torch.tensor([1]) if task is LETTER else targets, 20)
    assert type(caught.value).__name__ == "UserError" and "\n" not in str(caught.value)


def drawn(value, under=0, resamples=999):
    """A figure, and its resamples, of which so many are below 0."""
    values = np.full(resamples, float(value))
    values[:under] = -1e-3
    return value, values


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


def test_a_weak_difference_among_many_tasks_is_not_significant():
    weak, zero = drawn(0.1, under=9), drawn(0.0)  # p = 2 x (9 + 1) / (999 + 1) = 0.02
    (alone,) = compare({"a": {"key": weak}, "b": {"key": zero}})
    assert alone["tasks"]["key"]["p"] == pytest.approx(0.02) and alone["tasks"]["key"]["differs"]
    others = {f"task{n}": zero for n in range(7)}
    (pair,) = compare({"a": {"key": weak} | others, "b": {"key": zero} | others})
    key = pair["tasks"]["key"]
    assert key["low"] > 0  # its own interval excludes 0
    assert key["p"] == pytest.approx(0.16) and not key["differs"]


def test_only_shared_tasks_are_compared():
    one = {"key": drawn(0.4), "genre": drawn(0.9)}
    # The third shares no task with any.
    (pair,) = compare({"a": one, "b": {"key": drawn(0.1)}, "c": {"tags": drawn(0.1)}})
    assert (pair["first"], pair["second"], list(pair["tasks"])) == ("a", "b", ["key"])
    assert pair["all tasks"]["difference"] == pytest.approx(0.3)
    (same,) = compare({"a": one, "b": one})
    for found in (*same["tasks"].values(), same["all tasks"]):
        assert found["difference"] == 0 and found["p"] == 1 and not found["differs"]


def test_pictures_say_what_they_show():
    curves = pd.DataFrame({"0.1": [0.5, 0.8, 0.7], "0.01": 0.5}, index=["0", "1", "all"])
    figure, chosen = Figure(), [("1", 0.8), ("all", 0.7)]
    draw_layers(figure, "letters: mel", curves, "accuracy", chosen=chosen, chance=0.25)
    (axes,) = figure.axes
    assert axes.get_title() == "letters: mel" and axes.get_ylabel() == "accuracy"
    assert "all a learned mix" in axes.get_xlabel()
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["0.1"].get_ydata()) == [0.5, 0.8, 0.7]
    assert list(lines["chosen"].get_xdata()) == [1, 2]
    assert list(lines["chosen"].get_ydata()) == [0.8, 0.7]
    assert set(lines["chance (test)"].get_ydata()) == {0.25}
    figure = Figure()
    _confusion(figure, np.array([[3, 1], [0, 4]]), ["a", "b"], "letters: mel")
    assert figure.axes[0].get_title() == "letters: mel, accuracy 0.875"


def test_report_says_everything():
    logits = predicts([[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 1, 1, 0], [0, 0, 0, 0]])
    chosen = {"standardize": "whitened", "layer": "2", "lr": 0.01, "valid": 0.75}
    data = {"replica": None, "published": "fold 1", "deviations": ["a has 3", "b has 4"]}
    data |= {"tracks": {"test": 4, "train": 9, "valid": 5}, "unreadable": 2}
    results = {
        "task": "letters",
        "encoder": {
            "name": "mine",
            "runs": [
                chosen | {"fine_tuned": None},
                chosen | {"layer": "all", "fine_tuned": {"epoch": 3, "valid": 0.5}},
            ],
        },
        "data": data | {"absent": {"train": [], "test": ["c"]}},
        "protocol": dict(QUICK, pooling="mean", halved=True),
        "note": "A note.",
        "published": [{"model": "other", "metric": "accuracy", "value": "0.5", "source": "a"}],
        **summarise(LETTER, logits, TARGETS, TRAIN, resamples=20),
        "marble_compat": {"precision": 0.5, "recall": 0.25},
        "layers": {
            "valid": {"0": 0.5, "1": 0.75},
            "best": "1",
            "less": {"0": {"difference": 0.25, "low": -0.1, "high": 0.6, "p": 0.3}},
            "text": "layers 0, 1 cannot be told from the best (1)",
            "tracks": 5,
        },
    }
    paragraphs = render(REPORTS / "probes.md", standardize="whitened", **results).split("\n\n")
    assert paragraphs[:3] == [
        "# letters: mine",
        "**Not the expected recordings**: a has 3.",
        "**Not the expected recordings**: b has 4.",
    ]
    assert paragraphs[4:-2] == [
        "4 test tracks, 9 training, 5 validation tracks. Encoder 1: layer 2, whitened, learning "
        "rate 0.01 (validation 0.7500). Encoder 2: the mix of all layers, whitened, learning rate "
        "0.01 (validation 0.7500). Fine-tuned: epoch 3 (validation 0.5000).",
        "Probes: 3 learning rates, 1 seed(s), at most 30 epochs. Features: mean over time, "
        "whitened. A note.",
        "As MARBLE's code averages (a tag that no test track has is 0): precision 0.5000, recall "
        "0.2500.",
        "**Fewer than 30 test tracks**: the interval is unreliable.",
        "Successive halving: half of the probes ended after 1, 2, 4 and 8 epochs.",
        "2 chunks could not be read and are left out.",
        "No test track of: c.",
        "![score by layer](layers.png)",
        "Of single layers, by their best probes on the 5 validation tracks, layers 0, 1 cannot be "
        "told from the best (1):",
        "| layer | validation | less than layer 1 | 95% interval | p |\n"
        "|---|---:|---:|---|---:|\n"
        "| 0 | 0.5000 | 0.2500 | -0.1000 to 0.6000 | 0.300 |\n"
        "| 1 | 0.7500 | | | |",
        "Paired bootstrap over tracks; p after Holm's correction over layers.",
        "![confusion](confusion.png)",
        "Published figures are on fold 1.",
    ]
    assert paragraphs[-2].splitlines()[2] == "| other | accuracy | 0.5 | a |"
    assert paragraphs[-1].splitlines()[-1] == "| c | 0 | | |"
