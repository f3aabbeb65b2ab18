"""The data path: reading a part of a file."""

from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from perf import SIZES
from perf.benchmark import Benchmark, Comparison
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment

FORMATS = ("wav", "flac", "mp3", "ogg")
FILE_RATE = 44100
RESAMPLER = "resampler"
READING_TARGET = 4


def data(size="full", device="cpu", folder="."):
    """Seek, decode, mix down and resample to 24 kHz, from the middle of a 44.1 kHz stereo file."""
    whole, length = SIZES["file"][size]
    start = whole // 2 - length // 2
    paths = write_files(folder, whole)
    samples = make_music(length).mean(axis=1).astype(np.float32)
    resample = partial(soxr.resample, samples, FILE_RATE, SAMPLE_RATE, quality="HQ")

    def decode_and_resample(path):
        soundfile.read(path, length * FILE_RATE, start * FILE_RATE, dtype="float32")
        resample()

    candidates, comparisons = {RESAMPLER: resample}, []
    for name, path in paths.items():
        label = f"reading {length} s from the middle of {whole} s, {name}"
        both = f"{name} decoder + {RESAMPLER}"
        candidates[name] = partial(read_segment, path, start * SAMPLE_RATE, length * SAMPLE_RATE)
        candidates[both] = partial(decode_and_resample, path)
        comparisons.append(Comparison(label, name, RESAMPLER, READING_TARGET, bound="<="))
        comparisons.append(Comparison(label, name, both, bound="<="))
    return Benchmark("reading audio", candidates, comparisons)


def make_music(seconds, seed=0):
    """Notes of half a second with four partials, and noise: (samples, 2) at 44.1 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * FILE_RATE)) / FILE_RATE
    pitches = 440 * 2 ** (rng.integers(-24, 8, int(2 * seconds) + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitches[(2 * time).astype(int)]) / FILE_RATE
    notes = sum(np.sin(k * phase) / k for k in range(1, 5)) * np.exp(-2 * (time % 0.5))
    return notes[:, None] * [0.1, 0.2] + 0.003 * rng.standard_normal((len(time), 2))


def write_files(folder, seconds):
    """Write stereo music at 44.1 kHz into a folder: format -> path."""
    paths = {name: str(Path(folder, f"music.{name}")) for name in FORMATS}
    block = min(seconds, 10)  # libsndfile's Ogg encoder fails on minutes at once
    music = [make_music(block, seed).astype(np.float32) for seed in range(seconds // block)]
    for path in paths.values():
        with soundfile.SoundFile(path, "w", FILE_RATE, 2) as file:
            for part in music:
                file.write(part)
    return paths
