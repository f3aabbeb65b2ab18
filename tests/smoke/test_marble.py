"""Several encoders on several tasks: the table, its missing results, bad input."""

import csv
import json
import shutil

import numpy as np
import pytest
import tiny

from recipes.marble import main, mean_score, parse, recipe_arguments, resampled_scores
from speechbrain_music.evaluation.protocol import load_task
from speechbrain_music.evaluation.tasks import find_task
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.utils.errors import UserError

TASKS = ("nsynth_instrument", "nsynth_pitch")
SMALL = tiny.PROBES | {"hidden": 4, "number_of_epochs": 2, "resamples": 40}
OPTIONS = [str(part) for key, value in SMALL.items() for part in (f"--{key}", value)]


def evaluate(out, encoders, data, tasks=TASKS):
    argv = ["--encoders", *encoders, "--tasks", *tasks, "--out", str(out)]
    argv += ["--data", *(f"{name}={folder}" for name, folder in data.items())]
    main([*argv, *OPTIONS, "--noprogressbar"])


@pytest.fixture(scope="module")
def suite(tmp_path_factory, replica, tiny_export):
    """Two encoders on two tasks: the folder, and how to evaluate again."""
    out = tmp_path_factory.mktemp("suite")
    encoders = ["mel", f"random:{tiny_export}"]
    options = {"encoders": encoders, "data": {"nsynth": replica("nsynth")}}
    evaluate(out, **options)
    return out, options


def test_table_equals_the_results_of_the_recipes(suite):
    out, _ = suite
    with open(out / "marble.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["encoder"]) for row in rows] == [
        (task, encoder) for task in TASKS for encoder in ("mel", "random")
    ]
    stored = json.loads((out / "marble.json").read_text())
    page = (out / "marble.md").read_text()
    for row, score in zip(rows, stored["scores"], strict=True):
        folder = out / row["task"] / row["encoder"]
        results = json.loads((folder / "results.json").read_text())
        figure = results["figures"][row["metric"]]
        assert {key: float(row[key]) for key in figure} == figure
        assert row["layer"].split() == [run["layer"] for run in results["encoder"]["runs"]]
        assert {key: score[key] for key in results["score"]} == results["score"]
        assert f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in page
    assert [len(row["lr"].split()) for row in rows] == [1, 3, 1, 3]  # three untrained ones
    for encoder in ("mel", "random"):
        means = [score["mean"] for score in stored["scores"] if score["encoder"] == encoder]
        overall = stored["overall"][encoder]
        assert overall["mean"] == pytest.approx(sum(means) / 2) and overall["tasks"] == 2
        assert overall["low"] <= overall["high"]
    (pair,) = stored["pairs"]
    assert (pair["first"], pair["second"]) == ("mel", "random") and "### mel - random" in page
    scores = {(score["task"], score["encoder"]): score["mean"] for score in stored["scores"]}
    for task in TASKS:
        difference = scores[task, "mel"] - scores[task, "random"]
        assert pair["tasks"][task]["difference"] == pytest.approx(difference)
    assert "**On replicas**" in page and "## Missing" not in page


def test_the_spread_of_seeds_is_pooled_over_trained_systems():
    """Trained systems, wide or narrow, get the same error; untrained ones their own, mel none."""
    figures = {
        "a": [0.6, 0.6],
        "b": [0.5, 0.7],
        "mel": [0.5],
        "random": [0.1, 0.11, 0.12],
    }
    drawn = {
        name: {"accuracy": np.repeat(np.array(each)[:, None], 4000, axis=1)}
        for name, each in figures.items()
    }
    cells = {
        name: {"score": {"mean": 0.0}, "figures": {"accuracy": {"chance": 0.0}}} for name in drawn
    }
    task = SingleLabel("letter", ["a", "b"])

    def widths(trained):
        scores = resampled_scores(task, cells, drawn, trained)
        return {name: np.ptp(np.quantile(each, [0.1, 0.9])) for name, (_, each) in scores.items()}

    pooled, apart = widths({"a", "b"}), widths({"a"})
    assert pooled["a"] == pytest.approx(pooled["b"], rel=0.1) and apart["a"] == 0
    assert 0 < pooled["b"] < apart["b"] and pooled["random"] == apart["random"] < 0.05
    assert pooled["mel"] == apart["mel"] == 0


