"""The eight task recipes from their command line."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from exports import small_export
from tiny import ROOT

from speechbrain_music.evaluation.tasks import TASKS
from speechbrain_music.utils.errors import UserError

SMALL = {
    "hidden": 8,
    "number_of_epochs": 3,
    "fine_tune_epochs": 2,
    "fine_tune_batch": 4,
    "effective_batch": 8,
    "resamples": 20,
    "extract_batch": 4,
    "quick": True,
}


def run(task, folder, **options):
    """A recipe's main on a command line; the results that it wrote."""
    options = SMALL | {"output_folder": folder / "out", "feature_folder": folder / "f"} | options
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    out = import_module(TASKS[task].recipe).main(
        [str(ROOT / f"hparams/{task}.yaml"), *pairs, "--noprogressbar"]
    )
    return json.loads((Path(out) / "results.json").read_text()), Path(out)


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """An untrained export of two small layers."""
    training = {"system": "small", "seed": 0}
    return small_export(tmp_path_factory.mktemp("exports") / "small", 2, training)


@pytest.fixture(scope="session")
def data(replica, export):
    """A function: task -> options with its replica and the export."""

    def data(task):
        # Of 24 keys the smallest replica has one.
        scale = {"scale": 0.004} if task == "giantsteps_key" else {}
        return {"data_folder": replica(TASKS[task].data_set, **scale), "encoder": export}

    return data


def tasks(slow):
    """Parameters: all tasks, some of them only in the slow run."""
    return [pytest.param(task, marks=[pytest.mark.slow] * (task in slow)) for task in TASKS]


@pytest.mark.parametrize("task", tasks({"mtt_tagging", "emomusic_emotion", "vocalset_technique"}))
def test_every_recipe(task, data, tmp_path):
    results, out = run(task, tmp_path, **data(task))
    assert results["task"] == task and results["data"]["replica"]["seed"] == 0
    assert results["published"] == []  # never with a replica's figures
    for figure in results["figures"].values():
        assert figure["low"] <= figure["high"] and np.isfinite(figure["mean"])
    (chosen,) = results["encoder"]["runs"]
    assert chosen["layer"] in ("0", "1", "2", "all") and chosen["fine_tuned"] is None
    with np.load(out / "predictions.npz") as stored:
        assert stored["logits"].shape[:2] == (1, 1)
        assert stored["logits"].shape[2] == len(stored["tracks"]) == len(stored["targets"])
    assert "**On a replica**" in (out / "report.md").read_text()
    assert (out / "layers.png").stat().st_size > 5000


@pytest.mark.parametrize("task", tasks(set(TASKS) - {"nsynth_instrument", "giantsteps_key"}))
def test_every_recipe_fine_tuned(task, data, tmp_path):
    results, out = run(task, tmp_path, **data(task), freeze_encoder=False, lr_probe=0.1)
    assert results["encoder"]["runs"][0]["fine_tuned"]["epoch"] in (1, 2)
    assert "Fine-tuned: epoch" in (out / "report.md").read_text()


def test_a_replica_is_made_where_there_is_no_data(export, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    results, _ = run("nsynth_instrument", tmp_path, encoder=export, replica_scale=0.0001)
    assert "a replica of nsynth in data/replica/nsynth_0.0001" in caplog.text
    assert results["data"]["replica"]["scale"] == 0.0001


def test_tasks_on_the_same_data_share_features(data, tmp_path):
    run("nsynth_pitch", tmp_path, **data("nsynth_pitch"), output_folder=tmp_path / "pitch")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "f").rglob("features.npy")}
    options = data("nsynth_instrument") | {"output_folder": tmp_path / "family"}
    run("nsynth_instrument", tmp_path, **options)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "f").rglob("features.npy")}
    assert len(before) == 1 and before == after


def test_finished_results_are_reused(data, tmp_path, capsys):
    options = data("nsynth_instrument")
    _, out = run("nsynth_instrument", tmp_path, **options)
    before = (out / "results.json").stat().st_mtime_ns
    run("nsynth_instrument", tmp_path, **options)
    assert (out / "results.json").stat().st_mtime_ns == before
    assert "has these results already" in capsys.readouterr().out
    run("nsynth_instrument", tmp_path, **options, hidden=4)
    assert (out / "results.json").stat().st_mtime_ns != before


def test_several_encoders_of_a_system(replica, export, tmp_path):
    options = {"data_folder": replica("nsynth"), "encoder": f"random:{export}"}
    results, out = run("nsynth_instrument", tmp_path, **options)
    assert len(results["encoder"]["runs"]) == len(results["each"]) == 3
    with np.load(out / "predictions.npz") as stored:
        assert stored["logits"].shape[:2] == (3, 1)


def test_fine_tuning_resumes(data, tmp_path):
    """Stopped after an epoch and continued it ends where an uninterrupted run does."""
    options = data("nsynth_instrument") | {"freeze_encoder": False, "lr_probe": 0.1}
    one, two = {"output_folder": tmp_path / "a"}, {"output_folder": tmp_path / "b"}
    whole, _ = run("nsynth_instrument", tmp_path, **options | one)
    run("nsynth_instrument", tmp_path, **options | two, fine_tune_epochs=1)
    parts, _ = run("nsynth_instrument", tmp_path, **options | two)
    assert parts["each"] == whole["each"]
    logits = [np.load(tmp_path / n / "predictions.npz")["logits"] for n in "ab"]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"encoder": "nowhere"}, "encoder is 'nowhere': choose"),
        ({"encoder": "{tmp}"}, "is no export"),
        ({"encoder": "mel", "freeze_encoder": False}, "mel cannot be fine-tuned"),
        ({"data_folder": "/nonexistent"}, "/nonexistent"),
        ({"learning_rates": "[]"}, "learning_rates is .*: it must be a list"),
        ({"probe_dropout": 1.5}, "probe_dropout is 1.5"),
        ({"hidden": 0}, "hidden is 0: it must be a whole number"),
    ],
)
def test_wrong_input(options, message, replica, export, tmp_path):
    options = {"data_folder": replica("gtzan"), "encoder": export} | {
        key: str(value).format(tmp=tmp_path) for key, value in options.items()
    }
    with pytest.raises(UserError, match=message):
        run("gtzan_genre", tmp_path, **options)
    assert not (tmp_path / "out" / "results.json").exists()


def test_no_encoder_is_an_error(replica, tmp_path):
    with pytest.raises(UserError, match="encoder is not set: pass --encoder"):
        import_module("recipes.gtzan_genre.train").main([str(ROOT / "hparams/gtzan_genre.yaml")])
