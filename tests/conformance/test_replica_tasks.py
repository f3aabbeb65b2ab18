"""Tasks on replicas: the composed score gives the labels."""

import importlib
import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from tiny import ROOT

from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica import storage, trees
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.layouts.nsynth import FAMILIES
from speechbrain_music.evaluation.protocol import load_task

TASKS = {  # data set, the scale of its replica here, options of its reader
    "mtt_tagging": ("magnatagatune", 0.02, {}),
    "mtg_top50": ("mtg_tagging", 0.008, {"task": "top50tags"}),
    "giantsteps_key": ("giantsteps", 0.015, {}),
    "gtzan_genre": ("gtzan", 0.3, {}),
    "emomusic_emotion": ("emomusic", 0.2, {}),
    "nsynth_pitch": ("nsynth", 0.02, {}),
    "nsynth_instrument": ("nsynth", 0.02, {}),
    "vocalset_singer": ("vocalset", 0.2, {"task": "singer"}),
    "vocalset_technique": ("vocalset", 0.2, {"task": "technique"}),
}


class Given(Exception):
    """Carries what a renderer gives to the function that makes the sound."""


def touch(work, jobs, workers):
    """In place of `render_all`: the files of its jobs are empty."""
    for path in (Path(job[0]) for job in jobs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def layout(name):
    return importlib.import_module(f"speechbrain_music.data_prep.replica.layouts.{name}")


def sounds(tree):
    """Path, as annotations have it, -> arguments of the renderer."""
    return {path.replace(".low.", "."): key for path, key in tree.sounds}


def rendered(tree):
    """Path -> what is rendered there: a `Piece`, or the arguments of `sing`."""

    def composed(*arguments):
        raise Given(compose(*arguments))

    def sung(*arguments):
        raise Given(arguments)

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (trees, layout("magnatagatune")):
            patch.setattr(module, "compose", composed)
        patch.setattr(layout("vocalset"), "sing", sung)
        for path, key in sounds(tree).items():
            with pytest.raises(Given) as caught:
                tree.render(*key)
            (found[path],) = caught.value.args
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A function: name of a task -> task, table of its pieces as preparations read them (ID, wav,
    split, labels), and the key of each in its layout."""

    @cache
    def data(name):
        data_set, scale, options = TASKS[name]
        root = tmp_path_factory.mktemp("scale") / data_set
        tree = layout(data_set).plan(scale, 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layout(data_set), "plan", lambda *_: tree)  # planned once
            patch.setattr(storage, "render_all", touch)
            trees.make_replica(data_set, root, scale)
        record = DATA_SETS[data_set]
        items = record.read(root, None, **options).items
        table = pd.DataFrame([item.labels for item in items], columns=record.labels)
        table = table.astype(str)  # as manifests have it
        for field in ("id", "wav", "split"):
            table[field] = [getattr(item, field) for item in items]
        task = load_task([str(ROOT / f"hparams/{name}.yaml"), "--encoder", "mel"])[1]["task"]
        return task, table.assign(ID=table["id"]), tree

    return data


# ---- the composed score gives the label ----


def test_key_is_what_is_composed(data):
    _, table, tree = data("giantsteps_key")
    pieces = rendered(tree)
    for row in table.itertuples():
        ((start, end, tonic, mode),) = pieces[row.wav].keys  # one, from the first bar to the end
        assert f"{tonic} {mode}" == row.key
        assert start < 0.5 and end == pieces[row.wav].seconds


def test_pitch_and_family_are_what_is_played(data):
    _, table, tree = data("nsynth_pitch")
    keys, played = dict(tree.sounds), defaultdict(set)
    for row in table.itertuples():
        _, family, _, program, pitch, _ = keys[row.wav]
        assert (row.family, row.pitch) == (family, str(pitch))
        assert program in FAMILIES[family][row.split != "train"]
        played[row.split].add(program)
    assert not played["train"] & played["test"]


def test_singer_and_technique_are_what_is_sung(data):
    voices = {}
    for name in ("singer", "technique"):
        _, table, tree = data(f"vocalset_{name}")
        sung = rendered(tree)
        for row in table.itertuples():
            singer, technique, *_ = sung[row.wav]
            assert singer.name == row.singer and voices.setdefault(row.singer, singer) == singer
            assert name == "singer" or technique == row.technique
    assert len({json.dumps(vars(v) | {"name": ""}) for v in voices.values()}) == 20


def features(piece):
    """Numbers that describe a score."""
    found = defaultdict(float)
    found |= {"tempo": piece.tempo, "meter": piece.meter, "keys": len(piece.keys)}
    found |= {"mode": piece.keys[0][3]}
    found |= {key: piece.mood[key] for key in "density dynamics register short_notes".split()}
    for start, end, name in piece.chords:
        found[f"chord {name.partition(':')[2]}"] += (end - start) / piece.seconds
    for part in piece.parts:
        notes, count = part.notes, len(part.notes)
        found[f"{part.role} plays {part.program}"] += count
        found[f"program {part.program}"] += count / piece.seconds
        found[f"{part.role} notes"] += count / piece.seconds
        # Where in the beat notes begin: the rhythm, swing included.
        phase = (notes["start"] - piece.beats[0]) * piece.tempo / 60 % 1
        for place, share in enumerate(np.histogram(phase, 12, (0, 1))[0] / count):
            found[f"{part.role} at {place}"] += share
        if part.role == "drums":
            for pitch, hits in Counter(notes["pitch"].tolist()).items():
                found[f"drum {pitch}"] = hits / piece.seconds
        else:
            found[f"{part.role} pitch"] = float(notes["pitch"].mean())
            found[f"{part.role} length"] = float((notes["end"] - notes["start"]).mean())
    return dict(found)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("gtzan_genre", {"accuracy": 0.65}),
        ("emomusic_emotion", {"r2_arousal": 0.5, "r2_valence": 0.5}),
        ("mtt_tagging", {"roc_auc": 0.8, "average_precision": 0.3}),
        ("mtg_top50", {"roc_auc": 0.8, "average_precision": 0.3}),
    ],
)
def test_labels_follow_from_the_score(name, least, data):
    """A random forest of the training pieces' scores, on the test pieces."""
    task, table, tree = data(name)
    rows = {path: features(piece) for path, piece in rendered(tree).items()}
    tagging = name in ("mtt_tagging", "mtg_top50")
    if name == "mtt_tagging":
        for path, key in sounds(tree).items():
            rows[path]["sung"] = str(layout("magnatagatune").draw_clip(*key)[1])
    train, test = (table[table["split"] == split] for split in ("train", "test"))
    labels, vectors = task.encode(train).numpy(), DictVectorizer(sparse=False)
    kind = RandomForestRegressor if name == "emomusic_emotion" else RandomForestClassifier
    model = kind(100, min_samples_leaf=3 if tagging else 1, random_state=0)
    model.fit(vectors.fit_transform([rows[wav] for wav in train["wav"]]), labels)
    tested = vectors.transform([rows[wav] for wav in test["wav"]])
    if name == "emomusic_emotion":
        logits = model.predict(tested)
    elif name == "gtzan_genre":
        logits = model.predict_proba(tested)
    else:  # per tag; the column of 1 is missing where no training piece has the tag
        chances = zip(model.predict_proba(tested), model.classes_, strict=True)
        logits = np.stack([chance @ (classes == 1) for chance, classes in chances], axis=1)
    figures = task.figures(torch.from_numpy(logits), task.encode(test))
    assert all(figures[metric] > value for metric, value in least.items()), figures
