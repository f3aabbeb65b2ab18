"""Several encoders on several tasks: the table, what is missing from it, what is refused."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from exports import small_export

from recipes.marble import main, parse
from speechbrain_music.utils.errors import UserError

TASKS = ("nsynth_instrument", "gtzan_genre")
SMALL = "--hidden 4 --number_of_epochs 2 --resamples 40 --extract_batch 4 --quick True"


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An untrained export of one small layer."""
    return small_export(tmp_path_factory.mktemp("exports") / "small", d_model=8)


def evaluate(out, encoders, data, tasks=TASKS):
    pairs = [f"{name}={folder}" for name, folder in data.items()]
    argv = ["--encoders", *encoders, "--tasks", *tasks, "--out", str(out)]
    argv += ["--data", *pairs] if pairs else []
    main([*argv, *SMALL.split(), "--noprogressbar"])


def state(out):
    return {path: path.stat().st_mtime_ns for path in Path(out).rglob("results.json")}


@pytest.fixture(scope="module")
def suite(tmp_path_factory, replica, export):
    """Two encoders on two tasks: the folder, and how to evaluate again."""
    out = tmp_path_factory.mktemp("suite")
    data = {"nsynth": replica("nsynth"), "gtzan": replica("gtzan")}
    options = {"encoders": ["mel", f"random:{export}"], "data": data}
    evaluate(out, **options)
    return out, options


def test_the_table_holds_what_the_recipes_found(suite):
    out, _ = suite
    with open(out / "marble.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["encoder"]) for row in rows] == [
        (task, encoder) for task in TASKS for encoder in ("mel", "random")
    ]
    stored = json.loads((out / "marble.json").read_text())
    page = (out / "marble.md").read_text()
    for row, score in zip(rows, stored["scores"], strict=True):
        results = json.loads((out / row["task"] / row["encoder"] / "results.json").read_text())
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
    assert "**On replicas**" in page and "## Missing" not in page
    assert (out / "marble.png").read_bytes()[:4] == b"\x89PNG"


def test_the_pair_is_compared(suite):
    out, _ = suite
    stored = json.loads((out / "marble.json").read_text())
    (pair,) = stored["pairs"]
    assert (pair["first"], pair["second"]) == ("mel", "random")
    scores = {(score["task"], score["encoder"]): score["mean"] for score in stored["scores"]}
    for task in TASKS:
        difference = scores[task, "mel"] - scores[task, "random"]
        assert pair["tasks"][task]["difference"] == pytest.approx(difference)
    assert "### mel - random" in (out / "marble.md").read_text()


def test_finished_results_are_reused(suite, capsys):
    out, options = suite
    files, table = state(out), (out / "marble.csv").read_bytes()
    page = (out / "marble.md").read_text()
    capsys.readouterr()
    evaluate(out, **options)
    assert len(files) == 4 and state(out) == files
    assert (out / "marble.csv").read_bytes() == table
    assert page in capsys.readouterr().out


def test_a_failed_task_is_listed_and_the_others_run(suite, tmp_path):
    _, options = suite
    data = {"nsynth": options["data"]["nsynth"], "gtzan": tmp_path / "nowhere"}
    tasks = ("gtzan_genre", "nsynth_instrument", "giantsteps_key")
    with pytest.raises(UserError, match="2 of the results are missing, the table names them"):
        evaluate(tmp_path, ["mel"], data, tasks)
    page = (tmp_path / "marble.md").read_text()
    assert "nsynth_instrument" in page.partition("## Missing")[0]
    missing = page.partition("## Missing")[2]
    assert f"- gtzan_genre, mel: There is no folder {tmp_path}/nowhere" in missing
    assert "- giantsteps_key: no folder of giantsteps was given with --data" in missing
    stored = json.loads((tmp_path / "marble.json").read_text())
    assert set(stored["failed"]) == {"gtzan_genre, mel", "giantsteps_key"}
    assert stored["overall"]["mel"]["tasks"] == 1


def test_one_result_that_fails_leaves_a_gap(suite, tmp_path):
    out, options = suite
    copy = shutil.copytree(out, tmp_path / "copy")
    shutil.rmtree(copy / "gtzan_genre" / "random")
    (copy / "gtzan_genre" / "random").write_text("in the way of a folder")
    with pytest.raises(UserError, match="1 of the results are missing"):
        evaluate(copy, **options)
    page, stored = ((copy / f"marble.{kind}").read_text() for kind in ("md", "json"))
    (row,) = [line for line in page.splitlines() if line.startswith("| gtzan_genre | accuracy")]
    assert row.endswith("| missing |") and "- gtzan_genre, random: " in page
    assert "the mean over 1 or 2 tasks" in page
    (pair,) = json.loads(stored)["pairs"]
    assert list(pair["tasks"]) == ["nsynth_instrument"]


def test_an_unusable_encoder_is_listed(suite, tmp_path):
    out, options = suite
    copy = shutil.copytree(out, tmp_path / "copy")
    with pytest.raises(UserError, match="1 of the results are missing"):
        evaluate(copy, ["mel", "bad=nowhere"], options["data"], TASKS[:1])
    page = (copy / "marble.md").read_text()
    assert "- nsynth_instrument, bad: encoder is 'nowhere'" in page.partition("## Missing")[2]


@pytest.mark.parametrize(
    "line, message",
    [
        ("--encoders mel --tasks gtzan", "there is no task 'gtzan': choose from mtt_tagging"),
        ("--encoders mel --data gtzam=/x", "no task uses 'gtzam': choose from magnatagatune"),
        ("--encoders mel mel", "two encoders are named 'mel': write NAME=ENCODER"),
        ("--encoders a=mel a=x", "two encoders are named 'a'"),
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
    assert not state(tmp_path)


def test_encoders_and_their_names():
    line = (
        "--encoders mel random:x/export mine=a,b hf:me/model c/d --quick True --tasks gtzan_genre"
    )
    args, encoders, data, others = parse(line.split())
    assert encoders == {
        "mel": "mel",
        "random": "random:x/export",
        "mine": ["a", "b"],
        "hf": "hf:me/model",
        "d": "c/d",
    }
    assert (args.tasks, data, others) == (["gtzan_genre"], {}, ["--quick", "True"])
