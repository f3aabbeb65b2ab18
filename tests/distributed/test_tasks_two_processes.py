"""Two processes reach the results of one: features, frozen probes and fine-tuning."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny

from speechbrain_music.evaluation.tasks import find_task

TASK = "nsynth_instrument"
OPTIONS = {
    "hidden": 16,
    "batch_size": 8,
    "probe_dropout": 0,  # its masks follow from rank and micro-batch
    "number_of_epochs": 8,
    "extract_batch": 3,
    "device": "cpu",
    "freeze_encoder": False,
    "fine_tune_epochs": 2,
    "effective_batch": 24,
    "lr_probe": 0.003,
    "lr_encoder": 0.001,
    "warmup_steps": 1,
}


def test_two_processes_equal_one(replica, tmp_path):
    """Two batches of 12 are one of 24; the second process has none of the 11 test chunks."""
    encoder = tiny.untrained_export(tmp_path / "small", dropout=0.0)
    options = OPTIONS | {"encoder": encoder, "data_folder": replica("nsynth")}
    one, logits, _ = tiny.run_task(TASK, tmp_path / "one", **options, fine_tune_batch=24)
    arguments = tiny.task_arguments(TASK, tmp_path / "two", **options, fine_tune_batch=12)
    done = tiny.torchrun(tiny.ROOT / f"recipes/{find_task(TASK).folder}/train.py", arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Beginning experiment!") == 1  # they know of each other
    two = json.loads((tmp_path / "two/out/results.json").read_text())

    features = [next((tmp_path / n / "f").rglob("features.npy")) for n in ("one", "two")]
    np.testing.assert_allclose(*map(np.load, features), atol=1e-5)
    probes = [pd.read_csv(tmp_path / name / "out/probes.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*probes, atol=1e-5)
    assert probes[0]["epoch"].nunique() > 1

    with np.load(tmp_path / "two/out/predictions.npz") as stored:
        again = stored["logits"]
    np.testing.assert_allclose(again, logits, atol=1e-4 * max(1, np.abs(logits).max()), rtol=0)
    assert (logits.std(axis=2) > 0.02).all()  # tracks are told apart
    assert one["data"]["chunks"]["test"] == one["data"]["chunks"]["valid"] == 11
    for metric, figure in one["figures"].items():
        assert two["figures"][metric] == pytest.approx(figure, abs=1e-5)
    (mine,), (theirs,) = (results["encoder"]["runs"] for results in (one, two))
    assert all(mine[key] == theirs[key] for key in ("identity", "layer", "lr"))
    assert mine["valid"] == pytest.approx(theirs["valid"], abs=1e-5)
    assert mine["fine_tuned"] == pytest.approx(theirs["fine_tuned"], abs=1e-5)
