"""Every experiment, whole, at two steps; what is done once is not done again."""

import csv
import json
import runpy
import shlex

import pytest
import tiny

from recipes.experiments import run
from recipes.experiments.run import HERE, MEASURES, NAMES, load, main, parse
from speechbrain_music.utils.errors import UserError

SMALL = "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2 --resamples 40"
SIZES = {key: value for key, value in tiny.SIZE.items() if key != "segment_seconds"}
SIZES |= {"number_of_epochs": 1, "segments_per_epoch": 12, "max_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all experiments: they share runs."""
    return tmp_path_factory.mktemp("experiments")


def one_by_one(commands, ended=None):
    """As `side_by_side`, in this process: it has imported everything."""
    for place, (script, *argv) in enumerate(commands):
        module = runpy.run_path(str(script))
        module["main"]([str(part) for part in argv] + ["--noprogressbar"])
        if ended:
            ended(place, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_experiment(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if name != "baseline":  # one is enough as processes
        monkeypatch.setattr(run, "side_by_side", one_by_one)
    argv = [name, "--seeds", "1", "--hours", "0.03", "--tasks", "nsynth_instrument"]
    argv += ["--judge", SMALL, "--tokenizer", shlex.join(tokenizer_options())]
    main([*argv, *(str(part) for key, value in SIZES.items() for part in (f"--{key}", value))])
    found = json.loads((folder / f"results/experiments/{name}.json").read_text())
    experiment = load(name)
    first, *others = experiment.variants
    judged = found["judged"]
    assert {first, *others} <= judged["overall"].keys()
    assert {pair["second"] for pair in judged["pairs"]} == judged["overall"].keys() - {first}
    assert all(len(values) == 1 for row in found["measured"].values() for values in row.values())
    page = (folder / f"results/experiments/{name}.md").read_text()
    assert all(f"\n| {variant} | " in page for variant in judged["overall"])
    assert experiment.question in page and shlex.quote(SMALL) in page
    with open(folder / f"results/experiments/{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == judged["overall"].keys()
    assert (folder / f"results/experiments/{name}.png").stat().st_size > 5000
    assert {f"{variant}_same_time" for variant in experiment.same_time} <= judged["overall"].keys()


def tokenizer_options():
    """Options of recipes/tokenizer at the size of a test."""
    names = "segment_seconds batch_size effective_batch segments_per_epoch statistics_segments "
    names += "valid_segments log_interval"
    sizes = tiny.SIZE | {"number_of_epochs": 1}
    return [str(p) for k in [*names.split(), "number_of_epochs"] for p in (f"--{k}", sizes[k])]


def test_yaml_files_ask_something_of_what_there_is():
    assert len(NAMES) == 8
    for name in NAMES:
        experiment = load(name)
        assert experiment.question.endswith("?") and experiment.variants
        assert set(experiment.measures) <= MEASURES.keys()
        assert f"[{name}]({name}.yaml)" in (HERE / "README.md").read_text()


@pytest.mark.parametrize(
    "argv, words",
    [
        (["mergers"], "no experiment 'mergers': choose attention, baseline"),
        (["merge", "--lr"], "--lr: options of the pre-training are --key value"),
        (["merge", "7", "--lr"], "7 --lr: options of the pre-training are --key value"),
    ],
)
def test_a_wrong_command_says_what_is_right(argv, words):
    with pytest.raises(UserError, match=words):
        load(parse(argv)[0].name)


def test_held_out_tracks_are_those_of_the_manifests_that_are_given(tmp_path):
    own, merged = tmp_path / "run" / "manifests" / "valid.csv", tmp_path / "merged.csv"
    own.parent.mkdir(parents=True)
    for path, track in ((own, "a"), (merged, "b")):
        path.write_text(f"ID,duration,wav,start,stop\n{track},1,$data_root/{track}.wav,0,24000\n")
    args, others = parse(["baseline", "--data_folder", "/data", "--valid_csv", str(merged)])
    assert run.Runs(args, {}).held_out(tmp_path / "run")["wav"].tolist() == ["/data/a.wav"]
    assert run.Runs(args, others).held_out(tmp_path / "run")["wav"].tolist() == ["/data/b.wav"]
