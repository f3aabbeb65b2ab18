"""Frame tasks from their command lines: a recipe, its results, and predictions by its probes."""

import json
import shutil
from importlib import import_module

import numpy as np
import pytest
import soundfile
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import ROOT

from recipes import marble
from speechbrain_music.dataio.annotations import (
    Beats,
    LabelledIntervals,
    read_beats,
    read_intervals,
    write_annotation,
)
from speechbrain_music.evaluation.frame_features import FrameCache
from speechbrain_music.evaluation.probe_files import load_probe, predict_file
from speechbrain_music.evaluation.tasks import FRAME_TASKS
from speechbrain_music.inference.cli import main as sbmusic
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.reporting.annotation_picture import draw_annotation
from speechbrain_music.utils.errors import UserError

RATE = 24000


def write_clicks(folder, tracks=24, seconds=8.0):
    """Tracks of clicks with their beats: high ones at downbeats, 2 or 3 beats a bar."""
    rng = np.random.default_rng(0)
    for number in range(tracks):
        period, meter = rng.uniform(0.4, 0.7), 2 + number % 2
        times = np.arange(rng.uniform(0.1, 0.6), seconds - 0.1, period)
        positions = np.arange(len(times)) % meter + 1
        wave = rng.normal(0, 1e-3, round(seconds * RATE))
        for time, position in zip(times, positions, strict=True):
            t = np.arange(1200) / RATE
            click = np.sin(2 * np.pi * (3000 if position == 1 else 800) * t) * np.exp(-t * 120)
            wave[round(time * RATE) :][:1200] += 0.5 * click[: len(wave) - round(time * RATE)]
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"click {number}#.wav", wave, RATE)
        np.savetxt(folder / f"click {number}#.beats", np.stack([times, positions], 1), "%.6f\t%d")
    return folder


def run(task, out, **options):
    options = {
        **{"encoder": "mel", "output_folder": out, "feature_folder": out.parent / "features"},
        **{"allow_missing": True, "hidden": 32, "probe_seeds": "[0, 1]", "resamples": 20},
    } | options
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    entry = FRAME_TASKS[task]
    argv = [str(ROOT / entry.yaml), *pairs, "--noprogressbar"]
    return import_module(entry.recipe).main(argv)


CLICKS = {"split": "folds", "number_of_epochs": 12, "learning_rates": "[1e-2]", "batch_size": 4}


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    return write_clicks(tmp_path_factory.mktemp("clicks") / "a b")


@pytest.fixture(scope="module")
def trained(clicks, tmp_path_factory):
    """Probes of beats on mel frames; the folder is not to be written to."""
    out = tmp_path_factory.mktemp("beats") / "out"
    return run("gtzan_beats", out, data_folder=clicks, **CLICKS)


def test_results(trained):
    results = json.loads((trained / "results.json").read_text())
    figures, perfect = results["figures"], results["perfect"]
    assert results["protocol"]["heads"] == ["mlp", "tcn"] and len(results["each"][0]) == 2
    for head in ("mlp", "tcn"):
        for metric in ("beat_f", "downbeat_f"):
            figure = figures[f"{head} {metric}"]
            assert figure["chance"] + 0.2 < figure["low"] <= figure["mean"] <= 1
            assert figure["mean"] <= perfect[f"{head} {metric}"] == 1.0
    assert (
        "Perfect logits at 50 Hz would score beat_f 1.0000" in (trained / "report.md").read_text()
    )
    with np.load(trained / "predictions.npz") as stored:
        assert stored["logits"].shape == (1, 2, len(stored["tracks"]), 32)


def test_predictions(trained, clicks, tmp_path, capsys):
    """What the command writes is what the recipe evaluated; pictures are drawn."""
    audio, out = clicks / "click 3#.wav", tmp_path / "o #.beats"
    probe = trained / "probe_tcn.safetensors"
    command = ["predict", audio, "--probe", probe, "--out", out, "--picture", tmp_path / "o.png"]
    assert sbmusic(list(map(str, command))) == 0
    truth, found = read_beats(audio.with_suffix(".beats")), read_beats(out)
    assert "beats of" in capsys.readouterr().err and (tmp_path / "o.png").stat().st_size
    distance = np.abs(truth.times[:, None] - found.times).min(axis=1)
    assert (distance < 0.07).mean() > 0.9 and abs(len(truth.times) - len(found.times)) < 4
    again = predict_file(load_probe(probe), audio)
    np.testing.assert_allclose(again.times, found.times, atol=1e-5)


