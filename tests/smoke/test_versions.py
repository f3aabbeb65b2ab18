"""Version identification as a user runs it: a folder per work, a table with kinds of change."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tones import melody

from recipes import marble
from recipes.covers.train import main
from speechbrain_music.dataio.transposition import transpose
from speechbrain_music.utils.errors import UserError

ROOT = Path(__file__).parents[2]
RATE = 24000
OPTIONS = {
    **{"chunk_seconds": 1, "hop_seconds": 0.5, "min_last_chunk_seconds": 1, "resamples": 50},
    **{"learning_rates": "[1e-2]", "probe_seeds": "[0, 1]", "number_of_epochs": 4, "batch_size": 4},
}


def run(out, **options):
    argv = [str(ROOT / "hparams/covers.yaml"), "--output_folder", str(out)]
    argv += ["--feature_folder", str(out.parent / "features"), "--noprogressbar"]
    return main(
        [*argv, *(f"--{k}={v}" for k, v in ({"encoder": "mel"} | OPTIONS | options).items())]
    )


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Twelve works, each three times: the original, a copy, and the notes of another work."""
    folder, rows = tmp_path_factory.mktemp("songs #1"), []
    for work in range(12):
        for change in ("original", "copy", "other"):
            rng = np.random.default_rng(100 + work if change == "other" else work)
            name = f"{work} {change}"
            soundfile.write(folder / f"{name}.wav", melody(2.2, RATE, 1, rng), RATE)
            split = ("train", "train", "valid", "test")[work % 4] if work < 8 else "test"
            rows.append([f"w{work:02}", name, change, split])
    soundfile.write(folder / "alone.wav", melody(2, RATE, 1, np.random.default_rng(999)), RATE)
    rows.append(["single", "alone", "original", "test"])
    table = pd.DataFrame(rows, columns=["work", "track", "change", "split"])
    table.to_csv(folder / "songs.csv", index=False)
    return folder


def test_copies_are_found_and_others_are_not(songs, tmp_path):
    out = run(tmp_path / "out", data_folder=songs)
    results = json.loads((out / "results.json").read_text())
    for head in ("raw", "centred", "whitened"):
        assert results["by_class"]["copy"][f"{head} map"] == 1
        assert results["by_class"]["other"][f"{head} map"] < 0.8
        assert results["by_class"]["copy"]["count"] == 6
        for metric in ("map", "p10", "mr1", "rank_percentile"):
            figure = results["figures"][f"{head} {metric}"]
            assert figure["low"] <= figure["mean"] <= figure["high"]
        assert (
            results["figures"][f"{head} map"]["chance"] < results["figures"][f"{head} map"]["mean"]
        )
    assert results["figures"]["raw mr1"]["mean"] > 1
    assert len(results["each"][0]) == 2  # seeds of the head
    with np.load(out / "predictions.npz") as stored:
        assert stored["tracks"].tolist() == sorted({*stored["tracks"].tolist()} - {"single"})
        assert stored["logits"].shape == (1, 2, 6, 32) and (stored["targets"][:, 1::2] == 3).all()
    text = (out / "report.md").read_text()
    assert "19 test tracks (6 works with versions), 12 training, 6 validation" in text
    assert "| copy | 1.000 |" in text
    assert "**6 works are tested, fewer than 20**" in text and "transpositions" not in text
    assert (out / "layers.png").exists()
    table = pd.read_csv(out / "probes.csv")
    assert table["head"].tolist() == ["raw", "centred", "whitened", "attention", "attention"]

    kept = (out / "results.json").stat().st_mtime_ns
    run(out, data_folder=songs)
    assert (out / "results.json").stat().st_mtime_ns == kept
    closest = run(tmp_path / "closest", data_folder=songs, matches=1, heads="[whitened, raw]")
    results = json.loads((closest / "results.json").read_text())
    assert list(results["figures"])[:4] == [
        f"whitened {m}" for m in ("map", "p10", "mr1", "rank_percentile")
    ]
    assert results["by_class"]["copy"]["raw map"] == 1
    assert "all of Covers80" in (closest / "report.md").read_text()
    assert "the 1 best matches" in (closest / "report.md").read_text()


