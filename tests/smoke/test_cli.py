"""The `sbmusic` commands: output formats, bad input, resumed runs, exports and the hub."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import PurePath
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import torch
from tones import melody, write_tones

from recipes.pretrain.train import main as pretrain
from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.cli import main, similar
from speechbrain_music.inference.embeddings import read_embeddings
from speechbrain_music.models.export import load_export
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.models.frozen_encoder import pool_states
from speechbrain_music.reporting.pairs_page import pairs_page
from speechbrain_music.utils.errors import UserError

DIM = 16
RUN_CLI = [sys.executable, "-m", "speechbrain_music.inference.cli"]


@pytest.fixture(scope="module")
def model(tiny_export):
    return str(tiny_export)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Eight files, all shorter than a chunk, and a text file."""
    folder = tmp_path_factory.mktemp("music") / "my müsic"
    write_tones(folder, seconds=(1, 3))
    (folder / "notes.txt").write_text("do re mi")
    return folder


def names_in(folder):
    return sorted(str(p) for p in folder.rglob("*.*") if p.suffix != ".txt")


@torch.no_grad()
def hidden_states(model, path):
    """Compute (L, T, D) with the model itself."""
    wave = torch.from_numpy(read_segment(path))[None]
    return torch.cat(load_export(model)(wave)[1]).numpy()


def embed(*options, code=0):
    assert main(["embed", *map(str, options)]) == code


@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_table_of_a_folder_and_several_layers(music, model, tmp_path, kind, capsys):
    out = tmp_path / "new" / f"all{kind}"
    embed(music, "--model", model, "--out", out)
    assert "8 of 8 files" in capsys.readouterr().out
    found = read_embeddings(out)
    assert sorted(found.paths) == names_in(music)
    for path, seconds, value in zip(found.paths, found.durations, found.values, strict=True):
        states = hidden_states(model, path)
        np.testing.assert_allclose(value, states[-1].mean(axis=0), atol=1e-4)
        header = soundfile.info(path)
        assert seconds == pytest.approx(header.frames / header.samplerate, abs=1e-3)
    assert found.settings["layers"] == 2 and found.settings["source"] == model
    written = {".npy": {"all.npy", "all.csv", "all.json"}}.get(kind, {f"all{kind}"})
    assert {p.name for p in out.parent.iterdir()} == written
    if kind == ".npz":
        with np.load(out) as held:  # without pickle
            assert held["embeddings"].shape == (8, DIM) and held["paths"][0] == found.paths[0]
    pooled = pool_states(torch.tensor(states)[:, None], torch.tensor([states.shape[1]]), "mean_std")
    for layers, expected in (("0,-1", pooled[:, [0, -1]]), ("all", pooled)):
        embed(
            path,
            "--model",
            model,
            "--pool",
            "mean_std",
            "--out",
            out,
            f"--layer={layers}",
            "--overwrite",
        )
        np.testing.assert_allclose(read_embeddings(out).values, expected, atol=1e-4)


def test_unpooled_embeddings_of_one_file(music, model, tmp_path, capsys):
    song = names_in(music)[0]
    options = (song, "--model", model, "--pool", "none")
    embed(*options, "--out", tmp_path / "a.npy")
    embed(*options, "--out", tmp_path / "a.npz", "--layer", "all")
    for name, shape in (("a.npy", r"1 x \d+ x 16"), ("a.npz", "1 x 3 x")):
        assert main(["info", str(tmp_path / name)]) == 0
        assert re.search(f"shape +{shape}", capsys.readouterr().out)
    states = hidden_states(model, song)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), states[-1], atol=1e-4)
    with np.load(tmp_path / "a.npz") as held:
        np.testing.assert_allclose(held["embeddings"], states, atol=1e-4)
        np.testing.assert_allclose(held["times"], 0.04 * np.arange(states.shape[1]))
    assert json.loads((tmp_path / "a.json").read_text())["path"] == song
    assert {p.name for p in tmp_path.iterdir()} == {"a.npy", "a.json", "a.npz"}