def test_finished_results_are_reused(suite, capsys):
    out, options = suite
    files = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    table, page = (out / "marble.csv").read_bytes(), (out / "marble.md").read_text()
    evaluate(out, **options)
    assert len(files) == 4 and files == {path: path.stat().st_mtime_ns for path in files}
    assert (out / "marble.csv").read_bytes() == table
    assert page in capsys.readouterr().out


def test_failures_are_listed_and_the_others_run(suite, tmp_path):
    """No folder, no data set, no encoder, and a file in the way of one result."""
    out, options = suite
    copy = shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(copy / "nsynth_pitch" / "random")
    (copy / "nsynth_pitch" / "random").write_text("in the way of a folder")
    data = options["data"] | {"gtzan": tmp_path / "nowhere"}
    tasks = ("gtzan_genre", *TASKS, "giantsteps_key")
    with pytest.raises(UserError, match="7 of the results are missing: the table names them"):
        evaluate(copy, [*options["encoders"], "bad=nowhere"], data, tasks)
    page = (copy / "marble.md").read_text()
    table, _, missing = page.partition("## Missing")
    (row,) = [line for line in table.splitlines() if line.startswith("| nsynth_pitch | accuracy")]
    assert row.endswith("| missing |") and "the mean over 1 or 2 tasks" in table
    assert f"- gtzan_genre, mel: There is no folder {tmp_path}/nowhere" in missing
    assert "- giantsteps_key: no folder of giantsteps was given with --data" in missing
    assert "- nsynth_instrument, bad: encoder is 'nowhere'" in missing
    assert "- nsynth_pitch, random: " in missing
    stored = json.loads((copy / "marble.json").read_text())
    assert len(stored["failed"]) == 7 and stored["overall"]["mel"]["tasks"] == 2
    assert [list(pair["tasks"]) for pair in stored["pairs"]] == [["nsynth_instrument"]]


@pytest.mark.parametrize(
    "line, message",
    [
        ("--encoders mel --tasks gtzan", "there is no task 'gtzan': choose from mtt_tagging"),
        ("--encoders mel --data gtzam=/x", "no task uses 'gtzam': choose from magnatagatune"),
        ("--encoders mel mel", "two encoders are named 'mel': write NAME=ENCODER"),
        ("--encoders /a/export /b/export", "two encoders are named 'export'"),
        ("--encoders =mel", "('=mel'|'').*: write NAME=ENCODER"),
        ("--encoders mel --data nsynth=/nonexistent", "nothing could be evaluated: .*/nonexistent"),
        ("--encoders mel --data nsynth", "nsynth"),
        ("--encoders mel --tasks gtzan_genre --hiden 3", "unknown option --hiden: did you mean"),
    ],
)
def test_wrong_input(line, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main([*line.split(), "--out", str(tmp_path)])
    assert not list(tmp_path.rglob("results.json"))


def test_folders_with_separators_in_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a,b", "c=d", "one", "two"):
        (tmp_path / name).mkdir()
    line = ["--encoders", "x=a,b", "c=d", "y=one,two", "--tasks", "gtzan_genre"]
    task, (_, encoders, _, others) = find_task("gtzan_genre"), parse(line)
    assert encoders == {"x": "a,b", "c=d": "c=d", "y": ["one", "two"]}
    for encoder in [*encoders.values(), "--x", "null", "/my #1/[live]"]:
        argv = recipe_arguments(task, encoder, "--out", "f #1", None, others)
        hparams = load_task(argv)[1]
        assert hparams["encoder"] == encoder and hparams["output_folder"] == "--out"


def test_encoders_and_their_names():
    line = (
        "--encoders mel random:x/export mine=a,b hf:me/model c/d --quick True --tasks mtt_tagging"
    )
    args, encoders, data, others = parse(line.split())
    named = {"mel": "mel", "random": "random:x/export", "mine": ["a", "b"], "hf": "hf:me/model"}
    assert encoders == named | {"d": "c/d"}
    assert ([task.name for task in args.tasks], data, others) == (
        ["mtt_tagging"],
        {},
        ["--quick", "True"],
    )


def test_a_score_is_at_most_perfect():
    """Of few encoders Student's t reaches further."""
    found = mean_score({"genre": (0.99, np.array([0.9, 1.3])), "key": (0.97, np.array([0.9, 1.1]))})
    assert found["mean"] == pytest.approx(0.98) and 0.9 < found["low"] < found["high"] <= 1
