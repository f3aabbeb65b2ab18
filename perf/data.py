"""The data path: reading a part of a file, and a training step that waits for its batch."""

from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import soundfile
import soxr

from perf import SIZES
from perf.benchmark import Benchmark, Comparison, Mismatch
from perf.training import TrainingStep
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import WeightedSegmentSampler
from speechbrain_music.dataio.segments import FrameGrid, SegmentDataset, collate
from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK, TOKEN_RATE

FORMATS = ("wav", "flac", "mp3", "ogg")
FILE_RATE = 44100
RESAMPLER = "resampler"
READING_TARGET, WAITING_TARGET = 4, 0.05
LOOPS = [  # system, workers, batches per window; the last keeps decoded tracks in memory
    ("brn_sum", 0, 4),
    ("brn_sum", 2, 4),
    ("brn_sum_tiny", 0, 12),
]
WINDOWS = 3


def data(size="full", device="cpu", folder="."):
    """Reading a part of a file, and the share of training that waits for its batch.

    Reading: seek, decode, mix down and resample to 24 kHz, from the middle of a 44.1 kHz stereo
    file. Waiting: over windows of as many batches as the workers prefetch, after the first batch.
    """
    whole, length = SIZES["file"][size]
    start = whole // 2 - length // 2
    paths = write_files(folder, whole)
    samples = make_music(length).mean(axis=1).astype(np.float32)
    resample = partial(soxr.resample, samples, FILE_RATE, SAMPLE_RATE, quality="HQ")

    def decode_and_resample(path):
        soundfile.read(path, length * FILE_RATE, start * FILE_RATE, dtype="float32")
        resample()

    def check(candidates):
        part = slice(start * SAMPLE_RATE, (start + length) * SAMPLE_RATE)
        for name, path in paths.items():
            decoded, _ = soundfile.read(path, dtype="float32")
            expected = soxr.resample(decoded.mean(axis=1), FILE_RATE, SAMPLE_RATE, quality="HQ")
            found = candidates[name]()
            if len(found) != length * SAMPLE_RATE:
                raise Mismatch(f"{name}: {len(found)} samples, not {length * SAMPLE_RATE}")
            if not np.allclose(found, expected[part], rtol=0, atol=1e-4):
                raise Mismatch(f"{name}: differs from the whole file resampled")

    candidates, comparisons, times = {RESAMPLER: resample}, [], {}
    for name, path in paths.items():
        label = f"reading {length} s from the middle of {whole} s, {name}"
        both = f"{name} decoder + {RESAMPLER}"
        candidates[name] = partial(read_segment, path, start * SAMPLE_RATE, length * SAMPLE_RATE)
        candidates[both] = partial(decode_and_resample, path)
        comparisons.append(Comparison(label, name, RESAMPLER, READING_TARGET, bound="<="))
        comparisons.append(Comparison(label, name, both, bound="<="))
    for system, workers, batches in LOOPS:
        options = {} if (system, size) == ("brn_sum_tiny", "full") else SIZES["loop"][size]
        name = f"{system}, {workers} workers"
        sides = f"{name}, waiting", f"{name}, all"
        waits = wait(paths.values(), system, workers, device, batches, **options)
        times |= zip(sides, waits, strict=True)
        label = f"waiting for data, {name}"
        comparisons.append(Comparison(label, *sides, WAITING_TARGET, "share", "<="))
    checked = "the whole file resampled, within 1e-4"
    return Benchmark("data path", candidates, comparisons, check, checked, times=times)


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


def wait(paths, system, workers, device, batches, **options):
    """Seconds per batch that training waits for data, and in all: two lists, of `WINDOWS` means."""
    step = TrainingStep(system, device, **options)
    tracks = pd.DataFrame({"wav": paths, "start": 0})
    tracks["stop"] = [soundfile.info(path).frames for path in paths]
    tracks["duration"] = tracks["stop"] / FILE_RATE
    kept = {path: read_segment(path) for path in paths} if step.hparams["keep_in_memory"] else None
    dataset = SegmentDataset(
        tracks,
        segment_tokens=round(step.hparams["segment_seconds"] * TOKEN_RATE),
        grid=FrameGrid(SAMPLES_PER_TOKEN, STACK, BANDS),
        kept=kept,
    )
    size, count = step.hparams["batch_size"], 1 + WINDOWS * batches
    draws = size * (count + 2 * batches)  # more than are used
    sampler = WeightedSegmentSampler(tracks["duration"], draws, size)
    options = {"batch_sampler": sampler, "collate_fn": collate, "num_workers": workers}
    options |= {"prefetch_factor": batches // workers} if workers else {}
    stream = iter(make_loader(dataset, **options))
    waited, took = [], []
    for _ in range(count):
        start = perf_counter()
        batch = next(stream)
        waited.append(perf_counter() - start)
        step.accumulate(batch.to(device)).item()  # waits for the device
        took.append(perf_counter() - start)
        step.optimizer.zero_grad(set_to_none=True)
    # the first batch starts the workers
    return [np.reshape(t[1:], (WINDOWS, batches)).mean(axis=1).tolist() for t in (waited, took)]
