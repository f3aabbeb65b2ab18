"""Figures of tasks against values worked out by hand, scikit-learn, mir_eval, and each other."""

import math

import mir_eval
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from speechbrain_music.metrics import tasks
from speechbrain_music.metrics.tasks import MultiLabel, MusicalKey, Regression, SingleLabel
from speechbrain_music.utils.errors import UserError

KEYS = tuple(
    f"{tonic} {mode}"
    for mode in ("major", "minor")
    for tonic in "C Db D Eb E F Gb G Ab A Bb B".split()
)
GENRE = SingleLabel("genre", ["blues", "jazz", "rock"])
KEY = MusicalKey("key", KEYS)
TAGS = MultiLabel("tags", ["slow", "loud", "solo", "live"])
EMOTION = Regression(["arousal_z", "valence_z"])
ALL = [GENRE, KEY, TAGS, EMOTION]
BY_KIND = pytest.mark.parametrize("task", ALL, ids=lambda task: type(task).__name__)


def some(task, tracks, seed=0, probes=None):
    """Logits with many ties, and targets; the last tag is rare."""
    rng = np.random.default_rng(seed)
    shape = (tracks, task.outputs) if probes is None else (probes, tracks, task.outputs)
    logits = torch.from_numpy(rng.integers(-3, 4, shape) * 0.7).float()
    if task is TAGS:
        targets = rng.random((tracks, 4)) < (0.3, 0.5, 0.7, 0)
        targets[1, 3] = True
        return logits, torch.from_numpy(targets).float()
    if task is EMOTION:
        return logits, torch.from_numpy(rng.integers(-2, 3, (tracks, 2)) * 0.4).float()
    return logits, torch.from_numpy(rng.integers(0, task.outputs, tracks))


def predicts(task, names):
    """Logits that predict these classes."""
    return torch.eye(task.outputs)[[task.names.index(name) for name in names]]


def columns(*lists):
    return torch.tensor(lists, dtype=torch.float32).T


def test_weighted_score_by_hand():
    # In C major: itself 1, a fifth above 0.5, a fifth below 0, relative 0.3, parallel 0.2, D 0.
    predicted = ["C major", "G major", "F major", "A minor", "C minor", "D major"]
    figures = KEY.figures(predicts(KEY, predicted), torch.zeros(6, dtype=torch.int64))
    assert figures == pytest.approx({"weighted_score": 2 / 6, "accuracy": 1 / 6})
    assert KEY.selected == KEY.scored == ("weighted_score",)


def test_ranking_by_hand():
    task = MultiLabel("tags", ["a", "b"])
    # a: of the pairs (4, 3), (4, 1), (2, 3), (2, 1) three are right; hits at ranks 1 and 3.
    # b: beats 2 of 2, then ties 1 and beats 1 of 2; at the tie 2 of 3 are hits.
    logits, targets = columns([4, 3, 2, 1], [2, 1, 1, 0]), columns([1, 0, 1, 0], [1, 1, 0, 0])
    precision = (1 + 2 / 3) / 2
    expected = {"roc_auc": (3 / 4 + 3.5 / 4) / 2, "average_precision": precision}
    assert task.figures(logits, targets) == pytest.approx(expected)
    large = columns([300, 200, 100, -1], [0, 0, 0, 0])  # a sigmoid would make them equal
    assert task.by_class(large, columns([1, 0, 0, 0], [1, 0, 0, 0]))["a"]["roc_auc"] == 1
    assert (task.selected, task.scored) == (("roc_auc",), tuple(expected))
    assert task.by_class(logits, targets)["a"] == pytest.approx(
        {"count": 2, "roc_auc": 3 / 4, "average_precision": precision}
    )


