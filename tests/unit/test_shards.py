"""Shards of audio: packing, checking and reading."""

import csv
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
import webdataset

from speechbrain_music.data_prep import shards
from speechbrain_music.data_prep.cli import main
from speechbrain_music.data_prep.files import PreparationError
from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.manifest import read_manifest, write_manifest
from speechbrain_music.data_prep.merge import merge
from speechbrain_music.dataio import byte_range
from speechbrain_music.dataio.audio import AudioError, audio_info, read_segment
from speechbrain_music.dataio.sampler import WeightedSegmentSampler
from speechbrain_music.dataio.segments import FrameGrid, SegmentDataset, SegmentIndex

GRID = FrameGrid(samples_per_token=960, stack=4, bands=8)
SIZE = 1.6  # MB: two tones or three


@pytest.fixture(scope="module")
def manifests(tone_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("manifests")
    prepare_folder(tone_folder, out / "train.csv", out / "valid.csv", valid_share=0.25)
    return [out / "train.csv", out / "valid.csv"]


@pytest.fixture(scope="module")
def packed(manifests, tone_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "shards"
    shards.pack(manifests, tone_folder, out, shard_mb=SIZE)
    return out


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "copy")


def draws(tracks, count=60, **settings):
    """An epoch's items."""
    (batch,) = WeightedSegmentSampler(tracks["duration"] * tracks["weight"], count, count)
    dataset = SegmentDataset(tracks, 50, GRID, **settings)
    return [dataset[draw] for draw in batch]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damage(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def test_draws_equal_those_from_files(manifests, tone_folder, packed):
    for manifest in manifests:
        of_files = read_manifest(manifest, tone_folder)
        of_shards = read_manifest(packed / manifest.name, packed)
        same = [name for name in of_files if name not in ("wav", "start", "stop")]
        assert of_files[same].equals(of_shards[same])
        items = draws(of_files, augment=True), draws(of_shards, augment=True)
        for one, two in zip(*items, strict=True):
            assert one["row"] == two["row"] and one["error"] is two["error"] is None
            assert torch.equal(one["mask"], two["mask"])
            assert torch.equal(one["noise"], two["noise"])
            lossy = of_files["wav"][one["row"]].lower().endswith(("mp3", "ogg"))
            bound = 2e-5 if lossy else 1e-6  # a lossy decoder's; 24 bits and resampling
            torch.testing.assert_close(one["wave"], two["wave"], rtol=0, atol=bound)


def test_content_of_a_shard(packed, manifests, tmp_path):
    tars = sorted(packed.glob("*.tar"))
    assert len(tars) > 3 and all(path.stat().st_size < SIZE * 1e6 for path in tars)
    urls = [str(path) for path in tars if path.name.startswith("train")]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    table = read_manifest(packed / "train.csv", packed)
    rows = read_manifest(manifests[0], "")
    assert [sample["__key__"] for sample in samples] == [f"{n:09d}" for n in range(len(table))]
    for sample, line, row in zip(samples, table.itertuples(), rows.itertuples(), strict=True):
        info = audio_info(line.wav)
        assert info == (line.stop, 24000, 1) and line.start == 0
        assert line.stop == int(24000 * line.duration)
        wave, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        assert np.array_equal(wave, read_segment(line.wav))
        stored = json.loads(sample["json"])
        assert stored["ID"] == line.ID == row.ID and f"/{stored['wav']}" == row.wav
        assert stored["stop"] == row.stop
    report = merge({packed: 2.0}, tmp_path / "both")  # as other corpora
    merged = read_manifest(tmp_path / "both" / "train.csv", report["data_folder"])
    assert merged["wav"].tolist() == table["wav"].tolist()


def test_same_bytes_with_one_worker_and_only_missing_shards_are_packed(
    manifests, tone_folder, packed
):
    before = contents(packed.rename(packed.with_name("first")))
    shards.pack(manifests, tone_folder, packed, shard_mb=SIZE, workers=1)
    assert contents(packed) == before
    times = {path: path.stat().st_mtime_ns for path in packed.iterdir()}
    deleted, torn, _, *kept = sorted(packed.glob("*.tar"))
    deleted.unlink()
    torn.write_bytes(torn.read_bytes()[:-1])
    shards.pack(manifests, tone_folder, packed, shard_mb=SIZE)
    assert contents(packed) == before
    assert all(path.stat().st_mtime_ns == times[path] for path in kept)


@pytest.mark.parametrize(
    "text",
    ["", "[" * 10**5, "[]", '{"key": 1}', ("pieces", None), ("pieces", []), ("bytes", "9"),
     ("pieces", [{"wav": "x"}]), ("sha256", None), ("clipped", {})],
)  # fmt: skip
def test_a_damaged_index_is_written_again(text, manifests, tone_folder, packed, copy):
    index = copy / "train-000000.json"
    whole = json.loads(index.read_text())
    index.write_text(json.dumps(whole | dict([text])) if isinstance(text, tuple) else text)
    if text != ("pieces", []):  # the shard is as packed
        with pytest.raises(PreparationError, match="train-000000.tar or its index is missing or d"):
            shards.check(copy)
    shards.pack(manifests, tone_folder, copy, shard_mb=SIZE)
    assert contents(copy) == contents(packed)


KILLED = """
import os, sys
from speechbrain_music.data_prep import shards
from speechbrain_music.data_prep.cli import main
encode, count = shards._encode, 0
def encode_or_die(*args):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), 9)
    return encode(*args)
shards._encode = encode_or_die
main(["shards", *sys.argv[1:]])
"""


def test_killed_packing_continues(manifests, tone_folder, packed, tmp_path):
    out = tmp_path / packed.name
    command = [*map(str, manifests), "--data_folder", str(tone_folder), "--out", str(out)]
    command += ["--shard_mb", str(SIZE), "--workers", "1"]
    run = subprocess.run([sys.executable, "-c", KILLED, *command])
    assert run.returncode == -signal.SIGKILL
    left = {path.name for path in out.iterdir()}
    assert any(name.endswith(".tmp") for name in left) and "train.csv" not in left
    whole = out / "train-000000.tar"
    time = whole.stat().st_mtime_ns
    assert main(["shards", *command]) == 0
    assert whole.stat().st_mtime_ns == time
    assert contents(out) == contents(packed)


def test_damaged_shards(copy):
    table = read_manifest(copy / "train.csv", copy)
    parts = [byte_range.parse(wav) for wav in table["wav"]]
    assert parts[0].file == parts[1].file != parts[-1].file
    damage(parts[0].file, parts[0].offset + parts[0].size // 2)
    torn = parts[-1]
    with open(torn.file, "r+b") as file:
        file.truncate(torn.offset + torn.size // 3)
    dataset = SegmentDataset(table, 500, GRID)  # pieces as a whole
    items = [dataset[SegmentIndex(0, row, row)] for row in range(len(table))]
    errors = {item["row"]: item["error"][1] for item in items if item["error"]}
    assert set(errors) == {0, len(table) - 1}
    assert errors[0].startswith(f"{parts[0].file}#{table['ID'][0]}@") and "is damaged" in errors[0]
    assert "its shard ends before it does; fetch the shard again" in errors[len(table) - 1]
    with pytest.raises(PreparationError) as caught:
        shards.check(copy)
    for part in (parts[0], parts[-1]):
        name = part.file.rpartition("/")[2]
        assert f"{name} differs (pieces that cannot be read: {part.item})" in str(caught.value)
    assert str(caught.value).count("differs") == 2


def test_check(copy, capsys):
    assert main(["shards", "--check", str(copy)]) == 0
    first = sorted(copy.glob("*.tar"))[0]
    damage(first, 100)  # in the first member's header: all pieces can be read
    assert main(["shards", "--check", str(copy)]) == 2
    assert f"{first.name} differs (pieces that cannot be read: none)" in capsys.readouterr().err
    first.unlink()
    with pytest.raises(PreparationError, match=f"{first.name} or its index is missing"):
        shards.check(copy)
    wav = read_manifest(copy / "train.csv", copy)["wav"][0]
    with pytest.raises(AudioError, match="train-000000.tar#.*its shard cannot be read .No such"):
        read_segment(wav)
    (copy / "report.json").unlink()
    with pytest.raises(PreparationError, match="holds no shards, or packing them has not finished"):
        shards.check(copy)
    assert main(["shards", "train.csv", "--out", "x"]) == 2
    assert "shards needs manifests, --data_folder and --out; or" in capsys.readouterr().err


@pytest.fixture
def music(tmp_path):
    """Pieces that can and that cannot be packed, labels and weights."""
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.5, 0.5, (88200, 2))
    soundfile.write(tmp_path / "good.wav", wave, 44100)
    soundfile.write(tmp_path / "loud.wav", 3 * wave, 44100, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("do re mi")
    rows = [
        {"ID": f"{name}-{part}", "wav": f"{name}.wav", "start": part * 44100, "stop": stop}
        for name, part, stop in (
            ("good", 0, 44100), ("good", 1, 88200), ("loud", 0, 88200), ("gone", 0, 44100),
            ("good", 2, 132300), ("text", 0, 44100), ("loud", 1, 132300),
        )
    ]  # fmt: skip
    for number, row in enumerate(rows):
        row |= {"duration": (row["stop"] - row["start"]) / 44100, "mood": "a, b"}
        row["weight"] = number + 1
    write_manifest(tmp_path / "train.csv", rows, ["mood", "weight"])
    return tmp_path


@pytest.mark.parametrize("at_once", [shards._AT_ONCE, 7001])
def test_pieces_labels_and_skipped_files(at_once, music, caplog, monkeypatch):
    monkeypatch.setattr(shards, "_AT_ONCE", at_once)  # a long piece is decoded in parts
    out = music / "out"
    report = shards.pack([music / "train.csv"], music, out)
    before = read_manifest(music / "train.csv", music).set_index("ID")
    after = read_manifest(out / "train.csv", out).set_index("ID")
    assert after.index.tolist() == ["good-0", "good-1", "loud-0", "loud-1"]
    assert list(after) == list(before)
    same = ["mood", "weight"]
    assert after[same].equals(before.loc[after.index, same])
    whole = read_segment(music / "good.wav")
    for part in (0, 1):
        wave = read_segment(after.loc[f"good-{part}", "wav"])
        np.testing.assert_allclose(wave, whole[part * 24000 :][:24000], atol=1e-6)
    assert after.loc["loud-1", "duration"] == 1.0 and before.loc["loud-1", "duration"] == 2.0
    loud = np.clip(read_segment(music / "loud.wav"), -1, 1)
    np.testing.assert_allclose(read_segment(after.loc["loud-0", "wav"]), loud, atol=1e-6)
    assert (report["shortened"], report["clipped"], report["skipped"]) == (1, 2, 3)
    assert "2 pieces go beyond full scale" in caplog.text and "1 pieces end earlier" in caplog.text
    with open(out / "skipped.csv", newline="") as file:
        reasons = {line["path"]: line["reason"] for line in csv.DictReader(file)}
    assert reasons.pop("gone.wav").startswith("does not exist")
    assert reasons.pop("text.wav").startswith("is not readable as audio")
    assert reasons == {"good.wav": "ends before the piece begins"}


def test_missing_music_is_packed_by_a_later_run(music):
    away = music.with_name("away")
    away.mkdir()
    with pytest.raises(PreparationError, match="None of the 7 pieces of .*does not exist"):
        shards.pack([music / "train.csv"], away, music / "out")
    assert not list((music / "out").iterdir())
    away.rmdir()
    music.rename(away)
    music.mkdir()
    assert shards.pack([away / "train.csv"], away, away / "out")["skipped"] == 3


def test_errors_are_one_sentence(music, manifests, packed, tone_folder):
    train = music / "train.csv"
    for settings, message in (
        ({"shard_mb": 0}, "shard_mb is 0; it must be above 0"),
        ({"workers": 0}, "workers is 0; it must be 1 or more"),
        ({"manifests": [train, manifests[0]]}, "Two manifests have the same name"),
        ({"data_folder": music / "nowhere"}, "There is no folder .*nowhere"),
        ({"out": manifests[0].parent}, "holds manifests of files; choose another folder"),
        ({"out": packed}, "train-000000.tar was packed from another manifest, folder or version"),
        ({"out": train / "below"}, "cannot be written"),
    ):
        options = {"manifests": [train], "data_folder": music, "out": music / "out"} | settings
        with pytest.raises(ValueError, match=message) as caught:
            shards.pack(**options)
        assert "\n" not in str(caught.value)
    assert not (music / "out").exists()


def test_full_disk_keeps_complete_shards(manifests, tone_folder, packed, tmp_path, monkeypatch):
    size = len(list(packed.glob("train-*.tar")))
    results = [*(hashlib.sha256(str(number).encode()) for number in range(size))]
    results += [OSError(28, "No space left on device")]  # at the first shard of valid.csv
    monkeypatch.setattr(shards.hashlib, "file_digest", Mock(side_effect=results))
    out = tmp_path / "out"
    with pytest.raises(PreparationError, match="No space left on device"):
        shards.pack(manifests, tone_folder, out, shard_mb=SIZE, workers=1)
    found, expected = contents(out), contents(packed)
    assert found.keys() == {name for name in expected if name.startswith("train-")}
    assert found["train-000000.tar"] == expected["train-000000.tar"]
