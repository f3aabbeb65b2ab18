"""Inputs that failed once, as people had them; the folder is not part of the project."""

import io
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny

from speechbrain_music.data_prep.files import PreparationError
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.dataio.audio import AudioError, audio_info, read_segment
from speechbrain_music.inference import cli
from speechbrain_music.inference.embeddings import read_embeddings

LABELLED = DATA_SETS["labelled_folder"]
FAULTS = tiny.ROOT / "../shared/data/faults"
pytestmark = pytest.mark.skipif(not FAULTS.is_dir(), reason="there is no folder of faults")


@pytest.fixture
def copy(tmp_path):
    """A function: name of a fault -> a copy of its folder, to write to."""
    return lambda name: Path(shutil.copytree(FAULTS / name, tmp_path / "fault", symlinks=True))


def prepared(folder):
    report = DATA_SETS["folder"].prepare(folder, folder, valid_share=0.2)
    return report, *(pd.read_csv(folder / f"{split}.csv")["wav"] for split in ("train", "valid"))


def test_a_resource_fork_is_not_taken_for_the_song(copy):
    fault = copy("appledouble")
    (fault / "._song.mp3").write_bytes(b"\0\5\26\7" + bytes(4092))
    assert len(read_segment(fault / "song.mp3"))
    shutil.copytree(fault, fault / "other")
    with open(fault / "other/song.mp3", "ab") as file:  # no copy
        file.write(b"\0")
    report, train, valid = prepared(fault)
    assert report["skipped"] == 0 and len(train) == len(valid) == 1


def test_albums_that_begin_with_a_dot_are_taken(copy):
    fault = copy("dot-albums")
    for number, path in enumerate(sorted(fault.rglob("*.wav"))):
        path.write_bytes(path.read_bytes() + bytes(number))  # no copies
    report, train, valid = prepared(fault / "m")
    assert report["skipped"] == 0 and len(train) + len(valid) == 5


def test_copies_and_links_are_on_one_side(copy):
    fault = copy("duplicates-held-out")
    for link in (
        fault / "m/c"
    ).iterdir():  # a folder that was copied may hold their targets as text
        link.unlink()
        link.symlink_to(f"../a/t{link.stem[1:]}.wav")
    report, train, valid = prepared(fault / "m")
    assert len(train) + len(valid) == 20 and report["reasons"] == {"a copy of another file": 40}


def test_any_part_of_flac_behind_a_cover_is_read(copy):
    fault = copy("flac-id3-cover")
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 70 * 24000)
    soundfile.write(buffer := io.BytesIO(), wave, 24000, format="FLAC")
    size = 1_500_000
    tag = b"ID3\3\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    (fault / "song.flac").write_bytes(tag + bytes(size) + buffer.getvalue())
    for second in range(70):
        part = read_segment(fault / "song.flac", second * 24000, 24000)
        np.testing.assert_allclose(part, wave[second * 24000 :][:24000], atol=1e-4)


def test_a_huge_sample_is_named_and_the_rest_goes_on(copy):
    fault = copy("huge-sample")
    with pytest.raises(AudioError, match=r"loud.wav: has samples up to 1e\+29; repair it or"):
        read_segment(fault / "loud.wav")
    soundfile.write(fault / "good.wav", np.random.default_rng(0).uniform(-1, 1, 24000), 24000)
    tiny.untrained_export(fault / "model")
    out = fault / "e.npz"
    assert cli.main(["embed", str(fault), "--model", str(fault / "model"), "--out", str(out)]) == 0
    assert np.isfinite(read_embeddings(out).values).all()
    assert "loud.wav" in (fault / "e.npz.unreadable.csv").read_text()


TABLES = {
    "labels-extra-comma": (["genre"], "too many cells at line 2"),
    "labels-reserved-column": (["duration"], "'duration', a column of every table or manifest"),
    "labels-same-file-twice": (["genre"], "a.wav"),
}


@pytest.mark.parametrize("name", TABLES)
def test_labels_are_refused(name, copy):
    fault = copy(name)
    labels, words = TABLES[name]
    for file in {Path(line.split(",")[0]) for line in (fault / "labels.csv").open()}:
        if file.suffix == ".wav":
            soundfile.write(fault / file, np.random.uniform(-1, 1, 24000), 24000)
    with pytest.raises(PreparationError, match=words):
        LABELLED.prepare(fault, fault / "out", labels=labels)
    assert not (fault / "out").exists()


