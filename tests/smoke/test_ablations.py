"""Every ablation, whole, at two steps."""

import csv
import json
import runpy
import shlex

import pytest
import tiny

from experiments.ablations import run
from experiments.ablations.run import METRICS, NAMES, load, main, parse
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import WaveEncoder
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.processes import FINISHED

SMALL = "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2 --resamples 40"
SIZES = {key: value for key, value in tiny.SIZE.items() if key != "segment_seconds"}
SIZES |= {"number_of_epochs": 1, "segments_per_epoch": 12, "max_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all ablations: they share runs."""
    return tmp_path_factory.mktemp("ablations")


def in_this_process(commands, folders=None, **metadata):
    """As `run_recipes`, in this process: it has imported everything."""
    for number, (script, *argv) in enumerate(commands):
        module = runpy.run_path(str(script))
        module["main"]([str(part) for part in argv] + ["--noprogressbar"])
        if folders:
            (folders[number] / FINISHED).write_text(json.dumps({"peak_mib": 1} | metadata))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ablation(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if name != "baseline":  # one is enough as processes
        monkeypatch.setattr(run, "run_recipes", in_this_process)
    argv = [name, "--seeds", "1", "--hours", "0.03", "--tasks", "nsynth_instrument"]
    argv += ["--evaluate", SMALL, "--tokenizer", shlex.join(tokenizer_options())]
    main([*argv, *(str(part) for key, value in SIZES.items() for part in (f"--{key}", value))])
    found = json.loads((folder / f"results/ablations/{name}.json").read_text())
    ablation = load(name)
    first, *others = ablation.variants
    marble = found["marble"]
    assert {first, *others} <= marble["overall"].keys()
    assert {pair["second"] for pair in marble["pairs"]} == marble["overall"].keys() - {first}
    assert all(len(values) == 1 for row in found["metrics"].values() for values in row.values())
    page = (folder / f"results/ablations/{name}.md").read_text()
    assert all(f"\n| {variant} | " in page for variant in marble["overall"])
    assert ablation.question in page and shlex.quote(SMALL) in page
    with open(folder / f"results/ablations/{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["variant"] for row in rows} == marble["overall"].keys()
    assert (folder / f"results/ablations/{name}.png").stat().st_size > 5000
    assert {f"{variant}_equal_time" for variant in ablation.equal_time} <= marble["overall"].keys()


def tokenizer_options():
    """Options of recipes/tokenizer at the size of a test."""
    names = "segment_seconds batch_size effective_batch segments_per_epoch statistics_segments "
    names += "valid_segments log_interval"
    sizes = tiny.SIZE | {"number_of_epochs": 1}
    return [str(p) for k in [*names.split(), "number_of_epochs"] for p in (f"--{k}", sizes[k])]


def test_every_yaml_has_a_question_and_known_metrics():
    assert len(NAMES) == 8
    for name in NAMES:
        ablation = load(name)
        assert ablation.question.endswith("?") and ablation.variants
        assert set(ablation.metrics) <= METRICS.keys()


def test_parameters_of_the_whole_model_have_two_heads():
    config = {"training": {"quantizer": {"codebook_size": 64, "num_codebooks": 1}}}
    model = WaveEncoder(LogMel(), make_encoder(num_layers=1, d_model=32), config)
    sizes = METRICS["parameters"](model=model)
    assert sizes["whole"] - sizes["encoder"] == 33 * (64 + 512)  # to 64 tokens and 512 mel values


@pytest.mark.parametrize(
    "argv, words",
    [
        (["mergers"], "no ablation 'mergers': choose attention, baseline"),
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
