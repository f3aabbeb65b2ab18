"""A comparison at two steps; options of every variant; differences over seeds."""

import json
import runpy
import shlex
from itertools import repeat
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import tiny

from experiments import compare as run
from experiments.compare import NAMES, UNTRAINED, compare, load, main, parse
from recipes.pretrain.train import OPTIONS
from speechbrain_music.brains.segments import MODEL_OPTIONS, plan_run
from speechbrain_music.data_prep.manifest import manifest_text, read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.corpus import make_corpus
from speechbrain_music.evaluation.frame_probe import CHORD, PITCH
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.processes import FINISHED

SMALL = "--replica_scale 0.0001 --quick True --hidden 8 --number_of_epochs 2 --resamples 40"
SIZES = tiny.SIZE | {"number_of_epochs": 1, "max_steps": 2}
ALL = {
    "question": "does everything run?",
    "arguments": {},
    "options": {},
    "variants": {
        "sum": {},
        "att": {"system": "brn_att_tiny"},
        "rvq": {"tokenizer": "rvq"},
        "iterated": {"tokenizer": "rvq", "teacher": "sum:1"},
        "mixed": {"speech": 25},
        "initialised": {"init_from": "mixed"},
    },
    "finalists": ["sum"],
    "also": ["nats below unigram"],
}


def in_this_process(commands, folders=None):
    """As `run_recipes`, in this process: it has imported everything."""
    for (script, *argv), folder in zip(commands, folders or repeat(None), strict=False):
        if folder and (folder / FINISHED).exists():
            continue
        module = runpy.run_path(str(script))
        quiet = [] if script.name == "retrieval.py" else ["--noprogressbar"]
        module["main"]([*map(str, argv), *quiet])
        if folder:
            (folder / FINISHED).touch()


def mixture(hours, manifests, soundtracks):
    """A corpus to train on, and its tracks as recordings of two albums."""
    tracks = read_manifest(make_corpus(soundtracks, 0.06), soundtracks)
    names = [manifests / f"{split}.csv" for split in ("train", "valid")]
    DATA_SETS["folder"].prepare(soundtracks, manifests)
    tracks["wav"] = [str(Path(wav).relative_to(soundtracks)) for wav in tracks["wav"]]
    rows = tracks.assign(album=np.arange(len(tracks)) % 2).to_dict("records")
    (manifests / "recordings").mkdir(exist_ok=True)
    (manifests / "recordings/test.csv").write_text(manifest_text(rows, ["album"]))
    return {"data_folder": soundtracks, "train_csv": names[0], "valid_csv": names[1]}


def speech(hours, manifests):
    """A corpus in the place of speech."""
    make_corpus("speech", 0.02)
    DATA_SETS["folder"].prepare("speech", manifests / "speech")
    return manifests / "speech"


@pytest.mark.slow
def test_a_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_recipes", in_this_process)
    monkeypatch.setattr(run, "load", lambda name: ALL)
    monkeypatch.setattr(run, "prepare_mixture", mixture)
    monkeypatch.setattr(run, "prepare_speech", speech)
    names = SIZES.keys() - {*tiny.OF_THE_MODEL, "warmup_steps", "max_steps"}
    tokenizer = " ".join(f"--{name} {SIZES[name]}" for name in sorted(names))
    sizes = [str(part) for name, value in SIZES.items() for part in (f"--{name}", value)]
    argv = ["all", "--seeds", "1", "2", "--probe_hours", "0.06", "--tasks", "nsynth_instrument"]
    argv += ["--soundtracks", "music", "--evaluate", SMALL]
    argv += ["--tokenizer", tokenizer, *sizes]
    main(argv)
    results = tmp_path / "results/compare"
    found = json.loads((results / "all.json").read_text())
    assert found["figures"].keys() == {*ALL["variants"], UNTRAINED}
    assert found["differences"][PITCH].keys() == ALL["variants"].keys() - {"sum"}
    assert min(found["resolves"].values()) > 0 and len(found["resolves"]) == 3
    for runs in found["figures"].values():
        assert all(len(figures.pop("steps", [])) < 2 for figures in runs)
        assert len(runs) == 2 and all(np.isfinite(list(figures.values())).all() for figures in runs)
        assert runs[0][PITCH] != runs[1][PITCH]
    page = (results / "all.md").read_text()
    assert all(f"\n| {variant} | " in page for variant in found["figures"])
    assert all(f" {kind}: minus sum |" in page for kind in ("pitch classes", *ALL["also"]))
    assert (results / "all.png").read_bytes()[1:4] == b"PNG" and "](all.png)" in page
    assert "initialised begins with the weights of mixed. Steps until" in page
    for folder, source in zip(found["runs"]["initialised"], found["runs"]["mixed"], strict=True):
        assert f"init_from: {source}/export" in Path(folder, "hyperparams.yaml").read_text()
    assert ALL["question"] in page and shlex.quote(SMALL) in page
    assert "| nsynth_instrument |" in (results / "all-tasks.md").read_text()
    for same in ("recording", "album"):
        page = (results / f"all-same-{same}.md").read_text()
        assert f"of the same {same}" in page and "| mel minus untrained |" in page
    page = (results / "all.md").read_text()
    assert "(all-same-album.md)" in page and page.count("bigram ") == len(ALL["variants"])
    for run_folder in (path for paths in found["runs"].values() for path in paths):
        assert f"`{run_folder}`" in page and (tmp_path / run_folder / "curves.png").exists()
    names = ("results.json", "corpus.json", "model.safetensors")
    kept = {path: path.stat() for name in names for path in tmp_path.rglob(name)}
    main([*argv, "--tasks"])  # finished work is reused; no task is asked for
    assert "(all-tasks.md)" not in (results / "all.md").read_text()
    assert kept and all(path.stat().st_mtime_ns == at.st_mtime_ns for path, at in kept.items())