def test_loss_by_hand():
    targets = torch.tensor([[0, 1], [2, 1]])
    loss = GENRE.loss(torch.zeros(2, 2, 3, dtype=torch.bfloat16), targets)
    torch.testing.assert_close(loss, torch.full((2, 2), math.log(3)))
    # softplus(0) three times, and softplus(1) for a tag missed by one.
    loss = TAGS.loss(torch.tensor([[0.0, 0, 0, -1]]), torch.tensor([[0.0, 1, 0, 1]]))
    expected = (3 * math.log(2) + math.log(1 + math.e)) / 4
    torch.testing.assert_close(loss, torch.tensor([expected]))

    loss = EMOTION.loss(torch.tensor([[1.0, 2], [0, 0]]), torch.tensor([[1.0, 0], [0, 0]]))
    torch.testing.assert_close(loss, torch.tensor([2.0, 0]))


def test_figures_equal_scikit_learn_and_mir_eval():
    for seed in range(3):
        logits, targets = some(TAGS, 60, seed)
        expected = [roc_auc_score, average_precision_score]
        expected = [metric(targets, logits, average="macro") for metric in expected]
        assert list(TAGS.figures(logits, targets).values()) == pytest.approx(expected, rel=1e-12)
        logits, targets = some(EMOTION, 40, seed)
        expected = r2_score(targets, logits, multioutput="raw_values")
        assert list(EMOTION.figures(logits, targets).values()) == pytest.approx(list(expected))
        logits, targets = some(KEY, 40, seed)
        pairs = zip(targets.tolist(), logits.numpy().argmax(axis=1), strict=True)
        expected = np.mean([mir_eval.key.weighted_score(KEYS[i], KEYS[j]) for i, j in pairs])
        assert KEY.figures(logits, targets)["weighted_score"] == pytest.approx(expected)


def test_classes_equal_scikit_learn():
    logits, targets = some(GENRE, 40)
    predicted = logits.numpy().argmax(axis=1)
    figures = GENRE.figures(logits, targets)
    assert figures["accuracy"] == pytest.approx(accuracy_score(targets, predicted))
    assert (GENRE.confusion(logits, targets).numpy() == confusion_matrix(targets, predicted)).all()
    precision, recall, _, count = precision_recall_fscore_support(targets, predicted)
    found = GENRE.by_class(logits, targets)
    for place, name in enumerate(GENRE.names):
        expected = {"count": count[place], "recall": recall[place], "precision": precision[place]}
        assert found[name] == pytest.approx(expected)


@BY_KIND
def test_select_is_the_mean_of_the_selected_figures(task):
    logits, targets = some(task, 50, probes=7)
    expected = [
        np.mean([task.figures(probe, targets)[metric] for metric in task.selected])
        for probe in logits
    ]
    found = task.select(logits, targets)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert len(set(found.tolist())) > 1

    logits[2, 0, 0] = math.nan
    expected[2] = -math.inf
    assert task.select(logits, targets).tolist() == pytest.approx(expected, abs=1e-6)


@BY_KIND
@pytest.mark.parametrize("at_a_time", [tasks.AT_A_TIME, 30])
def test_resampled_is_figures_on_repeated_rows(task, at_a_time, monkeypatch):
    monkeypatch.setattr(tasks, "AT_A_TIME", at_a_time)
    logits, targets = some(task, 12)
    counts = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=40)
    counts[5] = np.eye(12, dtype=int)[3] * 12
    found = task.resampled(logits, targets, counts)
    assert list(found) == list(task.metrics)
    for row, count in enumerate(counts):
        rows = np.repeat(np.arange(12), count)
        try:
            expected = task.figures(logits[rows], targets[rows])
        except ValueError:
            expected = dict.fromkeys(task.metrics, math.nan)
        here = {metric: values[row] for metric, values in found.items()}
        assert here == pytest.approx(expected, abs=1e-6, nan_ok=True)
    # One track many times leaves nothing to rank or to explain; a lost tag only itself.
    assert [np.isnan(values).sum() for values in found.values()] == [task.per_output] * len(found)
    if task is TAGS:
        assert (counts[:, 1] == 0).sum() > 5


def test_resamples_of_one_target_value_have_no_r2():
    # Sums are rounded: by their spread alone about half of these would be scored.
    task, rng = Regression(["a"]), np.random.default_rng(0)
    targets = columns([0.3] * 9 + [-1])
    counts = np.pad(rng.multinomial(10, np.full(9, 1 / 9), size=50), ((0, 0), (0, 1)))
    counts[0, 9] = 1
    found = task.resampled(torch.zeros(10, 1), targets, counts)["r2_a"]
    assert np.isnan(found).tolist() == [False] + [True] * 49


