"""The eight tasks can be measured on replicas.

Perfect predictions score 1, shuffled labels score chance, and the composed score gives the labels.
"""

import importlib
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny import ROOT

from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica import GENERATOR, trees
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.notes import FAMILIES
from speechbrain_music.evaluation.protocol import load_task
from speechbrain_music.evaluation.results import summarise
from speechbrain_music.metrics.resampling import draw_counts
from speechbrain_music.metrics.tasks import MultiLabel, Regression


class Data(NamedTuple):
    """A data set, the scale of its replica here, and options of its reader."""

    name: str
    scale: float
    options: dict = {}


MTT = Data("magnatagatune", 0.02)
TASKS = {
    "mtt_tagging": MTT,
    "giantsteps_key": Data("giantsteps", 0.07),
    "gtzan_genre": Data("gtzan", 0.3),
    "emomusic_emotion": Data("emomusic", 0.3),
    "nsynth_pitch": Data("nsynth", 0.02),
    "nsynth_instrument": Data("nsynth", 0.02),
    "vocalset_singer": Data("vocalset", 0.2, {"task": "singer"}),
    "vocalset_technique": Data("vocalset", 0.2, {"task": "technique"}),
}
SHUFFLES, RESAMPLES = 10, 100


class Given(Exception):
    """Carries what a renderer gives to what makes the sound."""


def layout(name):
    return importlib.import_module(f"speechbrain_music.data_prep.replica.layouts.{name}")


def task_of(name):
    """The task of a recipe's yaml."""
    return load_task([str(ROOT / f"hparams/{name}.yaml"), "--encoder", "mel"])[1]["task"]


def rendered(tree):
    """Path -> what is rendered there: a `Piece` (and who sings its melody), or the arguments of
    `make_note` or `sing`.

    The renderers themselves are asked, up to where sound would begin.
    """

    def composed(*arguments):
        raise Given(compose(*arguments))

    def played(*arguments):
        raise Given(arguments)

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (trees, layout("magnatagatune"), layout("emomusic")):
            patch.setattr(module, "compose", composed)
        patch.setattr(layout("nsynth"), "make_note", played)
        patch.setattr(layout("vocalset"), "sing", played)
        for path, key in tree.sounds:
            with pytest.raises(Given) as caught:
                tree.render(0, *key)
            (found[path],) = caught.value.args
            if tree.render is layout("magnatagatune").render:
                found[path] = found[path], layout("magnatagatune").draw_clip(*key)[1]
    return found


@pytest.fixture(scope="module")
def replica_of(tmp_path_factory):
    """A function: name of a data set, scale -> its folder (annotations only), tree and sounds."""
    made = {}

    def replica_of(name, scale):
        if name not in made:
            root = tmp_path_factory.mktemp("scale") / name
            trees.make_replica(name, root, scale, annotations_only=True)
            tree = layout(name).plan(scale, 0)
            made[name] = root, tree, rendered(tree)
        return made[name]

    return replica_of


@pytest.fixture(scope="module")
def data(replica_of):
    """A function: name of a task -> table of its pieces as preparations read them (ID, wav, split,
    labels), and what was rendered for each."""
    found = {}

    def data(name):
        if name not in found:
            source = TASKS[name]
            root, _, sounds = replica_of(source.name, source.scale)
            record = DATA_SETS[source.name]
            items = record.read(root, None, **source.options).items
            table = pd.DataFrame([item.labels for item in items], columns=record.labels)
            table = table.astype(str)  # as manifests have it
            for field in ("id", "wav", "split"):
                table[field] = [getattr(item, field) for item in items]
            table["ID"] = table["id"]
            found[name] = table, [sounds[wav] for wav in table["wav"]]
        return found[name]

    return data


def targets_of(name, table):
    """The task, and split -> targets."""
    task = task_of(name)
    return task, {s: task.encode(table[table["split"] == s]) for s in ("train", "valid", "test")}


# --- 1: perfect predictions ---


@pytest.mark.parametrize("name", TASKS)
def test_perfect_predictions_score_1(name, data):
    task, targets = targets_of(name, data(name)[0])
    for split, labels in targets.items():
        perfect = labels if task.per_output else torch.eye(task.outputs)[labels]
        figures = task.figures(perfect, labels)
        assert figures.keys() == set(task.metrics)
        assert all(value == pytest.approx(1, abs=1e-12) for value in figures.values()), split
    verdict = summarise(task, perfect[None, None], labels, targets["train"], resamples=50)
    for figure in (*verdict["figures"].values(), verdict["score"]):
        assert [figure[key] for key in ("mean", "low", "high")] == pytest.approx([1, 1, 1])


# --- 2: shuffled labels ---