def test_names_match_in_any_unicode_form(copy):
    fault = copy("labels-nfd")
    (name,) = (path.name for path in fault.glob("*.wav") if not path.name.isascii())
    os.rename(fault / name, fault / unicodedata.normalize("NFD", name))
    report = LABELLED.prepare(fault, fault / "out", labels=["genre"])
    assert report["splits"]["train"]["files"] == 1


def test_long_names_stop_nothing(copy):
    fault = copy("long-names-frames")
    tiny.untrained_export(fault / "model")
    for length in (251, 80):
        wave = np.random.default_rng(length).uniform(-1, 1, 8000)
        soundfile.write(fault / f"{'a' * length}.wav", wave, 8000)
    argv = ["embed", str(fault), "--model", str(fault / "model"), "--pool", "none"]
    assert cli.main([*argv, "--out", str(fault / "frames")]) == 0
    index = pd.read_csv(fault / "frames/index.csv")
    waves = {str(path) for path in fault.rglob("*.wav")}
    assert set(index["path"]) == waves
    assert all((fault / "frames" / file).is_file() for file in index["file"])


@pytest.mark.parametrize(
    ("name", "seconds"), [("vbr_loud_first", 12.04), ("joined", 24.06), ("cover", 12.04)]
)
def test_mp3_has_the_frames_that_are_there(name, seconds, copy):
    fault = copy("mp3-length")
    path = fault / f"{name}.mp3"
    assert audio_info(path).seconds == pytest.approx(seconds, abs=0.06)
    assert len(read_segment(path)) / 24000 == pytest.approx(seconds, abs=0.06)
    assert len(read_segment(path, int((seconds - 1) * 24000), 12000)) == 12000


def test_names_of_other_encodings(copy):
    fault = copy("names-and-lists")
    path = os.fsencode(fault) + b"/caf\xe9.wav"
    with open(path, "wb") as file:
        soundfile.write(file, np.zeros(24000), 24000, format="WAV")
    assert len(read_segment(os.fsdecode(path))) == 24000


@pytest.mark.parametrize("name", ["adts.mp3", "alac.caf", "died.wav", "flac.oga"])
def test_the_sentence_says_what_to_run(name, copy):
    fault = copy("wrong-remedy")
    with pytest.raises(AudioError, match="convert it with `ffmpeg -i FILE FILE.flac`"):
        read_segment(fault / name)


def test_mp3_behind_junk_is_read(copy):
    fault = copy("wrong-remedy")
    assert len(read_segment(fault / "junk.mp3")) / 24000 == pytest.approx(3, abs=0.06)


@pytest.mark.slow
def test_the_encoder_that_is_asked_for_is_evaluated(copy, replica):
    fault = copy("encoder-path-hash")
    asked, other = fault / "my #2/export", fault / "my"
    for folder, system in ((asked, 0), (other, 1)):
        tiny.untrained_export(folder)
        config = json.loads((folder / "config.json").read_text())
        config["training"]["system"] = f"system {system}"
        (folder / "config.json").write_text(json.dumps(config))
    results, _, _ = tiny.run_task(
        "gtzan_genre", fault, encoder=asked, data_folder=replica("gtzan"), number_of_epochs=1
    )
    assert "system 0" in results["encoder"]["name"] or results["encoder"]["spec"] == str(asked)


@pytest.mark.slow
def test_the_second_of_two_runs_is_refused(copy, tone_folder):
    fault = copy("two-runs-one-folder")
    script = str(tiny.ROOT / "recipes/pretrain/train.py")
    argv = tiny.arguments(tone_folder, fault / "run", number_of_epochs=400)
    command = [sys.executable, script, *argv]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        while not (fault / "run/metrics.jsonl").exists():
            assert first.poll() is None, first.stderr.read()
        second = subprocess.run(command, capture_output=True, text=True)
        first.terminate()
        first.communicate()
    assert second.returncode == 2 and "another process trains in" in second.stderr
    assert "Traceback" not in second.stderr