def test_validation_works_without_versions_are_refused(songs, tmp_path):
    """All but one version of each have values that are not finite, and are left out."""
    root = shutil.copytree(songs, tmp_path / "songs")
    table = pd.read_csv(root / "songs.csv")
    for name in table["track"][(table["split"] == "valid") & (table["change"] != "original")]:
        soundfile.write(root / f"{name}.wav", np.full(2 * RATE, np.nan), RATE, "FLOAT")
    for heads in ("[raw]", "[attention]"):
        with pytest.raises(UserError, match="no validation work has two versions"):
            run(tmp_path / "out", data_folder=root, heads=heads)


def test_the_head_alone(songs, tmp_path):
    out = run(tmp_path / "out", data_folder=songs, heads="[attention]")
    assert "attention map" in json.loads((out / "results.json").read_text())["figures"]
    assert (out / "layers.png").exists()


def test_transposed_queries(songs, tmp_path):
    """A transposed copy, far off as it is recorded, is found by the search; the head is trained."""
    root = shutil.copytree(songs, tmp_path / "songs")
    table = pd.read_csv(root / "songs.csv")
    for name in table["track"][table["change"] == "other"]:
        wave, _ = soundfile.read(root / f"{name.split()[0]} original.wav", dtype="float32")
        wave = transpose(torch.from_numpy(wave).unsqueeze(0), 4)[0].numpy()
        soundfile.write(root / f"{name}.wav", wave, RATE)
    found = {}
    for count in (1, 12):
        out = run(tmp_path / str(count), data_folder=root, transpositions=count)
        results = json.loads((out / "results.json").read_text())
        found[count] = results["by_class"]["other"]
        assert np.isfinite(results["figures"]["attention map"]["mean"])
    for head in ("centred", "whitened"):
        assert found[12][f"{head} map"] > found[1][f"{head} map"] + 0.1
    assert "in 12 transpositions of which the most similar" in (out / "report.md").read_text()


def test_whole_tracks(songs, tmp_path):
    out = run(tmp_path / "out", data_folder=songs, chunk_seconds="null", heads="[raw]")
    assert "\nWhole tracks; tracks are compared by" in (out / "report.md").read_text()


def test_in_a_table_of_encoders(songs, tiny_export, tmp_path):
    """Also with layers, and several encoders of one system."""
    argv = ["--encoders", "mel", f"untrained=random:{tiny_export}", "--tasks", "covers"]
    argv += ["--data", f"covers={songs}", "--out", str(tmp_path), "--noprogressbar"]
    marble.main([*argv, *(f"--{key}={value}" for key, value in OPTIONS.items())])
    text = (tmp_path / "marble.md").read_text()
    assert "| covers | raw map |" in text and "mel - untrained" in text
    assert text.count("**covers: 6 works are tested, fewer than 20**") == 1
    results = json.loads((tmp_path / "covers/untrained/results.json").read_text())
    assert len(results["encoder"]["runs"]) == len(results["each"]) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"heads": "[mlp]"}, "heads has 'mlp': choose of raw, centred, whitened, attention"),
        ({"heads": "[raw,raw]"}, "heads has 'raw': choose .*, each once"),
        ({"matches": 0}, "matches is 0"),
        ({"transpositions": 13}, "transpositions is 13"),
        ({"temperature": 0}, "temperature is 0"),
        ({"hop_seconds": 0}, "hop_seconds is 0"),
        ({"fold": 2}, "fold"),
    ],
)
def test_wrong_options(options, message, songs, tmp_path):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", data_folder=songs, **options)
    assert not (tmp_path / "out" / "results.json").exists()
