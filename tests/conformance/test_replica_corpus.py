"""Composed music: level, length and file size reveal no label, but mel statistics do.

The keys of GiantSteps' replica are those of the corpus, which is tested: the same program composes.
"""

import json
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict
from tiny import ROOT

from speechbrain_music.data_prep.emomusic import EMOTIONS
from speechbrain_music.data_prep.magnatagatune import TAGS
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.mix import CEILING
from speechbrain_music.data_prep.replica.trees import make_replica
from speechbrain_music.evaluation.tasks import find_task

pytestmark = pytest.mark.slow
PLAN = CorpusPlan(seed=3, shortest=5.0, longest=9.0, per_artist=1)
TRACKS = 300
SCALES = {
    "gtzan": 0.2,
    "vocalset": 0.15,
    "magnatagatune": 0.01,
    "nsynth": 0.01,
    "emomusic": 0.1,
}
MARGIN = 0.05
FOLDS = KFold(5, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def root_of(tmp_path_factory):
    """A function: name -> folder of its replica, made once."""

    @cache
    def root_of(name):
        return make_replica(name, tmp_path_factory.mktemp(name) / "data", SCALES[name])

    return root_of


@pytest.fixture(scope="module")
def look(root_of, tmp_path_factory):
    """A function: name -> labels of each file (a dict), and its `outside`."""

    @cache
    def look(name):
        if name == "corpus":
            root = tmp_path_factory.mktemp(name)
            hours = sum(PLAN.seconds(index) for index in range(TRACKS)) / 3600
            table = read_manifest(make_corpus(root, hours, PLAN), root)
            return table.to_dict("records"), np.array([outside(path) for path in table["wav"]])
        root, record = root_of(name), DATA_SETS[name]
        options = {"task": "singer"} if name == "vocalset" else {}
        items = [item for item in record.read(root, None, **options).items if item.split]
        labels = [dict(zip(record.labels, item.labels, strict=True)) for item in items]
        return labels, np.array([outside(root / item.wav) for item in items])

    return look


def outside(path):
    """Level of a file, its share of silence, its duration, its size and its peak."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    wave = wave.mean(1)
    frames = wave[: len(wave) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100)
    level, levels = (10 * np.log10(np.mean(x**2, axis=-1) + 1e-12) for x in (wave, frames))
    with open(path, "rb") as file:
        size = file.seek(0, 2)
    return level, np.mean(levels < -60), len(wave) / rate, size, np.abs(wave).max()


def predict(features, labels, method="predict"):
    forest = RandomForestClassifier(60, min_samples_leaf=10, random_state=0)
    return cross_val_predict(forest, features[:, :4], labels, cv=FOLDS, method=method)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("corpus", "genre"),
        ("corpus", "key"),
        ("gtzan", "genre"),
        ("vocalset", "singer"),
        ("vocalset", "technique"),
        ("nsynth", "pitch"),
        ("nsynth", "family"),
    ],
)
def test_level_length_silence_and_size_reveal_no_class(look, name, label):
    rows, features = look(name)
    classes = np.array([row[label] for row in rows])
    chance = max(Counter(classes).values()) / len(classes)
    assert np.mean(predict(features, classes) == classes) <= chance + MARGIN


def test_level_length_silence_and_size_reveal_no_tag(look):
    rows, features = look("magnatagatune")
    given = {tag: np.array([tag in row["tags"].split("|") for row in rows]) for tag in TAGS}
    areas = [
        roc_auc_score(there, predict(features, there, "predict_proba")[:, 1])
        for there in given.values()
        if 20 <= there.sum() <= len(rows) - 20
    ]
    assert len(areas) >= 20 and np.mean(areas) <= 0.5 + MARGIN


def test_level_reveals_little_of_emotion(look):
    """At most half of what the score gives in test_replica_tasks.py."""
    rows, features = look("emomusic")
    for emotion in EMOTIONS:
        felt = np.array([float(row[emotion]) for row in rows])
        found = cross_val_predict(LinearRegression(), features[:, :1], felt, cv=FOLDS)
        assert r2_score(felt, found) <= 0.25


def test_no_track_is_silent_clipped_or_was_stuck(look):
    rows, features = look("corpus")
    levels, peaks = features[:, 0], features[:, 4]
    assert len(levels) >= TRACKS - 1  # a rounding error of the hours
    assert levels.min() > -30 and peaks.max() <= CEILING + 1e-4
    assert (peaks > CEILING - 1e-3).mean() < 0.01
    truths = [Path(row["wav"]).with_suffix(".json").read_text() for row in rows]
    assert {json.loads(truth)["attempt"] for truth in truths} == {0}


@pytest.mark.parametrize("task", ["nsynth_instrument", "gtzan_genre"])
def test_mel_statistics_score_over_chance(task, root_of, tmp_path):
    options = {"encoder": "mel", "quick": True, "data_folder": root_of(find_task(task).data_set)}
    options |= {"output_folder": tmp_path / "out", "feature_folder": tmp_path / "features"}
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    out = import_module(find_task(task).recipe).main(
        [str(ROOT / f"hparams/{task}.yaml"), *pairs, "--noprogressbar"]
    )
    figure = json.loads(Path(out, "results.json").read_text())["figures"]["accuracy"]
    assert figure["low"] > figure["chance"]
