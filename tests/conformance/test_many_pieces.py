"""Thousands of pieces in shards: packed through kills, drawn as from files, whoever draws."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from speechbrain_music.data_prep import shards
from speechbrain_music.data_prep.manifest import read_manifest, write_manifest
from speechbrain_music.dataio.byte_range import parse
from speechbrain_music.dataio.sampler import WeightedSegmentSampler
from speechbrain_music.dataio.segments import FrameGrid, SegmentDataset, collate

pytestmark = pytest.mark.slow
PIECES = 3_000
SHARD_MB = 15
RATES = (24000, 44100, 16000)
GRID = FrameGrid(samples_per_token=960, stack=4, bands=8)
# Rounding to 24 bits, and the margin of the resampler with which a part is read of a file.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder of pieces of 0.8 to 2 s and their manifest."""
    root, rng, rows = tmp_path_factory.mktemp("pieces"), np.random.default_rng(0), []
    for number in range(PIECES):
        rate = RATES[number % len(RATES)]
        frames = int(rng.uniform(0.8, 2.0) * rate)
        name = f"{number // 100:02d}/{number:05d}.wav"
        (root / name).parent.mkdir(exist_ok=True)
        soundfile.write(root / name, rng.uniform(-0.5, 0.5, frames), rate)
        place = {"wav": name, "start": 0, "stop": frames, "duration": frames / rate}
        rows.append({"ID": name, "weight": 1 + number % 3} | place)
    write_manifest(root / "train.csv", rows, ["weight"])
    return root


@pytest.fixture(scope="module")
def packed(music):
    """The shards, packed by one worker without a stop."""
    begin = time.perf_counter()
    out = music / "whole"
    shards.pack([music / "train.csv"], music, out, shard_mb=SHARD_MB, workers=1)
    print(f"\n{PIECES} pieces: {time.perf_counter() - begin:.0f} s, one worker")
    return out


def test_killed_packing_is_resumed(music, packed):
    out = music / "killed"
    command = [sys.executable, "-m", "speechbrain_music.data_prep", "shards", music / "train.csv"]
    command += ["--data_folder", music, "--out", out, "--shard_mb", str(SHARD_MB), "--workers", "2"]
    kills = 0
    for whole in (2, 5, 9):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(list(out.glob("*.json"))) < whole:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += not (out / "train.csv").exists()
    assert kills == 3
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert {path.name for path in out.iterdir()} == {path.name for path in packed.iterdir()}
    for path in set(packed.iterdir()) - {packed / "report.json"}:
        assert (out / path.name).read_bytes() == path.read_bytes()
    shards.check(out)


def batches(tracks, rank, ranks, workers):
    weights = tracks["duration"] * tracks["weight"]
    sampler = WeightedSegmentSampler(weights, PIECES, 20, seed=7, rank=rank, world_size=ranks)
    dataset = SegmentDataset(tracks, 30, GRID, seed=7)
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_draw_is_that_from_files(music, packed, ranks, workers):
    of_files = read_manifest(music / "train.csv", music)
    of_shards = read_manifest(packed / "train.csv", packed)
    assert len(of_shards) == PIECES
    seen, largest = 0, 0.0
    for rank in range(ranks):
        pairs = (batches(tracks, rank, ranks, workers) for tracks in (of_files, of_shards))
        for one, two in zip(*pairs, strict=True):
            for name in ("samples", "mask", "noise", "rows"):
                assert torch.equal(getattr(one, name), getattr(two, name))
            largest = max(largest, float((one.wave - two.wave).abs().max()))
            assert not one.errors and not two.errors
            seen += len(one.rows)
    print(f"\n{ranks} rank(s), {workers} workers: largest difference {largest:.1e}")
    assert seen == PIECES and largest < TOLERANCE


def test_a_damaged_shard_is_named_and_skipped(music, packed):
    tracks = read_manifest(packed / "train.csv", packed)
    parts = tracks["wav"].map(parse)
    torn = parts[len(parts) // 2].file
    whole = os.path.getsize(torn)
    lost = {row for row, part in parts.items() if part.file == torn and part.offset > whole // 2}
    with open(torn, "r+b") as file:
        file.truncate(whole // 2)
    named = {}
    for batch in batches(tracks, rank=0, ranks=1, workers=2):
        named |= dict(batch.errors)
    drawn = {draw.row for draws in batches(tracks, 0, 1, 0).batch_sampler for draw in draws}
    assert 10 < len(named)
    for wav, reason in named.items():
        assert wav.startswith(torn) and parse(wav).item in reason
    found = {row for row, wav in tracks["wav"].items() if wav in named}
    assert lost & drawn <= found and len(found - lost) <= 1  # one that the tear goes through
