"""Manifests of a folder of music, and the list of what was skipped."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from small_trees import wav, write

from speechbrain_music.data_prep.__main__ import main
from speechbrain_music.data_prep.fallback import prepare_once
from speechbrain_music.data_prep.files import PreparationError
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.dataio.audio import read_segment


def prepare(folder, out, keep=False, **settings):
    return (prepare_once if keep else DATA_SETS["folder"].prepare)(folder, out, **settings)


def ids(out, *splits):
    tables = [read_manifest(out / f"{split}.csv", "/") for split in splits or ("train", "valid")]
    return sorted(key for table in tables for key in table["ID"])


def skipped(out):
    with open(out / "skipped.csv", newline="", encoding="utf-8") as file:
        return {line["path"]: line["reason"] for line in csv.DictReader(file)}


@pytest.fixture
def folder(tmp_path):
    for index in range(20):
        wav(tmp_path / "music" / f"{index:02}.wav")
    return tmp_path / "music"


def test_held_out_files_hardly_change_with_the_folder(folder, tmp_path):
    for share, expected in ((0.001, 1), (0.3, 6), (0.999, 19)):
        report = prepare(folder, tmp_path / str(share), valid_share=share)
        assert report["splits"]["valid"]["files"] == expected
        assert len(ids(tmp_path / str(share))) == 20
    prepare(folder, tmp_path / "1", valid_share=0.5)
    prepare(folder, tmp_path / "seed", valid_share=0.5, seed=1)
    wav(folder / "a new one.wav")
    prepare(folder, tmp_path / "2", valid_share=0.5)
    before, after = (set(ids(tmp_path / out, "valid")) for out in "12")
    assert len(before) == 10 and len(before - after) <= 1
    assert set(ids(tmp_path / "seed", "valid")) != before


def test_a_second_run_keeps_the_manifests(folder, tmp_path, caplog):
    caplog.set_level("WARNING")  # whatever tests before have set
    out = tmp_path / "new" / "out"
    first = prepare(folder, out)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}
    files = "headers.jsonl report.json skipped.csv train.csv valid.csv".split()
    assert sorted(path.name for path in before) == files and not skipped(out)
    assert first == json.loads((out / "report.json").read_text())
    wav(folder / "later.wav")
    (folder / "03.wav").unlink()
    assert prepare(folder, out, keep=True) == first
    assert prepare(str(folder) + "/../music/", out, keep=True) == first
    assert not caplog.records
    assert prepare(folder, out, seed=5, keep=True) == first
    assert "made with another seed" in caplog.text
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()} == before
    line = ["folder", str(folder), "--out", str(out), "--valid_share", "0.2", "--seed", "3"]
    assert main(line) == 0  # the command renews them
    report = json.loads((out / "report.json").read_text())
    assert report["splits"]["valid"]["files"] == 4 and report["settings"]["seed"] == 3
    assert "later.wav" in ids(out) and "03.wav" not in ids(out)


def of_a_data_set(out, folder):
    write(
        out / "report.json",
        json.dumps(json.loads((out / "report.json").read_text()) | {"data_set": "GTZAN"}),
    )


@pytest.mark.parametrize(
    "spoil, found",
    [
        (lambda out, folder: shutil.move(folder, folder.with_name("other")), "music .a folder"),
        (lambda out, folder: write(out / "report.json", "{"), "an unknown folder .another command"),
        (lambda out, folder: write(out / "report.json", "[" * 10**5), "an unknown folder"),
        (lambda out, folder: (out / "report.json").unlink(), "an unknown folder"),
        (lambda out, folder: [(out / f).unlink() for f in ("report.json", "valid.csv")], "an unkn"),
        (of_a_data_set, r"music \(GTZAN\), not from .*music \(a folder of music\); delete them"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_other_manifests_are_not_overwritten(spoil, found, keep, folder, tmp_path):
    out = tmp_path / "out"
    prepare(folder, out)
    spoil(out, folder)
    before = {path: path.read_bytes() for path in out.iterdir()}
    source = folder if folder.exists() else tmp_path / "other"
    with pytest.raises(PreparationError, match=f"were prepared from .*{found}"):
        prepare(source, out, keep=keep)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_bad_files_are_skipped_and_listed(folder, tmp_path, caplog):
    out = tmp_path / "out"
    (folder / "empty.wav").touch()
    (folder / "text.flac").write_text("do re mi " * 100)
    (folder / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    (folder / "b.M4A").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    (folder / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    wav(folder / "one sample.wav", 1 / 1000)
    wav(folder / "short.wav", 0.7)
    wav(folder / "two\nlines.wav")
    wav(folder / "$data_root.wav")
    with open(os.fsencode(folder) + b"/latin\xe9.wav", "wb") as file:
        file.write((folder / "00.wav").read_bytes())
    with caplog.at_level("INFO"):
        report = prepare(folder, out)
    reasons = skipped(out)
    assert len(ids(out)) == 20 and report["skipped"] == len(reasons) == 11
    assert sum(report["reasons"].values()) == 11
    assert reasons["empty.wav"].startswith("is empty")
    assert reasons["text.flac"].startswith("is not readable as audio")
    assert reasons["a.m4a"].startswith("is in a format that libsndfile cannot read")
    assert reasons["gone.wav"] == reasons["pipe.wav"]
    assert reasons["gone.wav"].startswith("does not exist or is not a file")
    assert reasons["short.wav"] == reasons["one sample.wav"] == "shorter than 0.8 s"
    for name in ("two\nlines.wav", "$data_root.wav", "latin\\xe9.wav"):
        assert reasons[name].startswith("its name has")
    assert report["reasons"][reasons["a.m4a"]] == 2
    assert "train: 18 files" in caplog.text and "skipped 2: shorter than 0.8 s" in caplog.text


def test_unusual_names_and_formats(tmp_path):
    music = tmp_path / "my music, [live]"
    names = "a.wav a.flac UPPER.WAV twice.mp3.mp3 -rf.ogg really_wav.mp3".split()
    names += ['A$AP: don\'t, "stop" (50%).aif', "日本/é è.au", "deep/er/and deeper/#1;2.opus"]
    names += [".38 Special/...Hits.wav", "Metallica/...And Justice for All/01.wav"]
    rng = np.random.default_rng(0)
    for name in names:
        (music / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {"opus": "OGG", "aif": "AIFF"}.get(name.rsplit(".")[-1].lower())
        kind = "WAV" if name == "really_wav.mp3" else kind
        subtype = "OPUS" if name.endswith("opus") else None
        wave = rng.uniform(-0.1, 0.1, 48000)
        soundfile.write(music / name, wave, 48000, format=kind, subtype=subtype)
    junk = "._a.wav .git/b.wav .Trash-0/c/d.flac deep/@eaDir/a.wav cover.jpg notes x.csv y.csv"
    for name in junk.split():
        wav(music / name)
    (music / "deep" / "round").symlink_to(music)  # never ends
    wav(tmp_path / "disk" / "linked.wav")
    for link in ("link", "same"):
        (music / link).symlink_to(tmp_path / "disk")
    report = prepare(music, tmp_path)
    assert report["skipped"] == 0
    assert report["other_files"] == {
        ".csv": 2, ".git": 1, ".jpg": 1, ".Trash-0": 1, "._": 1, "@eaDir": 1, "no extension": 1
    }  # fmt: skip
    assert ids(tmp_path) == sorted([*names, "link/linked.wav"])
    for split in ("train", "valid"):
        for path in read_manifest(tmp_path / f"{split}.csv", music)["wav"]:
            assert len(read_segment(path)) == 24000 or "link" in path


def test_copies_and_links_are_used_once(folder, tmp_path):
    for index in range(20):
        path = folder / f"{index:02}.wav"
        shutil.copy(path, folder / f"{index:02} (1).wav")
        (folder / f"link{index}.wav").symlink_to(path)
    report = prepare(folder, tmp_path / "out", valid_share=0.5)
    assert ids(tmp_path / "out") == [f"{index:02} (1).wav" for index in range(20)]
    assert report["reasons"] == {"a copy of another file": 40}


def only(folder, *names):
    shutil.rmtree(folder)
    for name in names:
        write(folder / name, "x")
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    "break_it, settings, message",
    [
        (lambda f: f.with_name("musik"), {}, "There is no folder .*musik; did you mean .*music"),
        (lambda f: f.with_name("z") / "er", {}, "There is no folder .*z/er; .* is the last that"),
        (lambda f: f / "00.wav", {}, "00.wav is a file; pass the folder that holds it"),
        (lambda f: only(f, "a.jpg", "b.JPG"), {}, r"looked for \.aif.* found \.jpg \(2\); pass"),
        (only, {}, "holds no audio.*found no files at all"),
        (lambda f: only(f, "a.wav"), {}, "0 usable of 1 pieces .*a.wav: is not readable as audio"),
        (lambda f: wav(only(f) / "a.wav") or f, {}, "1 usable of 1 .*one to train and one to"),
        (lambda f: f, {"valid_share": 0}, "valid_share is 0; it must lie between 0 and 1"),
        (lambda f: f, {"valid_share": float("nan")}, "valid_share is nan"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(folder, tmp_path, break_it, settings, message):
    with pytest.raises(PreparationError, match=message) as caught:
        prepare(break_it(folder), tmp_path / "out", **settings)
    assert "\n" not in str(caught.value)
    left = [path.name for path in (tmp_path / "out").glob("*")]
    assert not left or left == ["headers.jsonl"]


def test_real_recordings(real_audio, tmp_path):
    report = prepare(real_audio, tmp_path)
    assert sum(part["files"] for part in report["splits"].values()) == 34
    assert report["skipped"] == 0
    hours = sum(part["hours"] for part in report["splits"].values())
    assert hours == pytest.approx(15.6 / 60, abs=0.005)