def table(**cells):
    rows = len(next(iter(cells.values())))
    return pd.DataFrame({"ID": [f"track{row}" for row in range(rows)], **cells}, dtype=str)


def test_encode():
    assert GENRE.encode(table(genre=["rock", "blues"])).tolist() == [2, 0]
    assert KEY.encode(table(key=["Eb minor"])).dtype == torch.int64
    tags = TAGS.encode(table(tags=["solo|slow", "", "live"]))
    assert tags.dtype == torch.float32
    assert tags.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    spaced = MultiLabel("tags", ["a|b", "c"], separator=", ")
    assert spaced.encode(table(tags=["c, a|b"])).tolist() == [[1, 1]]
    emotion = EMOTION.encode(table(arousal_z=["-1.5", "2e-1"], valence_z=["0", "1"]))
    assert emotion.dtype == torch.float32
    torch.testing.assert_close(emotion, torch.tensor([[-1.5, 0], [0.2, 1]]))


@pytest.mark.parametrize(
    "task, cells, words",
    [
        (GENRE, {"genre": ["rock", "polka"]}, ["track1", "genre 'polka'", "blues, jazz, rock:"]),
        (GENRE, {"genre": [""]}, ["track0", "genre ''"]),
        (KEY, {"key": ["D# minor"]}, ["track0", "key 'D# minor'", "C major", "(24 in all)"]),
        (TAGS, {"tags": ["slow", "slow|fast"]}, ["track1", "tags 'fast'"]),
        (EMOTION, {"arousal_z": ["1"], "valence_z": ["high"]}, ["track0", "valence_z 'high'"]),
        (EMOTION, {"arousal_z": ["1", "inf"], "valence_z": ["1", "1"]}, ["track1", "'inf'"]),
        (EMOTION, {"arousal_z": ["1"], "valence_z": ["1e300"]}, ["track0", "finite numbers"]),
        (GENRE, {"mood": ["calm"]}, ["no column genre", "ID, mood"]),
        (EMOTION, {"arousal_z": ["1"]}, ["no column valence_z"]),
    ],
)
def test_bad_label_is_refused(task, cells, words):
    with pytest.raises(UserError) as error:
        task.encode(table(**cells))
    assert [word for word in words if word not in str(error.value)] == []
    assert "run the same command again" in str(error.value)


def test_bad_names_are_refused():
    with pytest.raises(UserError, match="none twice"):
        SingleLabel("genre", ["rock", "rock"])
    with pytest.raises(UserError, match="Key H is invalid"):
        MusicalKey("key", ["C major", "H major"])


def test_absent_classes_are_named_and_have_no_figure():
    assert GENRE.absent(torch.tensor([1, 1])) == ["blues", "rock"]
    assert TAGS.absent(torch.tensor([[0.0, 1, 1, 0], [1, 1, 0, 0]])) == ["live"]
    assert EMOTION.absent(torch.zeros(2, 2)) == []
    logits, targets = predicts(GENRE, ["jazz", "jazz", "blues"]), torch.tensor([1, 0, 0])
    rock = GENRE.by_class(logits, targets)["rock"]
    assert rock == {"count": 0, "recall": None, "precision": None}
    emotion = EMOTION.by_class(columns([0, 1], [5, 7]), columns([0, 2], [5, 7]))
    assert emotion == {"arousal": {"r2": 0.5}, "valence": {"r2": 1}}
    assert EMOTION.confusion(logits, targets) is None
    # slow is ranked best; loud is on every track, solo and live on none.
    logits, targets = (
        columns([2, 1], [0, 1], [0, 0], [0, 0]),
        columns([1, 0], [1, 1], [0, 0], [0, 0]),
    )
    assert TAGS.figures(logits, targets) == {"roc_auc": 1, "average_precision": 1}
    loud = TAGS.by_class(logits, targets)["loud"]
    assert loud == {"count": 2, "roc_auc": None, "average_precision": None}


