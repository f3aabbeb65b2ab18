"""The data path: reading a part of a file."""

from functools import partial

import numpy as np
import soundfile
import soxr

from perf.benchmark import Benchmark, Comparison
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment

FORMATS = ("wav", "flac", "mp3", "ogg")
FILE_RATE = 44100
RESAMPLER = "resampler"
READING_TARGET = 4


def data(size, device, folder):
    """Seek, decode, mix down and resample to 24 kHz, from the middle of a 44.1 kHz stereo file."""
    whole, length = size
    start = whole // 2 - length // 2
    music = make_music(length).astype(np.float32)
    samples = music.mean(axis=1)
    resample = partial(soxr.resample, samples, FILE_RATE, SAMPLE_RATE, quality="HQ")

    def decode_and_resample(path):
        soundfile.read(path, length * FILE_RATE, start * FILE_RATE, dtype="float32")
        resample()

    candidates, comparisons = {RESAMPLER: resample}, []
    for name in FORMATS:
        path, both = f"{folder}/music.{name}", f"{name} decoder + {RESAMPLER}"
        with soundfile.SoundFile(path, "w", FILE_RATE, 2) as file:
            for block in whole // length * np.array_split(music, length):
                file.write(block)  # of a second: libsndfile's Ogg encoder fails on minutes
        candidates[name] = partial(read_segment, path, start * SAMPLE_RATE, length * SAMPLE_RATE)
        candidates[both] = partial(decode_and_resample, path)
        label = f"reading {length} s from the middle of {whole} s, {name}"
        comparisons.append(Comparison(label, name, RESAMPLER, READING_TARGET, bound="<="))
        comparisons.append(Comparison(label, name, both, bound="<="))
    return Benchmark("reading audio", candidates, comparisons)


def make_music(seconds):
    """Notes of half a second with four partials, and noise: (samples, 2) at 44.1 kHz."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * FILE_RATE)) / FILE_RATE
    pitches = 440 * 2 ** (rng.integers(-24, 8, int(2 * seconds) + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitches[(2 * time).astype(int)]) / FILE_RATE
    notes = sum(np.sin(k * phase) / k for k in range(1, 5)) * np.exp(-2 * (time % 0.5))
    return notes[:, None] * [0.1, 0.2] + 0.003 * rng.standard_normal((len(time), 2))
