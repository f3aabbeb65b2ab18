"""Three hours of music in the memory that half an hour takes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from tones import melody

from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.export import save_export
from speechbrain_music.models.frontend import LogMel

# A process of its own: its peak is only what this took. Not ru_maxrss, which begins at what the
# process that started it has held.
EMBED = r"""
import json, re, sys
from pathlib import Path
from speechbrain_music.inference import MusicEncoder
encoder = MusicEncoder.from_export(sys.argv[1], device="cpu")
pooled = encoder.encode_file(sys.argv[2], pool="mean_std")
frames = encoder.encode_file(sys.argv[2], out=sys.argv[3])
peak = 1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps([peak, pooled.lengths, frames.times[-1], pooled.values.tolist()]))
"""
MOST = 2 * 2**30  # bytes, as `MusicEncoder.encode_file` says


@pytest.mark.slow
def test_three_hours_take_no_more_memory_than_is_said(tmp_path):
    torch.manual_seed(0)
    encoder = Encoder(num_layers=1, d_model=16, ffn_units=32, frontend_channels=4)
    save_export(tmp_path / "export", encoder, LogMel())
    minute = melody(60, 44100, 2, np.random.default_rng(0))
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 44100, 2) as file:
        for _ in range(180):
            file.write(minute)
    paths = [tmp_path / name for name in ("export", "long.flac", "frames.npy")]
    command = [sys.executable, "-c", EMBED, *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, tokens, last, pooled = json.loads(result.stdout)
    print(f"peak {peak / 2**20:.0f} MB")
    assert peak < MOST
    frames = np.load(paths[2], mmap_mode="r")
    assert frames.shape == (tokens, 16) == (270000, 16) and last == 10799.96
    expected = np.concatenate([frames.mean(0, dtype="f8"), frames.std(0, dtype="f8")])
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-6)
