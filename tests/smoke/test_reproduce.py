"""Published figures measured again: the table, what differs, bad input."""

import json
import sys

import pandas as pd
import pytest
import tiny
import yaml

from recipes.reproduce import main
from speechbrain_music.evaluation.tasks import find_task
from speechbrain_music.models.peers import LOADERS
from speechbrain_music.utils.errors import UserError

TASK = "nsynth_pitch"
SMALL = tiny.PROBES | {"hidden": 4, "number_of_epochs": 2, "resamples": 40}
OPTIONS = [str(part) for key, value in SMALL.items() for part in (f"--{key}", value)]


def published(task):
    return pd.read_csv(tiny.ROOT / "recipes" / find_task(task).folder / "published.csv")


@pytest.fixture
def reproduce(replica, tmp_path, monkeypatch, capsys):
    """A function that runs the script on a replica; it returns the cells of the table's rows."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(model, *options):
        command = [model, TASK, "--encoder", "mel", "--out", str(tmp_path), *options]
        main([*command, "--data", f"nsynth={replica('nsynth')}", *OPTIONS, "--noprogressbar"])
        page = (tmp_path / "reproduce.md").read_text()
        assert page in capsys.readouterr().out
        lines = [line.strip("| ").split(" | ") for line in page.splitlines()]
        return [line for line in lines if line[0] == TASK]

    return run


def test_cells_equal_the_results_and_the_published_figures(reproduce, tmp_path):
    (cells,) = reproduce("mert-95m")
    results = json.loads((tmp_path / TASK / "mert-95m" / "results.json").read_text())
    figure = results["figures"]["accuracy"]
    task, metric, model, source, value, measured, difference, inside, differs = cells
    assert (task, metric, model, value) == (TASK, "accuracy", "MERT-v1-95M", "0.926")
    assert source == "MARBLE paper, June 2023 (arXiv 2306.10548)"
    assert measured == "{mean:.3f} ({low:.3f} to {high:.3f})".format(**figure)
    assert difference == f"{figure['mean'] - 0.926:+.3f}" and inside == "no"
    assert differs.startswith("composed music; standardize is auto, MARBLE's False; ")
    assert differs.endswith("probe_seeds is [0], MARBLE's [1234]; quick: fewer probes")


def test_any_encoder_with_any_row(reproduce):
    """Of another protocol, and with MARBLE's settings."""
    (cells,) = reproduce("OMAR-RQ multifeature-25hz-fsq")
    assert "published with a protocol that is not MARBLE's: own" in cells[-1]
    (cells,) = reproduce("MuQ", "--marble_compat", "True")
    assert cells[4] == "0.923 ± 0.002"
    assert cells[-1] == "composed music; probe_seeds is [0], MARBLE's [1234]; quick: fewer probes"


def test_names_are_of_published_models_and_of_encoders():
    known = yaml.safe_load((tiny.ROOT / "recipes/reproduce.yaml").read_text())
    models = set(published(TASK)["model"]) | set(published("gtzan_genre")["model"])
    for entry in known.values():
        assert entry["encoder"].partition(":")[0] in LOADERS and set(entry["models"]) <= models


@pytest.mark.parametrize(
    "line, message",
    [
        ("mert gtzan_genre", "model is 'mert': choose mert-95m, .*musicfm, or add --encoder"),
        ("me gtzan_genre --encoder mel", "published.csv has no me on gtzan_genre: choose MusiCNN"),
        ("mert-95m rwc_chords", "has no mert-95m on rwc_chords: choose YK1"),
        ("mert-95m nothing", "published.csv has no mert-95m on nothing: choose another task"),
        ("muq-iter gtzan_genre --hiden 3", "nothing could be evaluated: .*unknown option --hiden"),
    ],
)
def test_wrong_input(line, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(UserError, match=message):
        main([*line.split(), "--out", str(tmp_path)])
    assert not list(tmp_path.rglob("reproduce.md"))