@pytest.mark.parametrize("name", NAMES)
def test_options_of_every_variant(name, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "merged_data", mixed := Mock(return_value={"train_csv": "both.csv"}))
    args, _ = parse([name, "--work", str(tmp_path), "--speech", "spoken"])
    comparison = load(name)
    assert comparison["question"].endswith("?")
    assert set(comparison["finalists"]) <= comparison["variants"].keys()
    common = {"data_folder": "/data", "train_csv": "music/train.csv", "quantizer_seed": 1}
    runs = run.Runs(args, common | comparison["options"])
    folders = [
        folder for options in comparison["variants"].values() for folder in runs.folders(options)
    ]
    names, fewest = comparison["variants"], 1000 if name in ("demo", "masked", "steps") else 4000
    assert len(set(folders)) == len(args.seeds) * len(comparison["variants"])
    five = dict.fromkeys(["finalists", "steps_recordings"], [*range(1, 6)])
    assert args.seeds == ({"demo": [1]} | five).get(name, [1, 2, 3])
    for own in names.values():
        options = comparison["options"] | own
        assert (tiny.ROOT / f"hparams/{options.get('tokenizer', 'rvq')}.yaml").exists()
        assert options.get("teacher", folders[0].name).partition(":")[0] in {
            *names,
            folders[0].name,
        }
        earlier = sum(key in options for key in ("tokenizer", "teacher", "init_from"))
        assert len(runs.chain(options, names, 0)) == 1 + earlier
        if share := options.get("speech"):
            assert mixed.call_args[0][0] == {Path("spoken"): share, Path("music"): 100 - share}
        _, (_, *argv) = runs.chain(options | {"tokenizer": None}, names, 0)[-1]
        hparams = load_experiment([*map(str, argv)], OPTIONS, MODEL_OPTIONS)[1]
        assert plan_run(hparams, world_size=1).total_steps >= fewest


def test_variants_have_the_size_of_the_system(tmp_path):
    args, _ = parse(["mixing", "--system", "brn_sum", "--work", str(tmp_path)])
    runs, variants = run.Runs(args, {}), load("mixing")["variants"]
    names = {name: runs.folders(options)[0].name for name, options in variants.items()}
    assert all(folder.startswith(f"{name}-") for name, folder in names.items())
    for name, options in variants.items():
        assert f"{name}.yaml" in str(runs.chain(options, variants, 0)[-1][1][1])


def test_differences_by_hand():
    """Two groups of three: Student's t with the pooled deviation."""
    values = {"first": [0.1, 0.2, 0.3], "second": [0.6, 0.7, 0.8], UNTRAINED: [0.0, 5.0, 9.0]}
    found = {name: [{CHORD: value} for value in column] for name, column in values.items()}
    differences, resolves = compare(found, CHORD)
    assert resolves == pytest.approx(2.776 * 0.1 * np.sqrt(2 / 3), abs=1e-3)  # 4 degrees
    second = differences["second"]
    assert second["difference"] == pytest.approx(0.5) and second["p"] == pytest.approx(0.0036, 0.01)
    assert second["high"] - second["low"] == pytest.approx(2 * resolves)
    one = {name: runs[:1] for name, runs in found.items()}
    assert compare(one, CHORD) == ({}, None)


@pytest.mark.parametrize(
    "argv, words",
    [
        (
            ["mergers"],
            "no comparison 'mergers': choose demo, domains, finalists, frontend, masked, mixing, "
            "mixing_recordings, objectives, rate, recordings, steps, steps_recordings, streaming, "
            "study, targets",
        ),
        (["mixing", "--lr"], "--lr: options of the pre-training are --key value"),
        (["study", "--soundtracks", "a", "--data_folder", "b"], "leave out --data_folder"),
        (["domains", "--data_folder", "b"], "pass --train_csv, --valid_csv and --speech"),
        (
            ["study", "--tasks", "gtzan_genre", "gtzan"],
            "there is no task .gtzan.: choose from",
        ),
        (["mixing", "7", "--lr"], "7 --lr: options of the pre-training are --key value"),
    ],
)
def test_bad_command_is_refused(argv, words):
    with pytest.raises(UserError, match=words):
        main(argv)


@pytest.mark.parametrize("script", ["compare", "retrieval", "compression"])
def test_help_lists_the_options(script, monkeypatch, capsys):
    path = str(tiny.ROOT / f"experiments/{script}.py")
    monkeypatch.setattr("sys.argv", [path, "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(path, run_name="__main__")
    assert left.value.code == 0 and "--out OUT" in capsys.readouterr().out
