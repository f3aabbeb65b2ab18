"""An ablation with all metrics at two steps; options of every variant."""

import csv
import json
import runpy
import shlex
from types import SimpleNamespace

import pytest
import tiny

from experiments.ablations import run
from experiments.ablations.run import DEFAULTS, METRICS, NAMES, load, main, parse
from recipes.pretrain.train import OPTIONS
from speechbrain_music.brains.segments import MODEL_OPTIONS, plan_run
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import WaveEncoder
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.processes import FINISHED

SMALL = "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2 --resamples 40"
SIZES = tiny.SIZE | {"number_of_epochs": 1, "max_steps": 2}
ALL = {
    "question": "does everything run?",
    "baselines": ["mel"],
    "variants": {
        "sum": {},
        "average": {"merge": "average"},
        "att": {"system": "brn_att_tiny"},
        "fsq": {"tokenizer": "fsq"},
    },
    "equal_time": ["att"],
    "metrics": list(METRICS),
}


def in_this_process(commands, folders=None, **metadata):
    """As `run_recipes`, in this process: it has imported everything."""
    for number, (script, *argv) in enumerate(commands):
        module = runpy.run_path(str(script))
        module["main"]([str(part) for part in argv] + ["--noprogressbar"])
        if folders:
            (folders[number] / FINISHED).write_text(json.dumps({"peak_mib": 1} | metadata))


@pytest.mark.slow
def test_an_ablation_with_all_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_recipes", in_this_process)
    monkeypatch.setattr(run, "load", lambda name: SimpleNamespace(**DEFAULTS | ALL, name=name))
    names = SIZES.keys() - {*tiny.OF_THE_MODEL, "warmup_steps", "max_steps"}
    tokenizer = " ".join(f"--{name} {SIZES[name]}" for name in sorted(names))
    sizes = [str(part) for name, value in SIZES.items() for part in (f"--{name}", value)]
    argv = ["all", "--seeds", "1", "--hours", "0.03", "--tasks", "nsynth_instrument"]
    main([*argv, "--evaluate", SMALL, "--tokenizer", tokenizer, *sizes])
    results = tmp_path / "results/ablations"
    found = json.loads((results / "all.json").read_text())
    trained = {*ALL["variants"], "att_equal_time"}
    overall = found["marble"]["overall"].keys()
    assert overall == trained | {"mel"} and found["metrics"].keys() == trained
    assert {pair["second"] for pair in found["marble"]["pairs"]} == overall - {"sum"}
    assert all(len(values) == 1 for row in found["metrics"].values() for values in row.values())
    columns = {column for row in found["metrics"].values() for column in row}
    assert {"whole", "x real time", "peak MiB", "mel MSE", "perplexity"} <= columns
    assert {"global weight, layer 0", "chunking error, overlap 4.8 s"} <= columns
    page = (results / "all.md").read_text()
    assert all(f"\n| {variant} | " in page for variant in overall)
    assert ALL["question"] in page and shlex.quote(SMALL) in page
    with open(results / "all.csv", newline="") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == overall
    assert (results / "all.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_options_of_every_variant(name, tmp_path):
    args, _ = parse([name, "--data_folder", "/data", "--work", str(tmp_path)])
    ablation = load(name)
    runs = run.Runs(args, ablation.options)
    for options in ablation.variants.values():
        quantizer = options.pop("tokenizer", "rvq")  # its folder is not there yet
        assert (tiny.ROOT / f"hparams/{quantizer}.yaml").exists()
        argv = map(str, runs._command(options, tmp_path, 1)[1:])
        hparams = load_experiment(list(argv), OPTIONS, MODEL_OPTIONS)[1]
        assert plan_run(hparams, world_size=1).total_steps > 100


def test_every_yaml_has_a_question_and_known_metrics():
    assert len(NAMES) == 8
    for name in NAMES:
        ablation = load(name)
        assert ablation.question.endswith("?") and ablation.variants
        assert set(ablation.metrics) <= METRICS.keys()
        assert set(ablation.equal_time) <= ablation.variants.keys()


def test_parameters_include_two_heads():
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
def test_bad_command_is_refused(argv, words):
    with pytest.raises(UserError, match=words):
        load(parse(argv)[0].name)


def test_held_out_tracks_come_from_valid_csv(tmp_path):
    own, merged = tmp_path / "run" / "manifests" / "valid.csv", tmp_path / "merged.csv"
    own.parent.mkdir(parents=True)
    for path, track in ((own, "a"), (merged, "b")):
        path.write_text(f"ID,duration,wav,start,stop\n{track},1,$data_root/{track}.wav,0,24000\n")
    args, others = parse(["baseline", "--data_folder", "/data", "--valid_csv", str(merged)])
    assert run.Runs(args, {}).held_out(tmp_path / "run")["wav"].tolist() == ["/data/a.wav"]
    assert run.Runs(args, others).held_out(tmp_path / "run")["wav"].tolist() == ["/data/b.wav"]
