"""Two processes reach the results of one: frozen and fine-tuned."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny


TASK = "nsynth_instrument"
SIZE = {
    "hidden": 16,
    "batch_size": 8,
    "probe_dropout": 0,  # its masks follow from rank and micro-batch
    "number_of_epochs": 8,
    "extract_batch": 3,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def options(tmp_path_factory, replica):
    """Options of all runs; the export has no dropout."""
    folder = tmp_path_factory.mktemp("exports") / "small"
    encoder = tiny.untrained_export(folder, dropout=0.0)
    return SIZE | {"encoder": encoder, "data_folder": replica("nsynth")}


def two_processes(folder, **options):
    done = tiny.torchrun(
        tiny.ROOT / f"recipes/{TASK}/train.py", tiny.task_arguments(TASK, folder, **options)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Beginning experiment!") == 1  # they know of each other
    with np.load(folder / "out/predictions.npz") as stored:
        return json.loads((folder / "out/results.json").read_text()), stored["logits"]


def assert_near(tmp_path, options, tolerance, one=(), two=()):
    """Results of one process with the options of `one` equal those of two with those of `two`."""
    expected, logits, _ = tiny.run_task(TASK, tmp_path / "one", **options | dict(one))
    found, again = two_processes(tmp_path / "two", **options | dict(two))
    scale = max(1, np.abs(logits).max())
    np.testing.assert_allclose(again, logits, atol=tolerance * scale, rtol=0)
    for metric, figure in expected["figures"].items():
        assert found["figures"][metric] == pytest.approx(figure, abs=1e-5)
    for mine, theirs in zip(expected["encoder"]["runs"], found["encoder"]["runs"], strict=True):
        for key in ("identity", "layer", "lr"):
            assert mine[key] == theirs[key]
        assert mine["valid"] == pytest.approx(theirs["valid"], abs=1e-5)
    probes = [pd.read_csv(tmp_path / name / "out/probes.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*probes, atol=1e-5)
    assert probes[0]["epoch"].nunique() > 1
    return expected, found, logits


def test_frozen(options, tmp_path):
    assert_near(tmp_path, options, tolerance=1e-5)
    features = [next((tmp_path / n / "f").rglob("features.npy")) for n in ("one", "two")]
    np.testing.assert_allclose(*map(np.load, features), atol=1e-5)


def test_fine_tuned(options, tmp_path):
    """Two batches of 12 are one of 24; the second process has none of the 11 test chunks."""
    options = options | {"freeze_encoder": False, "fine_tune_epochs": 2, "effective_batch": 24}
    options |= {"lr_probe": 0.003, "lr_encoder": 0.001, "warmup_steps": 1}
    batches = {"one": {"fine_tune_batch": 24}, "two": {"fine_tune_batch": 12}}
    one, two, logits = assert_near(tmp_path, options, tolerance=1e-4, **batches)
    assert one["data"]["chunks"]["test"] == one["data"]["chunks"]["valid"] == 11
    tuned = [results["encoder"]["runs"][0]["fine_tuned"] for results in (one, two)]
    assert tuned[0]["epoch"] == tuned[1]["epoch"]
    assert tuned[0]["valid"] == pytest.approx(tuned[1]["valid"], abs=1e-5)
    assert (logits.std(axis=2) > 0.02).all()  # tracks are told apart