def features_of(name, sound):
    """What is rendered, as features of a classifier."""
    if TASKS[name].name == "nsynth":
        _, _, family, _, pitch, velocity, program = sound
        return {"family": family, "pitch": pitch, "velocity": velocity, "program": str(program)}
    if TASKS[name].name == "vocalset":
        singer, way, melody, vowel, _ = sound
        facts = {"singer": singer.name, "way": way, "vowel": vowel, "notes": len(melody)}
        return facts | {"lowest": min(pitch for pitch, _ in melody)}
    if TASKS[name] is MTT:
        piece, singer = sound
        return features_of_piece(piece) | {"sung": str(singer)}
    return features_of_piece(sound)


def features_of_piece(piece):
    """Numbers that describe a score."""
    features = defaultdict(float)
    features |= {"tempo": piece.tempo, "meter": piece.meter, "keys": len(piece.keys)}
    features |= {"mode": piece.keys[0][3]}
    features |= {key: piece.mood[key] for key in "density dynamics register short_notes".split()}
    for start, end, name in piece.chords:
        features[f"chord {name.partition(':')[2]}"] += (end - start) / piece.seconds
    for part in piece.parts:
        notes, count = part.notes, len(part.notes)
        features[f"{part.role} plays {part.program}"] += count
        features[f"program {part.program}"] += count / piece.seconds
        features[f"{part.role} notes"] += count / piece.seconds
        # Where in the beat notes begin: the rhythm, swing included.
        phase = (notes["start"] - piece.beats[0]) * piece.tempo / 60 % 1
        for place, share in enumerate(np.histogram(phase, 12, (0, 1))[0] / count):
            features[f"{part.role} at {place}"] += share
        if part.role == "drums":
            for pitch, hits in Counter(notes["pitch"].tolist()).items():
                features[f"drum {pitch}"] = hits / piece.seconds
        else:
            features[f"{part.role} pitch"] = float(notes["pitch"].mean())
            features[f"{part.role} length"] = float((notes["end"] - notes["start"]).mean())
    return dict(features)


def divided(name, table, sounds):
    """Features (pieces, columns) of the training and of the test pieces; the columns are those
    that the training pieces have."""
    test = (table["split"] == "test").to_numpy()
    train = (table["split"] == "train").to_numpy()
    rows = [features_of(name, sound) for sound in sounds]
    columns = DictVectorizer(sparse=False).fit(
        [row for row, here in zip(rows, train, strict=True) if here]
    )
    values = columns.transform(rows)
    return values[train], values[test]


def classify(task, model, features, labels, tested):
    """Logits of a scikit-learn model's predictions; its classes are those that it was shown."""
    model.fit(features, labels.numpy())
    if isinstance(task, Regression):
        return torch.from_numpy(model.predict(tested)).reshape(len(tested), -1)
    chances = model.predict_proba(tested)
    if isinstance(task, MultiLabel):
        columns = [
            chance[:, list(classes).index(1)] if 1 in classes else np.zeros(len(tested))
            for chance, classes in zip(chances, model.classes_, strict=True)
        ]
        return torch.from_numpy(np.stack(columns, axis=1))
    logits = torch.zeros(len(tested), task.outputs, dtype=torch.float64)
    logits[:, model.classes_] = torch.from_numpy(chances)
    return logits


@pytest.mark.parametrize("name", TASKS)
def test_shuffled_labels_score_chance(name, data):
    """Chance is what the same predictions score on the test pieces in any other order.

    Similar pieces get the same prediction, so one shuffle is right or wrong on many at once:
    the interval is over pieces and shuffles, as it is over tracks and encoders elsewhere.
    """
    table, sounds = data(name)
    task, targets = targets_of(name, table)
    train, test = divided(name, table, sounds)
    counts = draw_counts(len(test), RESAMPLES)
    rng, logits, others = np.random.default_rng(0), [], []
    for _ in range(SHUFFLES):
        shuffled = targets["train"][torch.from_numpy(rng.permutation(len(train)))]
        if isinstance(task, Regression):
            model = make_pipeline(StandardScaler(), Ridge(1000))
        else:
            model = ExtraTreesClassifier(15, min_samples_leaf=5, random_state=0)
        logits.append(classify(task, model, train, shuffled, test))
        for _ in range(2):
            order = torch.from_numpy(rng.permutation(len(test)))
            others.append(task.resampled(logits[-1][order], targets["test"], counts))
    verdict = summarise(
        task, torch.stack(logits)[:, None], targets["test"], targets["train"], RESAMPLES
    )
    for metric, figure in verdict["figures"].items():
        # In resamples too: a rare tag's precision rises where its few pieces are drawn twice.
        chance = np.nanmean([drawn[metric] for drawn in others])
        print(
            f"\n{name} {metric}, {len(test)} test pieces: shuffled {figure['mean']:.4f} "
            f"({figure['low']:.4f} to {figure['high']:.4f}), chance {chance:.4f} "
            f"(best constant {figure['chance']:.4f})"
        )
        assert figure["low"] <= chance <= figure["high"]


# --- 3: the composed score gives the label ---


def test_key_is_what_is_composed(data):
    for label, piece in labelled(data("giantsteps_key"), "key"):
        ((start, end, tonic, mode),) = piece.keys  # one, from the first bar to the end
        assert f"{tonic} {mode}" == label
        assert start < 0.5 and end == piece.seconds


