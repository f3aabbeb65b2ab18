"""The eight task recipes from their command line."""

from importlib import import_module

import numpy as np
import pytest
from tiny import ROOT, run_task, task_arguments

from speechbrain_music.evaluation.tasks import TASKS, find_task
from speechbrain_music.utils.atomic import locked_folder
from speechbrain_music.utils.errors import UserError

TASK = "nsynth_instrument"  # has the shortest recordings; the other replicas take long to compose
TUNED = {"freeze_encoder": False, "lr_probe": 0.1}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder of features that the tests share."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def run(replica, tiny_export, features, tmp_path):
    """A function that runs a recipe on its replica."""

    def run(task=TASK, **options):
        options = {"encoder": tiny_export, "feature_folder": features} | options
        if "replica_scale" not in options and "data_folder" not in options:
            # Of 24 keys the smallest replica has one.
            scale = 0.004 if task == "giantsteps_key" else 0.0001
            options["data_folder"] = replica(find_task(task).data_set, scale)
        return run_task(task, tmp_path, **options)

    return run


@pytest.mark.parametrize(
    "task", [pytest.param(t, marks=[pytest.mark.slow] * (t != TASK)) for t in TASKS]
)
def test_every_recipe(task, run):
    results, logits, out = run(task)
    assert results["task"] == task and results["data"]["replica"]["seed"] == 0
    assert results["published"] == []  # never with a replica's figures
    for figure in results["figures"].values():
        assert figure["low"] <= figure["high"] and np.isfinite(figure["mean"])
    (chosen,) = results["encoder"]["runs"]
    assert chosen["layer"] in ("0", "1", "2", "all") and chosen["fine_tuned"] is None
    with np.load(out / "predictions.npz") as stored:
        assert logits.shape[:3] == (1, 1, len(stored["tracks"]))
        assert len(stored["tracks"]) == len(stored["targets"])
    report = (out / "report.md").read_text()
    assert "**On a replica**" in report
    if layers := results["layers"]:  # None where the few validation tracks leave none defined
        assert list(layers["valid"]) == ["0", "1", "2"] and f"{layers['text']}:\n" in report
    assert (out / "layers.png").exists()


def test_the_middle_and_whole_tracks(run, tmp_path):
    """Tracks of the replica last 45 s: whole ones have two chunks."""
    options = {"encoder": "mel", "feature_folder": tmp_path / "f"}
    middle, logits, _ = run("mtg_mood", **options)
    assert middle["task"] == "mtg_mood" and logits.shape[2:] == (4, 56)
    assert all(0 <= figure["mean"] <= 1 for figure in middle["figures"].values())
    (path,) = (tmp_path / "f").rglob("features.npy")
    options |= {"marble_compat": True, "output_folder": tmp_path / "whole"}
    assert run("mtg_mood", **options)[1].shape == logits.shape
    (other,) = set((tmp_path / "f").rglob("features.npy")) - {path}
    assert len(np.load(path)) == 12 and len(np.load(other)) == 24


# One of each loss; golden.json has gtzan_genre.
@pytest.mark.slow
@pytest.mark.parametrize("task", ["giantsteps_key", "mtt_tagging", "emomusic_emotion"])
def test_fine_tuning(task, run):
    results, _, out = run(task, **TUNED)
    assert results["encoder"]["runs"][0]["fine_tuned"]["epoch"] in (1, 2)
    assert "Fine-tuned: epoch" in (out / "report.md").read_text()


def test_fine_tuning_resumes(run, tmp_path):
    """Stopped after an epoch and continued it ends where an uninterrupted run does."""
    one, two = tmp_path / "a", tmp_path / "b"
    whole, logits, _ = run(**TUNED, output_folder=one)
    assert whole["encoder"]["runs"][0]["fine_tuned"]["epoch"] in (1, 2)
    run(**TUNED, output_folder=two, fine_tune_epochs=1)
    (two / "results.json").unlink()
    parts, again, _ = run(**TUNED, output_folder=two)
    assert parts["each"] == whole["each"]
    np.testing.assert_array_equal(logits, again)


def test_features_and_results_are_reused(run, tmp_path, monkeypatch, capsys, caplog):
    """Features by another task on the same data, results by the same command; without data, a
    replica is made once."""

    def times(name):
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob(name)}

    monkeypatch.chdir(tmp_path)
    own = {"feature_folder": tmp_path / "own", "replica_scale": 0.0001}
    results, _, _ = run("nsynth_pitch", **own, output_folder=tmp_path / "pitch")
    assert "a replica of nsynth in data/replica/nsynth_0.0001" in caplog.text
    assert results["data"]["replica"]["scale"] == 0.0001
    features = times("features.npy")
    run(**own)
    assert len(features) == 1 and times("features.npy") == features
    results = times("results.json")
    run(**own)
    assert len(results) == 2 and times("results.json") == results
    assert "has these results already" in capsys.readouterr().out
    for changes, what in (({"hidden": 4}, "hidden"), ({"encoder": "mel"}, "encoder")):
        with pytest.raises(UserError, match=f"has results of another {what}: choose another out"):
            run(**own, **changes)
    assert times("results.json") == results
    for path in results:
        path.unlink()
    run(**own, hidden=4)
    assert len(times("results.json")) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"encoder": "nowhere"}, "encoder is 'nowhere': choose"),
        ({"encoder": "{tmp}"}, "is no export"),
        ({"encoder": "mel", "freeze_encoder": False}, "mel cannot be fine-tuned"),
        ({"data_folder": "/nonexistent"}, "/nonexistent"),
        ({"learning_rates": "[]"}, "learning_rates is .*: it must be a list"),
        ({"mix_from": 3}, "mix_from is 3: it must be less than 3, the hidden states of small-0"),
        ({"hidden": 0}, "hidden is 0: it must be a whole number"),
    ],
)
def test_wrong_input(options, message, run, tmp_path):
    options = {key: str(value).format(tmp=tmp_path) for key, value in options.items()}
    with pytest.raises(UserError, match=message):
        run(**options)
    assert not (tmp_path / "out" / "results.json").exists()


def test_half_precision_is_not_fine_tuned(run, tiny_export, tmp_path):
    with pytest.raises(UserError, match="bfloat16-.* cannot be fine-tuned.*nor in half precision"):
        run(**TUNED, encoder=f"bfloat16:{tiny_export}")
    assert not (tmp_path / "out" / "results.json").exists()


def test_a_recipe_refuses_the_yaml_of_another_task(tmp_path):
    argv = task_arguments("nsynth_pitch", tmp_path, encoder="mel")
    with pytest.raises(UserError, match="name is 'nsynth_pitch' and the recipe that of gtzan"):
        import_module("recipes.gtzan_genre.train").main(argv)
    assert not list(tmp_path.iterdir())


def test_an_output_folder_is_evaluated_in_once_at_a_time(run, tmp_path):
    with (
        locked_folder(tmp_path / "out"),
        pytest.raises(UserError, match="another process evaluates in .*out: wait for it"),
    ):
        run(encoder="mel")


def test_no_encoder_is_an_error():
    with pytest.raises(UserError, match="encoder is not set: pass --encoder"):
        import_module("recipes.gtzan_genre.train").main([str(ROOT / "hparams/gtzan_genre.yaml")])
