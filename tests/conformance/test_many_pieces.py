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
from speechbrain_music.dataio.sampler import WeightedSegmentSampler
from speechbrain_music.dataio.segments import FrameGrid, SegmentDataset, collate

pytestmark = pytest.mark.slow
PIECES = 2_000
SHARD_MB = 8
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
    shards.pack([music / "train.csv"], music, music / "whole", shard_mb=SHARD_MB, workers=1)
    return music / "whole"


def test_killed_packing_is_resumed(music, packed):
    out = music / "killed"
    command = [sys.executable, "-m", "speechbrain_music.data_prep", "shards", music / "train.csv"]
    command += ["--data_folder", music, "--out", out, "--shard_mb", str(SHARD_MB), "--workers", "2"]
    for whole in (2, 5):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(list(out.glob("*.json"))) < whole:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "train.csv").exists()
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


@pytest.mark.parametrize("ranks, workers", [(1, 0), (2, 2)])
def test_every_draw_is_that_from_files(music, packed, ranks, workers):
    manifests = [read_manifest(folder / "train.csv", folder) for folder in (music, packed)]
    seen = 0
    for rank in range(ranks):
        pairs = (batches(tracks, rank, ranks, workers) for tracks in manifests)
        for one, two in zip(*pairs, strict=True):
            for name in ("samples", "mask", "noise", "rows"):
                assert torch.equal(getattr(one, name), getattr(two, name))
            assert (one.wave - two.wave).abs().max() < TOLERANCE
            assert not one.errors and not two.errors
            seen += len(one.rows)
    assert seen == PIECES