@pytest.mark.parametrize("in_memory", [2**29, 2000])  # bytes: what is larger is memory-mapped
def test_unpooled_embeddings_of_many_files(in_memory, model, tmp_path, monkeypatch):
    monkeypatch.setattr("speechbrain_music.inference.long_audio.IN_MEMORY", in_memory)
    rng = np.random.default_rng(0)
    for name in ("one/a.wav", "one/a.flac", "two/a.wav", "two/b c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, melody(1 + ("a" in name), 24000, 1, rng), 24000)
    options = ("--model", model, "--pool", "none", "--out", tmp_path / "frames")
    embed(tmp_path / "one", tmp_path / "two", *options)
    index = pd.read_csv(tmp_path / "frames/index.csv")
    files = "one/a.flac.npy|one/a.wav.npy|two/a.wav.npy|two/b c.wav.npy"
    assert index["file"].tolist() == files.split("|")
    for row in index.itertuples():
        values = np.load(tmp_path / "frames" / row.file)
        np.testing.assert_allclose(values, hidden_states(model, row.path)[-1], atol=1e-4)
    written = {p.name for p in (tmp_path / "frames").iterdir()}
    assert written == {"one", "two", "index.csv", "settings.json"}
    embed(tmp_path / "one", *options, code=2)  # what is there is not touched
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two", "frames"}


def test_list_with_unreadable_files(music, model, tmp_path, monkeypatch, capsys):
    good = names_in(music)[:2]
    (tmp_path / "empty song.wav").touch()
    (tmp_path / "no song ♪.mp3").write_text("do re mi")
    bad = [tmp_path / "empty song.wav", tmp_path / "no song ♪.mp3", tmp_path / "nowhere.wav"]
    listed = "\n".join(map(str, [good[0], *bad, "", good[1], good[0]])) + "\n"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    embed("-", "--model", model, "--out", "a.npz")
    printed = capsys.readouterr()
    assert "2 of 5 files" in printed.out
    assert "warning: 3 could not be read, see a.npz.unreadable.csv" in printed.err
    assert read_embeddings(tmp_path / "a.npz").paths == good
    reasons = pd.read_csv(tmp_path / "a.npz.unreadable.csv").set_index("path")["reason"]
    assert list(reasons.index) == [str(path) for path in bad]
    assert reasons.str.contains("empty|not readable as audio|does not exist").all()
    embed(good[0], "--model", model, "--out", tmp_path / "a.npz", "--overwrite")
    assert not (tmp_path / "a.npz.unreadable.csv").exists()  # it would be of another time


def test_interrupted_embed_is_resumed(music, model, tmp_path, monkeypatch, capsys):
    command = (music, "--model", model, "--out", tmp_path / "out.npz")
    for error, code, message in (
        (KeyboardInterrupt(), 130, "interrupted: run the same command to continue"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", Mock(side_effect=error))
            embed(*command, code=code)
        assert message in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == ["out.npz.partial"]
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", Mock(side_effect=KeyboardInterrupt()))
        embed(*command, "--layer", "0", code=130)  # other settings: nothing is reused or lost
    assert "Resuming" not in capsys.readouterr().out
    embed(*command)
    assert "Resuming: 8 of 8" in capsys.readouterr().out


@pytest.fixture(scope="module")
def table(music, model, tmp_path_factory):
    """Embeddings of the music, of which one file is there in another format too."""
    folder = tmp_path_factory.mktemp("table")
    shutil.copytree(music, folder / "music")
    wave, rate = soundfile.read(folder / "music/sets/hymn.wav")
    soundfile.write(folder / "music/twin.flac", wave, rate)
    embed(folder / "music", "--model", model, "--layer", "all", "--out", folder / "all.npz")
    return folder / "all.npz"


@pytest.mark.parametrize("query", ["sets/hymn.wav", "hymn", "whole path", "audio"])
def test_similar_finds_the_twin(query, table, model, tmp_path, capsys):
    song = table.parent / "music/sets/hymn.wav"
    options = ["--in", str(table), "--top", "3", "--out", str(tmp_path / "near.csv")]
    is_audio = query == "audio"
    if is_audio:
        query = shutil.copy(song, tmp_path / "another name.wav")
        options += ["--model", model]
    query = song if query == "whole path" else query
    assert main(["similar", str(query), *options]) == 0
    found = pd.read_csv(tmp_path / "near.csv")
    assert len(found) == 3 and len(capsys.readouterr().out.splitlines()) == 5
    names = found["path"].str.rpartition("/")[2].tolist()
    if is_audio:
        assert set(names[:2]) == {"hymn.wav", "twin.flac"}
    else:
        assert names[0] == "twin.flac" and "hymn.wav" not in names
    assert found["similarity"][0] > 0.99 > found["similarity"][2]
    assert found["similarity"].is_monotonic_decreasing


def test_pairs(table, tmp_path, capsys):
    """The twins come first; the page has players, spectrograms, and what is gone."""
    out, page = tmp_path / "pairs.csv", tmp_path / "pairs.html"
    command = ["similar", "--pairs", "--in", str(table), "--top", "100", "--out", str(out)]
    assert main([*command, "--page", str(page)]) == 0
    found = pd.read_csv(out)
    assert len(found) == 9 * 8 / 2 and found["similarity"].is_monotonic_decreasing
    names = [PurePath(path).name for path in found.loc[0, ["path", "path2"]]]
    assert set(names) == {"hymn.wav", "twin.flac"} and found["similarity"][0] > 0.99
    text = page.read_text()
    assert text.count("<audio") == text.count("data:image/png;base64,") == 9 * 8
    assert f"<h2>1. similarity {found['similarity'][0]:.4f}</h2>" in text
    gone = pairs_page("<b>", [(0.5, str(tmp_path / "a & b.wav"), found["path"][0])])
    assert "a &amp; b.wav: does not exist" in gone and "<b>" not in gone
    assert "(16 dimensions, standardised):" in capsys.readouterr().out
    for features in ("centred", "whitened"):
        assert main([*command[:-2], "--features", features, "--top", "1"]) == 0
        text = capsys.readouterr().out
        assert f"(16 dimensions, {features}):" in text and "hymn" in text and "twin" in text
    for options in ([], ["song", "--pairs"], ["song", "--page", "a.html"]):
        assert main(["similar", *options, "--in", str(table)]) == 2
        assert "pass either QUERY, or --pairs" in capsys.readouterr().err
    assert main([*command[:-2], "--page", str(tmp_path / "a.txt")]) == 2
    assert "a.txt must end in .html" in capsys.readouterr().err


@pytest.mark.parametrize("top", [1, 7, 10_000])
def test_closest_pairs_equal_brute_force(top, monkeypatch):
    monkeypatch.setattr(similar, "AT_A_TIME", 5)
    layers = similar.unit_layers(np.random.default_rng(0).normal(size=(23, 2, 3)), "standardised")
    every = [[*similar.rank(layers, row, 99)] for row in range(23)]
    expected = sorted((-s, i, j) for i, row in enumerate(every) for j, s in row if i < j)[:top]
    found = similar.closest_pairs(layers, top)
    assert [(i, j) for _, i, j in found] == [(i, j) for _, i, j in expected]
    np.testing.assert_allclose([s for s, *_ in found], [-s for s, *_ in expected], atol=1e-6)


def test_equal_similarities_are_in_the_order_of_the_files():
    layers = similar.unit_layers(np.repeat(np.eye(4), 2, axis=0), "centred")
    assert [row for row, _ in similar.rank(layers, 3, 4)] == [2, 0, 1, 4]
    assert len(similar.rank(layers, 3, 99)) == 7


@pytest.mark.parametrize("features", ["standardised", "whitened"])
def test_whitened_features_are_decorrelated(features):
    """What many dimensions have in common then counts as one."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(2, 2000, 4))
    values = np.concatenate([np.repeat(common, 8, axis=1), own], axis=1).astype(np.float32)
    (unit,) = similar.unit_layers(values, features)
    shares = np.square(unit[:, -4:]).sum(axis=1).mean()
    assert shares == pytest.approx(0.5 if features == "whitened" else 4 / 36, abs=0.05)


def test_similar_refuses_what_is_not_finite():
    values = np.random.default_rng(0).normal(size=(5, 2, 3))
    layers = similar.unit_layers(values, "standardised")
    assert {row for row, _ in similar.rank(layers, 2, 9)} == {0, 1, 3, 4}
    values[1, 0, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        similar.unit_layers(values, "standardised")


def test_info(table, model, capsys):
    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    for words in ("2 BranchformerLayer blocks", "16 values", "not stated"):
        assert words in text
    identity = ExportEncoder(load_export(model), "").identity
    assert identity in text
    assert main(["info", str(table)]) == 0
    text = capsys.readouterr().out
    assert "9 files" in text and "9 x 3 x 16" in text and identity in text
    assert main(["info", str(table.parent / "music/sets/hymn.wav")]) == 2
    assert "is not a file of embeddings" in capsys.readouterr().err


def test_shipped_encoder(music, tmp_path, capsys):
    """Without --model; what info says of it names the music that it was trained on."""
    embed(music, "--out", tmp_path / "a.npz")
    assert "by the small encoder of this package" in capsys.readouterr().out
    paths, _, values, settings = read_embeddings(tmp_path / "a.npz")
    encoder = MusicEncoder.from_export()
    assert settings["source"] == "the shipped encoder" and settings["model"] == encoder.fingerprint
    alone = encoder.encode_file(paths[0], pool="mean").values  # in a batch it rounds otherwise
    np.testing.assert_allclose(values[0], alone, rtol=1e-4, atol=1e-5)
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "corpora" in text and "not stated" not in text and encoder.fingerprint in text


def test_export_equals_that_of_the_run(tone_folder, tmp_path, monkeypatch, capsys):
    graphs = []
    monkeypatch.setattr(
        "speechbrain_music.inference.cli.export.export_onnx", lambda *a: graphs.append(a)
    )
    pretrain(tiny.arguments(tone_folder, tmp_path / "run", max_steps=2))
    own = tmp_path / "run" / "export"
    kept = {p.name: p.read_bytes() for p in own.iterdir()}
    training = json.loads(kept["config.json"])["training"]
    assert [corpus["composed"] for corpus in training["corpora"]] == [False]
    assert training["corpora"][0]["hours"] == training["hours"]["train"] > 0
    shutil.rmtree(own)
    other = tmp_path / "other"
    assert main(["export", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--out", str(other)]) == 0
    for folder in (own, other):
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept
    assert main(["export", str(own), "--onnx", str(tmp_path / "a.onnx")]) == 0
    ((exported, path, *options),) = graphs
    assert options == ["wave", [0, 1, 2], "none"]
    assert path == tmp_path / "a.onnx" and exported.encoder.config["d_model"] == 16
    assert main(["info", str(own)]) == 0
    assert re.search("steps +2\n", capsys.readouterr().out)
    shutil.rmtree(tmp_path / "run" / "save")
    assert main(["export", str(tmp_path / "run")]) == 2
    assert "has no checkpoint" in capsys.readouterr().err


def results_of(model, path, task, replica=None, deviations=()):
    """A results.json as a recipe writes it."""
    identity = ExportEncoder(load_export(model), "").identity
    origin = {"data_set": task.upper(), "replica": replica, "deviations": deviations}
    results = {
        "task": task,
        "encoder": {"name": "export", "runs": [{"identity": identity}]},
        "data": origin | {"tracks": {"test": 42}},
        "protocol": {"pooling": "mean", "freeze_encoder": True, "quick": False},
        "figures": {"accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1}},
    }
    path.write_text(json.dumps(results))
    return str(path)


def test_layers_of_stored_results(music, model, tmp_path, capsys):
    """`info` shows them, `--layer best:TASK` uses them; of several results the newest."""
    layers = {"text": "layer 1 is better than all others", "tracks": 9, "best": "1"}
    layers["valid"] = {"0": 0.25, "1": 0.5, "2": 0.125}
    for number, (name, best) in enumerate([("old", "2"), ("new", "1")]):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "results.json"
        results_of(model, path, "genre", replica={"generator": "1"})
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"layers": layers | {"best": best}})
        )
        os.utime(path, (number, number))
    faults = [{}, layers | {"valid": []}, layers | {"best": "all"}, None]
    for number, fault in enumerate(faults):
        path = tmp_path / f"new/{number}/results.json"
        path.parent.mkdir()
        results_of(model, path, "genre")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"layers": fault}))
    (tmp_path / "results.json").write_text("[" * 10**5)  # of another program
    stored = ["--results", str(tmp_path)]
    assert main(["info", model, *stored]) == 0
    line = "genre +layer 1 is better than all others on 9 composed tracks "
    assert re.search(line + r"\(0: 0.250, 1: 0.500, 2: 0.125\)\n", capsys.readouterr().out)
    song, out = names_in(music)[0], tmp_path / "a.npz"
    options = (song, "--model", model, "--dtype", "bfloat16", "--out", out, *stored)
    embed(*options, "--layer", "best:genre")
    assert "new/results.json: layer 1 is better" in capsys.readouterr().out
    assert read_embeddings(out).settings["layers"] == 1
    embed(*options, "--layer", "best:key", code=2)
    message = "layer is 'best:key', but .* has no results.json of this encoder on key: run"
    assert re.search(message, capsys.readouterr().err)


def test_model_card(model, tmp_path, capsys):
    results = [
        results_of(model, tmp_path / "a.json", "real"),
        results_of(model, tmp_path / "b.json", "composed", replica={"generator": "1-abc"}),
        results_of(model, tmp_path / "c.json", "part", None, ["test has 3 of 9 tracks"]),
    ]
    frames = json.loads((tmp_path / "a.json").read_text())
    del frames["protocol"]["pooling"]  # tasks by the frame have none
    (tmp_path / "a.json").write_text(json.dumps(frames))
    command = ["card", model, "me/mine", "--licence", "cc-by-4.0", "--results", *results]
    assert main(command) == 0
    card = capsys.readouterr().out

    assert card.startswith("---\n") and "license: cc-by-4.0\n" in card.split("---")[1]
    tables = card.split("**On ")[1:]
    assert [t.split(":")[0].split("*")[0] for t in tables] == [
        "the published data.",
        "recorded music, but not on the published data",
        "composed music that replaces the data sets",
    ]
    notes = {"real": "frozen", "part": "test has 3 of 9 tracks", "composed": "generator 1-abc"}
    for table, (task, note) in zip(tables, notes.items(), strict=True):
        rows = [line for line in table.splitlines() if "0.500 (0.400 to 0.600)" in line]
        assert len(rows) == 1 and f"| {task} |" in rows[0] and note in rows[0]
    assert "COMPOSED (replica)" in tables[2] and "nothing about recorded" in tables[2]
    assert 'from_export("me/mine")' in card and "SummaryMixing takes a mean over" in card

    assert main(["card", model, "me/mine"]) == 0
    card = capsys.readouterr().out
    assert "has not been evaluated" in card and "license" not in card.split("---")[1]


REFUSED = {
    "embed nowhere.wav": "nowhere.wav does not exist",
    "embed texts": "texts holds no audio.*\\.txt \\(1\\)",
    "embed bad.wav": "none of 1 files could be read; bad.wav: .*empty",
    "embed good.wav --out a.h5": "a.h5 must end in .npy or .npz",
    "embed good.wav --out texts": "texts must end in",
    "embed good.wav --out dir.npz": "dir.npz is a folder",
    "embed good.wav --out good.wav/a.npz": "cannot be written",
    "embed good.wav --out mine.npy": "mine.csv .* overwritten",
    "embed good.wav bad.wav --pool none": "of 2 files.*--out out",
    "embed good.wav --pool none --out texts": "texts already exists",
    "embed good.wav --model texts": "texts is no export",
    "embed good.wav --model run": "run is no export, it is the folder of a run: pass run/export",
    "embed good.wav --layer 9": "layers is 9: choose",
    "embed good.wav --layer best:x": "but results has no results.json of this encoder on x: run",
    "similar good.wav --in TABLE": "pass --model",
    "similar good.wav --in TABLE --model other": "is not the model that made",
    "similar himn --in TABLE": "hymn.wav",
    "similar hymn --in TABLE --out good.wav": "must end in .csv",
    "similar x --in good.wav": "is not a file of embeddings",
    "info texts/a.txt": "a.txt is not a file of embeddings",
    "export other": "is not a pre-training run",
    "export other --onnx other/model.safetensors": "must end in .onnx",
    "card MODEL me/mine --results foreign.json": "has other weights than this export",
    "card MODEL me/mine --results odd.json": "is not the results.json of a task",
    "card MODEL mine": "is not a name on the hub",
    "card MODEL me/mine --licence 'mine: all'": "is not the identifier of a licence",
}


@pytest.mark.parametrize("command", REFUSED)
def test_wrong_arguments(command, table, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("texts", "dir.npz", "run/export"):
        os.makedirs(folder)
    for file in (
        "texts/a.txt",
        "texts/README.md",
        "run/hyperparams.yaml",
        "bad.wav",
        "mine.csv",
        "odd.json",
    ):
        open(file, "w").close()
    soundfile.write("good.wav", np.ones(24000) / 2, 24000)
    results_of(
        tiny.untrained_export(tmp_path / "other", ffn_units=32), tmp_path / "foreign.json", "real"
    )
    before = set(tmp_path.rglob("*"))
    name, *argv = shlex.split(command.replace("MODEL", model).replace("TABLE", str(table)))
    defaults = ["--model", model, "--out", "out.npz"] if name == "embed" else []
    assert main([name, *defaults, *argv]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and re.search(REFUSED[command], last)
    left = set(tmp_path.rglob("*")) - before
    assert {p.name for p in left} <= {"out.npz.unreadable.csv"}


@pytest.mark.parametrize(
    "option, value, words",
    [
        *(("--chunk", value, "is not a mult") for value in ("nan", "abc", "inf", "0.01", "1e400")),
        *(("--overlap", value, "is not a mult") for value in ("-1", "none", "")),
        *(
            ("--batch", value, "is not a whole number")
            for value in ("0", "-3", "1.5", "", "9" * 5000)
        ),
        ("--layer", "1,x", "is not a layer"),
        ("--pool", "max", "invalid choice"),
    ],
)
def test_odd_numbers(option, value, words, capsys):
    with pytest.raises(SystemExit) as error:
        main(["embed", "a.wav", "--model", "m", "--out", "a.npz", f"{option}={value}"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert error.value.code == 2 and f"argument {option}" in last and words in last


def test_names_in_a_list_and_on_the_terminal(tmp_path, model, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = ["é.wav", "x" * 251 + ".wav", "山" * 83 + ".wav", "x" * 250 + "y.wav"]
    for name in names:
        soundfile.write(name, np.random.default_rng(len(name)).uniform(-0.5, 0.5, 4800), 24000)
    listed = io.BytesIO(b"\xef\xbb\xbf" + "\r\n".join(names).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(listed))
    embed("-", "--model", model, "--pool", "none", "--out", "frames")
    index = pd.read_csv("frames/index.csv")
    assert index["path"].tolist() == names and index["file"][0] == "é.wav.npy"
    assert index["file"].nunique() == 4 and all(map(os.path.isfile, "frames/" + index["file"]))
    embed(*names, "--model", model, "--out", "a.npz")
    capsys.readouterr()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert main(["similar", names[1], "--in", "a.npz"]) == 0
    sys.stdout.flush()
    assert b"\\xe9.wav" in sys.stdout.buffer.getvalue()


def test_metadata_of_strangers_is_escaped(model, tmp_path, capsys):
    folder = shutil.copytree(model, tmp_path / "export")
    config = json.loads((folder / "config.json").read_text())
    config["training"] |= {"system": "\x1b[31mred\ud800", "step": 10**400}
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["info", str(folder)]) == main(["card", str(folder), "me/mine"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\\x1b[31mred\\ud800") == 2 and "\x1b" not in printed
    for training in ([], None, "x"):
        (folder / "config.json").write_text(json.dumps(config | {"training": training}))
        assert main(["card", str(folder), "me/mine"]) == 0
    assert main(["info", "no\x1b[31m"]) == 2 and "\x1b" not in capsys.readouterr().err


def test_help_works_where_torch_does_not(tmp_path):
    for name in ("torch", "soundfile", "pandas"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('broken here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    helped = subprocess.run([*RUN_CLI, "--help"], capture_output=True, text=True, env=environment)
    assert helped.returncode == 0 and "embed" in helped.stdout, helped.stderr
