"""Two processes give the results of one: frozen and fine-tuned."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import tiny
from exports import small_export

RECIPE = tiny.ROOT / "recipes/nsynth_instrument/train.py"
SIZE = {
    "hidden": 16,
    "batch_size": 8,
    "probe_dropout": 0,  # its masks follow from rank and micro-batch
    "number_of_epochs": 8,
    "resamples": 20,
    "extract_batch": 3,
    "quick": True,
}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An untrained export without dropout."""
    return small_export(
        tmp_path_factory.mktemp("exports") / "small", ffn_units=8, kernel_size=3, dropout=0.0
    )


def arguments(folder, encoder, data, **changes):
    options = {"encoder": encoder, "data_folder": data, "output_folder": folder / "out"}
    options |= {"feature_folder": folder / "features"} | SIZE | changes
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    return [str(tiny.ROOT / "hparams/nsynth_instrument.yaml"), *pairs, "--noprogressbar"]


def stored_results(folder):
    """What results.json says, and the logits of the test tracks."""
    with np.load(folder / "out/predictions.npz") as stored:
        logits = stored["logits"]
    return json.loads((folder / "out/results.json").read_text()), logits


def one_process(argv):
    import_module("recipes.nsynth_instrument.train").main([*argv, "--device", "cpu"])


def two_processes(argv):
    done = tiny.torchrun(RECIPE, argv)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Beginning experiment!") == 1  # they know of each other


def compare(tmp_path, tolerance):
    (one, expected), (two, logits) = (stored_results(tmp_path / name) for name in ("one", "two"))
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(logits, expected, atol=tolerance * scale, rtol=0)
    for metric, figure in one["figures"].items():
        assert two["figures"][metric] == pytest.approx(figure, abs=1e-5)
    for mine, theirs in zip(one["encoder"]["runs"], two["encoder"]["runs"], strict=True):
        for key in ("identity", "layer", "lr"):
            assert mine[key] == theirs[key]
        assert mine["valid"] == pytest.approx(theirs["valid"], abs=1e-5)
    probes = [pd.read_csv(tmp_path / name / "out/probes.csv") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*probes, atol=1e-5)
    assert probes[0]["epoch"].nunique() > 1
    return one, two


def test_frozen(export, replica, tmp_path):
    data = replica("nsynth")
    one_process(arguments(tmp_path / "one", export, data))
    two_processes(arguments(tmp_path / "two", export, data))
    compare(tmp_path, tolerance=1e-5)
    features = [next((tmp_path / n / "features").rglob("features.npy")) for n in ("one", "two")]
    np.testing.assert_allclose(*map(np.load, features), atol=1e-5)


def test_fine_tuned(export, replica, tmp_path):
    """Two batches of 12 are one of 24; the second process has none of the 11 test chunks."""
    data = replica("nsynth")
    options = {"freeze_encoder": False, "fine_tune_epochs": 2, "effective_batch": 24}
    options |= {"lr_probe": 0.003, "lr_encoder": 0.001, "warmup_steps": 1}
    one_process(arguments(tmp_path / "one", export, data, fine_tune_batch=24, **options))
    two_processes(arguments(tmp_path / "two", export, data, fine_tune_batch=12, **options))
    one, two = compare(tmp_path, tolerance=1e-4)
    assert one["data"]["chunks"]["test"] == one["data"]["chunks"]["valid"] == 11
    tuned = [results["encoder"]["runs"][0]["fine_tuned"] for results in (one, two)]
    assert tuned[0]["epoch"] == tuned[1]["epoch"]
    assert tuned[0]["valid"] == pytest.approx(tuned[1]["valid"], abs=1e-5)
    assert (stored_results(tmp_path / "one")[1].std(axis=2) > 0.02).all()  # tracks are told apart