def test_finished_results_are_reused(trained, clicks, caplog):
    before = (trained / "results.json").stat().st_mtime_ns
    run("gtzan_beats", trained, data_folder=clicks, **CLICKS)
    assert "has these results already" in caplog.text
    assert (trained / "results.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="has results of another window_seconds"):
        run("gtzan_beats", trained, data_folder=clicks, **CLICKS, window_seconds=4)


def test_half_precision_costs_nothing(trained, clicks, tmp_path, monkeypatch):
    """Scores of probes on float16 frames are those on float32 frames within 0.002."""
    monkeypatch.setattr(FrameCache, "kind", "f4")
    options = {"feature_folder": tmp_path / "f4", "heads": "[mlp]"}
    out = run("gtzan_beats", tmp_path / "out", data_folder=clicks, **CLICKS, **options)
    half, full = (json.loads((x / "results.json").read_text())["figures"] for x in (trained, out))
    for metric, figure in full.items():
        assert half[metric]["mean"] == pytest.approx(figure["mean"], abs=0.002)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--out", "song.mp3"], "must be a new file that ends in .beats"),
        (["--picture", "song.jpg"], "must be a new file that ends in .png"),
        (["--out", "mine.beats"], "mine.beats must be a new file"),
        (["--out", "/proc/song.beats"], "cannot be read or written (No such file"),
        (["--device", "gpu"], "device is 'gpu'"),
        (["--probe", "nowhere.safetensors"], "cannot be read"),
        (["--probe", "TRAINED"], "cannot be read"),
        (["--probe", "text.safetensors"], "is no trained probe"),
        (["--probe", "other.safetensors"], "is no trained probe"),
        (["--encoder", "shipped"], "was trained on another encoder than shipped"),
        (["AUDIO", "text.safetensors"], "is not readable as audio"),
    ],
)
def test_refused(trained, clicks, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "mine.beats").write_text("1.5\t1\n")
    save_file(load_file(trained / "probe_mlp.safetensors"), tmp_path / "other.safetensors")
    given = {"AUDIO": clicks / "click 1#.wav", "--out": "song.beats"}
    given |= {"--probe": trained / "probe_tcn.safetensors"}
    given |= {options[0]: trained if options[1] == "TRAINED" else options[1]}
    audio = given.pop("AUDIO")
    argv = ["predict", str(audio), *(str(part) for pair in given.items() for part in pair)]
    assert sbmusic(argv) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "song.beats").exists()
    assert (tmp_path / "mine.beats").read_text() == "1.5\t1\n"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layers": ["0", "mel"]}, "is damaged, or not of mel"),
        ({"chunk_seconds": "30"}, "is damaged, or not of mel"),
        ({"overlap_seconds": float("nan")}, "is damaged, or not of mel"),
        ({"head": {"kind": "tcn", "up": 4, "down": 1}}, "is no trained probe"),
        ({"head": {"kind": "tcn", "up": 2, "down": "x"}}, "is "),
        ({"task": {"name": "BeatTracking", "rate": 10.0}}, "is damaged, or not of mel"),
        ({"task": 3}, "is no trained probe"),
        ({"encoder": "hf:no/where"}, "is for hf:no/where: pass that as --encoder"),
    ],
)
def test_probes_of_anyone(trained, clicks, tmp_path, changes, message):
    """Headers with other values and a hash that fits: one sentence, no prediction, no download."""
    with safe_open(trained / "probe_tcn.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        described = json.loads(file.metadata()["probe"]) | changes
    described.pop("weights")
    described["weights"] = fingerprint(described, weights)
    save_file(weights, tmp_path / "p.safetensors", {"probe": json.dumps(described)})
    with pytest.raises(UserError, match=message):
        predict_file(load_probe(tmp_path / "p.safetensors"), clicks / "click 1#.wav")


def test_picture_of_a_long_track_with_an_odd_name(tmp_path):
    wave = 0.1 * np.sin(np.arange(130 * RATE) / 5)
    soundfile.write(tmp_path / "a $b^{$ _.wav", wave, RATE)
    beats = Beats(np.array([1.0, 129.0]), np.array([1, 2]))
    draw_annotation(tmp_path / "x.png", tmp_path / "a $b^{$ _.wav", beats, "a $b^{$ _.wav")
    assert (tmp_path / "x.png").stat().st_size


def test_a_missing_annotation_and_another_recipe(clicks, tmp_path):
    folder = shutil.copytree(clicks, tmp_path / "copy")
    (folder / "click 1#.beats").write_text("now\n")
    with pytest.raises(UserError, match="click 1#.beats"):
        run("gtzan_beats", tmp_path / "out", data_folder=folder, **CLICKS)
    (folder / "click 1#.beats").write_text("500 1\n1000 2\n1500 1\n")  # milliseconds
    with pytest.raises(UserError, match="click 1#.beats has the time 1500 s, and its audio ends"):
        run("gtzan_beats", tmp_path / "out", data_folder=folder, **CLICKS)
    assert not (tmp_path / "out" / "results.json").exists()
    with pytest.raises(UserError, match=r"run recipes/beats/train.py"):
        chords = import_module("recipes.chords.train")
        chords.main([str(ROOT / "hparams/gtzan_beats.yaml"), "--encoder", "mel"])


@pytest.mark.slow
@pytest.mark.parametrize("task", FRAME_TASKS)
def test_every_yaml(task, replica, tmp_path):
    """On its replica: figures between chance and perfect logits, in a table of two encoders."""
    entry = FRAME_TASKS[task]
    options = {
        **{"quick": True, "number_of_epochs": 2, "hidden": 32, "resamples": 20},
        **{"allow_missing": True},
    }
    argv = ["--encoders", "mel", "shipped", "--tasks", task, "--out", str(tmp_path)]
    argv += ["--data", f"{entry.data_set}={replica(entry.data_set)}"]
    argv += [f"--{key}={value}" for key, value in options.items()]
    marble.main([*argv, "--noprogressbar"])
    results = json.loads((tmp_path / task / "mel" / "results.json").read_text())
    for metric, figure in results["figures"].items():
        assert 0 <= figure["mean"] <= 1 and results["perfect"][metric] <= 1
    table = (tmp_path / "marble.md").read_text()
    assert f"| {task} | mlp " in table and "mel - shipped" in table


def test_intervals_of_a_probe(tmp_path):
    """A probe of chords writes a .lab that the evaluation reads."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "songs"
    for place in ("RWC-P", "chords/RWC-P"):
        (folder / place).mkdir(parents=True)
    rows, labels = ["CollID;PieceNo;Artist;Title"], ["C:maj", "A:min", "N"]
    for number in range(1, 11):
        wave, spans, names = [], [], []
        for start in range(6):
            label = labels[rng.integers(3)]
            notes = {"C:maj": (262, 330, 392), "A:min": (220, 262, 330), "N": ()}[label]
            t = np.arange(RATE) / RATE
            wave.append(sum((0.2 * np.sin(2 * np.pi * f * t) for f in notes), 0 * t))
            spans.append((start, start + 1))
            names.append(label)
        soundfile.write(folder / f"RWC-P/RWC_P{number:03}.wav", np.concatenate(wave), RATE)
        text = "".join(f"{a};{b};{label}\n" for (a, b), label in zip(spans, names, strict=True))
        path = folder / f"chords/RWC-P/RWC_P{number:03}.csv"
        path.write_text("t_start;t_end;chord\n" + text)
        rows.append(f"P;{number};Artist {number};Title {number}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    options = {"number_of_epochs": 15, "learning_rates": "[1e-2]", "heads": "[mlp]"}
    out = run("rwc_chords", tmp_path / "out", data_folder=folder, batch_size=2, **options)
    results = json.loads((out / "results.json").read_text())
    figure = results["figures"]["mlp majmin"]
    assert figure["chance"] < 0.8 < figure["mean"] <= results["perfect"]["mlp majmin"]
    assert figure["mean"] == pytest.approx(results["figures"]["mlp corpus_majmin"]["mean"], abs=0.1)
    audio, lab = folder / "RWC-P/RWC_P001.wav", tmp_path / "o.lab"
    argv = [
        "predict",
        audio,
        "--probe",
        out / "probe_mlp.safetensors",
        "--out",
        lab,
        "--picture",
        tmp_path / "o.png",
    ]
    assert sbmusic(list(map(str, argv))) == 0
    found = read_intervals(lab)
    assert isinstance(found, LabelledIntervals) and set(found.labels) <= set(labels)
    write_annotation(tmp_path / "again.lab", found)
    assert (tmp_path / "again.lab").read_text() == lab.read_text()
