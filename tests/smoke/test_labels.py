"""The recipe `labels`: classes, keys and tags of a user's table."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from tiny import ROOT, task_arguments

from recipes.labels.train import main
from speechbrain_music.utils.errors import UserError

SPLITS = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
LABELS = {
    "quality": ["major", "minor", "dim"],
    "key": ["C major", "A minor", "G major"],
    "tags": ["slow | solo", "solo", "fast||slow"],
    "wrong": ["C major", "A minor", "nonsense"],
    "twice": ["D# minor", "Eb minor", "G major"],
    "one": ["a", "a", "a"],
    "empty": ["", "", ""],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve recordings of one second, and their labels in a file of another name."""
    root, rng = tmp_path_factory.mktemp("my music #1"), np.random.default_rng(0)
    rows = [",".join(["file", "split", *LABELS])]
    for place, split in enumerate(SPLITS):
        soundfile.write(root / f"{place}.wav", 0.1 * rng.standard_normal(24000), 24000)
        rows.append(",".join([f"{place}.wav", split, *(v[place % 3] for v in LABELS.values())]))
    (root / "my labels.csv").write_text("\n".join(rows))
    return root


def run(folder, out, label, kind="SingleLabel", **options):
    own = {"data_folder": folder, "table": "my labels.csv", "label": label, "encoder": "mel"}
    argv = task_arguments("labels", out, **(own | options))
    return main([*argv, f"--task=speechbrain_music.metrics.tasks.{kind}"])


@pytest.mark.parametrize(
    "label, kind, classes, metric",
    [
        ("quality", "SingleLabel", ["dim", "major", "minor"], "accuracy"),
        ("key", "MusicalKey", ["A minor", "C major", "G major"], "weighted_score"),
        ("tags", "MultiLabel", ["fast", "slow", "solo"], "roc_auc"),
    ],
)
def test_a_column_is_a_task(label, kind, classes, metric, folder, tmp_path):
    out = run(folder, tmp_path, label, kind)
    results = json.loads((out / "results.json").read_text())
    assert list(results["by_class"]) == classes and metric in results["figures"]
    assert results["task"] == f"labels:{label}" and results["protocol"]["label"] == label
    assert (out / "report.md").read_text().startswith(f"# labels:{label}: mel\n")
    with pytest.raises(UserError, match="has results of another (task, )?label: choose another"):
        run(folder, tmp_path, "one" if label == "quality" else "quality")


def test_results_are_those_of_the_class_and_of_the_names(folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    out = run(data, tmp_path, "key")
    with pytest.raises(UserError, match="has results of another task: choose another output_fold"):
        run(data, tmp_path, "key", "MusicalKey")
    table, written = data / "my labels.csv", (out / "results.json").read_bytes()
    table.write_text(table.read_text().replace("C major", "Db major"))
    with pytest.raises(
        UserError, match="has results of other data, versions or settings of the task: c"
    ):
        run(data, tmp_path, "key")
    assert (out / "results.json").read_bytes() == written


@pytest.mark.parametrize(
    "label, kind, options, message",
    [
        ("mood", "SingleLabel", {}, "lacks the column.* mood, it has file, split, quality, key"),
        ("quality", "SingleLabel", {"data_folder": "/no"}, "There is no folder /no"),
        ("quality", "SingleLabel", {"table": "a.csv"}, "a.csv does not exist.*another as --table"),
        ("wrong", "MusicalKey", {}, "wrong cannot be scored .*: write keys as 'Eb minor'"),
        ("twice", "MusicalKey", {}, "twice has 'D# minor' and 'Eb minor', the same key: write it"),
        ("tags", "SingleLabel", {}, "has tags 'slow . solo', allowed are fast, slow, solo: corr"),
        ("one", "SingleLabel", {}, "chance is 1.0; it must be below 1"),
        ("empty", "SingleLabel", {}, "my labels.csv has no value in the column empty: fix the ta"),
        ("split", "SingleLabel", {}, "labels has 'split', a column of every table"),
        ("quality", "Regression", {}, "unexpected keyword argument 'column'"),
    ],
)
def test_labels_that_are_no_task(label, kind, options, message, folder, tmp_path):
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path, label, kind, **options)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(
    "pair, message",
    [
        (["--label=a"], "data_folder or label is not set: pass --data_folder .to marble.py"),
        (["--data_folder=a"], "data_folder or label is not set: .* and --label with a column"),
    ],
)
def test_what_must_be_given(pair, message):
    with pytest.raises(UserError, match=message):
        main([str(ROOT / "hparams/labels.yaml"), "--encoder=mel", *pair])
