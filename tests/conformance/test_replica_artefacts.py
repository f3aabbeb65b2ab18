"""Loudness, duration, silence and size of a replica's files reveal no label."""

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest
import soundfile
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from speechbrain_music.data_prep import emomusic
from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.emomusic import prepare_emomusic
from speechbrain_music.data_prep.giantsteps import prepare_giantsteps
from speechbrain_music.data_prep.gtzan import prepare_gtzan
from speechbrain_music.data_prep.magnatagatune import TAGS, prepare_magnatagatune
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.nsynth import prepare_nsynth
from speechbrain_music.data_prep.replica.layouts import emomusic as emomusic_layout
from speechbrain_music.data_prep.replica.trees import make_replica
from speechbrain_music.data_prep.vocalset import prepare_vocalset

pytestmark = pytest.mark.slow
PREPARE = {
    "gtzan": (prepare_gtzan, 0.25),
    "giantsteps": (prepare_giantsteps, 0.05),
    "vocalset": (partial(prepare_vocalset, task="singer"), 0.2),
    "magnatagatune": (prepare_magnatagatune, 0.01),
    "nsynth": (prepare_nsynth, 0.005),
    "emomusic": (prepare_emomusic, 0.15),
}
MARGIN = 0.05


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """A function: data set -> its folder, its rows and their `outside`."""
    found = {}

    def look(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            prepare, scale = PREPARE[name]
            root = make_replica(name, folder / "data", scale)
            prepare(root, folder / "out")
            tables = [read_manifest(folder / "out" / f"{split}.csv", root) for split in SPLITS]
            if "track" in tables[0]:  # one clip per track: the others are as loud
                tables = [table.drop_duplicates("track") for table in tables]
            rows = [row for table in tables for row in table.itertuples()]
            found[name] = root, rows, np.array([outside(row) for row in rows])
        return found[name]

    return look


def outside(row):
    """Loudness and silent share of a row's part of its file, its duration, the file's size."""
    wave, rate = soundfile.read(row.wav, start=row.start, stop=row.stop, dtype="float32")
    wave = wave if wave.ndim == 1 else wave.mean(1)
    frames = wave[: len(wave) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100)
    silent = np.mean(10 * np.log10(np.mean(frames**2, axis=1) + 1e-12) < -60)
    with open(row.wav, "rb") as file:
        size = file.seek(0, 2)
    return 10 * np.log10(np.mean(wave**2) + 1e-12), silent, row.duration, size


def forest():
    return RandomForestClassifier(200, min_samples_leaf=10, random_state=0)


@pytest.mark.parametrize(
    "name, label",
    [
        ("gtzan", "genre"),
        ("giantsteps", "key"),
        ("vocalset", "singer"),
        ("vocalset", "technique"),
        ("nsynth", "pitch"),
        ("nsynth", "family"),
    ],
)
def test_the_outside_reveals_no_class(look, name, label):
    _, rows, features = look(name)
    classes = [getattr(row, label) for row in rows]
    chance = max(Counter(classes).values()) / len(classes)
    folds = KFold(5, shuffle=True, random_state=0)
    accuracy = np.mean(cross_val_predict(forest(), features, classes, cv=folds) == classes)
    print(f"\n{label}: {accuracy:.3f}, chance {chance:.3f}, {len(rows)} rows")
    assert accuracy <= chance + MARGIN


def test_the_outside_reveals_no_tag(look):
    _, rows, features = look("magnatagatune")
    given = [set(row.tags.split("|")) for row in rows]
    areas = {}
    for tag in TAGS:
        there = np.array([tag in tags for tags in given])
        if 20 <= there.sum() <= len(rows) - 20:
            folds = StratifiedKFold(5, shuffle=True, random_state=0)
            chances = cross_val_predict(forest(), features, there, cv=folds, method="predict_proba")
            areas[tag] = roc_auc_score(there, chances[:, 1])
    mean = np.mean(list(areas.values()))
    print(f"\ntags: mean area {mean:.3f} over {len(areas)}, {len(rows)} rows")
    assert len(areas) >= 20 and mean <= 0.5 + MARGIN


def test_loudness_reveals_little_of_emotion(look):
    """The score's own features are those that its mood is made of."""
    root, rows, features = look("emomusic")
    tree = emomusic_layout.plan(PREPARE["emomusic"][1], 0)
    pieces = {}
    for path, which in tree.sounds:
        piece = emomusic_layout.compose_clip(*which)[1]
        facts = [piece.mood[f] for f in ("density", "dynamics", "register", "short_notes")]
        pieces[str(root / path)] = [*facts, piece.tempo, piece.keys[0][3] == "minor"]
    score = np.array([pieces[row.wav] for row in rows])
    for emotion in emomusic.EMOTIONS:
        felt = np.array([float(getattr(row, emotion)) for row in rows])
        reached = {}
        for kind, values in (("loudness", features[:, :1]), ("score", score)):
            model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7)))
            folds = KFold(5, shuffle=True, random_state=0)
            reached[kind] = r2_score(felt, cross_val_predict(model, values, felt, cv=folds))
        print(f"\n{emotion}: {json.dumps({k: round(v, 3) for k, v in reached.items()})}")
        assert reached["score"] > 0.4 and reached["loudness"] <= reached["score"] / 2