def test_pitch_and_family_are_what_is_played(data):
    played = defaultdict(set)
    table, sounds = data("nsynth_pitch")
    for row, (_, bank, family, held_out, pitch, _, program) in zip(
        table.itertuples(), sounds, strict=True
    ):
        assert (row.family, row.pitch) == (family, str(pitch))
        assert program in FAMILIES[family][held_out] and bank.plays(program, pitch)
        played[row.split].add(program)
    assert not played["train"] & played["test"]


def test_singer_and_technique_are_what_is_sung(data):
    voices = {}
    for label, sound in labelled(data("vocalset_singer"), "singer"):
        singer = sound[0]
        assert singer.name == label and voices.setdefault(label, singer) == singer
    assert len({json.dumps(vars(v) | {"name": ""}, default=str) for v in voices.values()}) == 20
    for label, sound in labelled(data("vocalset_technique"), "technique"):
        assert sound[1] == label


def labelled(found, column):
    """Each piece's label, and what was rendered for it."""
    table, sounds = found
    return zip(table[column], sounds, strict=True)


def solved(name, data, model):
    """What a model learns from the training pieces' scores: summary on the test pieces."""
    table, sounds = data(name)
    task, targets = targets_of(name, table)
    train, test = divided(name, table, sounds)
    logits = classify(task, model, train, targets["train"], test)
    verdict = summarise(task, logits[None, None], targets["test"], targets["train"], RESAMPLES)
    for metric, figure in verdict["figures"].items():
        print(
            f"\n{name} {metric} from the score: {figure['mean']:.3f} ({figure['low']:.3f} to "
            f"{figure['high']:.3f}), chance {figure['chance']:.3f}; {len(train)} pieces to learn "
            f"from, {len(test)} to test"
        )
    return verdict["figures"]


def test_genre_follows_from_the_score(data):
    figures = solved("gtzan_genre", data, RandomForestClassifier(200, random_state=0))
    assert figures["accuracy"]["mean"] > 0.65


def test_emotions_follow_from_the_score(data):
    figures = solved("emomusic_emotion", data, RandomForestRegressor(200, random_state=0))
    assert figures["r2_arousal"]["mean"] > 0.5 and figures["r2_valence"]["mean"] > 0.5


def test_tags_follow_from_the_score(data, replica_of):
    model = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    figures = solved("mtt_tagging", data, model)
    assert figures["roc_auc"]["mean"] > 0.8 and figures["average_precision"]["mean"] > 0.3

    # Ceiling: listeners do not name all that is there; this names it all.
    class Attentive:
        def random(self):
            return 0.0

    table, _ = data("mtt_tagging")
    keys, made = dict(replica_of(MTT.name, MTT.scale)[1].sounds), layout("magnatagatune")
    table = table[table["split"] == "test"]
    drawn = [made.draw_clip(*keys[wav])[:2] for wav in table["wav"]]
    there = ["|".join(made.tags_of(*clip, Attentive())) for clip in drawn]
    task = task_of("mtt_tagging")
    answers = task.encode(table.assign(tags=there))
    ceiling = task.figures(answers, task.encode(table))
    print("\nall that is there:", {metric: round(value, 3) for metric, value in ceiling.items()})
    assert figures["roc_auc"]["mean"] < ceiling["roc_auc"] < 1


# --- 4: mel statistics, through the recipes ---


def audio_of(name, scale, otherwise, tmp_path):
    """A replica with audio: the one that recipes made, if complete and current, or a new one."""
    root = ROOT / f"data/replica/{name}_{scale:g}"
    try:
        facts = json.loads((root / "replica.json").read_text())
    except (OSError, ValueError):
        facts = {}
    if facts.get("generator") == GENERATOR and not facts["annotations_only"]:
        if all((root / path).exists() for path, _ in layout(name).plan(scale, 0).sounds):
            return root
    return trees.make_replica(name, tmp_path / name, otherwise)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, scale, otherwise", [("nsynth_instrument", 0.02, 0.01), ("gtzan_genre", 0.3, 0.2)]
)
def test_mel_lies_over_chance(name, scale, otherwise, tmp_path):
    root = audio_of(TASKS[name].name, scale, otherwise, tmp_path)
    options = {"encoder": "mel", "quick": True, "data_folder": root}
    options |= {"output_folder": tmp_path / "out", "feature_folder": tmp_path / "features"}
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    out = importlib.import_module(f"recipes.{name}.train").main(
        [str(ROOT / f"hparams/{name}.yaml"), *pairs, "--noprogressbar"]
    )
    results = json.loads(Path(out, "results.json").read_text())
    figure = results["figures"]["accuracy"]
    print(
        f"\n{name} on {root}, {results['data']['tracks']}: mel {figure['mean']:.3f} "
        f"({figure['low']:.3f} to {figure['high']:.3f}), chance {figure['chance']:.3f}"
    )
    assert figure["low"] > figure["chance"]