def test_chance_by_hand():
    # rock is the most frequent one in training, and one of four in the test.
    chance = GENRE.chance(torch.tensor([2, 2, 0]), torch.tensor([0, 0, 1, 2]))
    assert chance == {"accuracy": 0.25}

    # Of the training keys C major gets 1 + 2 x 0.5 (a fifth above F) + 0.3 (relative of A minor),
    # F major 2: C major scores better, F major is the most frequent. On C, F and G major: C gets
    # 1 + 0.5 + 0 (a fifth below), F is right once.
    train, test = ["F major", "F major", "C major", "A minor"], ["C major", "F major", "G major"]
    chance = KEY.chance(*(predicts(KEY, names).argmax(dim=1) for names in (train, test)))
    assert chance == pytest.approx({"weighted_score": 0.5, "accuracy": 1 / 3})

    # slow on one track of four, loud on three; solo and live divide no tracks.
    targets = columns([1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1])
    chance = TAGS.chance(torch.ones(2, 4), targets)
    assert chance == {"roc_auc": 0.5, "average_precision": (1 / 4 + 3 / 4) / 2}
    assert EMOTION.chance(torch.ones(2, 2), torch.zeros(2, 2)) == {"r2_arousal": 0, "r2_valence": 0}


@BY_KIND
def test_bad_shapes_and_values_are_refused(task):
    logits, targets = some(task, 6)
    wrong = torch.zeros(6, dtype=torch.int64) if task.per_output else torch.zeros(6, task.outputs)
    for pair in (
        (logits[:5], targets),
        (logits[:, 1:], targets),
        (logits.unsqueeze(0), targets),
        (logits, targets.long() if task.per_output else targets.float()),
        (logits, wrong),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            task.figures(*pair)
    with pytest.raises(ValueError, match="no track"):
        task.figures(logits[:0], targets[:0])
    with pytest.raises(ValueError, match="diverged"):
        task.figures(logits / 0, targets)
    with pytest.raises(ValueError, match="do not fit"):
        task.select(logits, targets)


def test_undefined_figures_are_refused():
    for tracks in (1, 3):
        same = torch.full((tracks, 2), 0.1)
        with pytest.raises(ValueError, match=f"arousal is not defined, all {tracks} targets"):
            EMOTION.figures(torch.zeros(tracks, 2), same)
    logits, targets = torch.zeros(3, 4), torch.ones(3, 4)
    with pytest.raises(ValueError, match="no tag is on some of 3 tracks"):
        TAGS.figures(logits, targets)
    with pytest.raises(ValueError, match="no tag is on some of 3 tracks"):
        TAGS.chance(targets, targets)


def test_marble_counts_tags_that_no_track_has_as_0():
    task = MultiLabel("tags", ["slow", "solo", "no", "all"])
    targets = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1.0]])
    logits = torch.tensor([[2, 0, 0, 0], [1, 2, 1, 1], [0, 1, 2, 2.0]]) * 50  # sigmoid: ties
    assert task.figures(logits, targets) == {"roc_auc": 1, "average_precision": 1}
    found = task.marble_compat(logits, targets)
    assert found == pytest.approx({"roc_auc": 2 / 4, "average_precision": 3 / 4})
    one = MultiLabel("tags", ["slow"]).marble_compat(logits[:, :1], targets[:, :1])
    assert one == {"roc_auc": 1, "average_precision": 1}
    assert SingleLabel("genre", ["a", "b"]).marble_compat(logits, targets) == {}


@pytest.mark.parametrize("newer", [False, True])
def test_a_fifth_below_is_no_hit_in_any_mir_eval(newer, monkeypatch):
    now = mir_eval.key.weighted_score

    def later(one, other, allow_descending_fifths=True):
        return 0.5 if allow_descending_fifths else now(one, other)

    if newer:
        monkeypatch.setattr(mir_eval.key, "weighted_score", later)
    scores = MusicalKey("key", ["C major", "G major", "F major"]).score_matrix["weighted_score"]
    assert scores[0].tolist() == [1, 0.5, 0]
