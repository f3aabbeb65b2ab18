"""The data path: reading a part of a file, and a training step that waits for its batch."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
import soundfile
import soxr

from perf.benchmark import (
    AT_MOST,
    Benchmark,
    Comparison,
    Mismatch,
    compare,
    measure,
    quartiles,
)
from perf.training import TINY, TrainingStep
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import WeightedSegmentSampler
from speechbrain_music.dataio.segments import FrameGrid, SegmentDataset, collate
from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK, TOKEN_RATE

FORMATS = ("wav", "flac", "mp3", "ogg")
FILE_RATE = 44100
RESAMPLER = "resampler"
READING_TARGET, WAITING_TARGET = 4, 0.05
SIZES = {"full": (600, 30), "quick": (60, 10), "tiny": (4, 1)}  # seconds of a file, of a part
# System, workers, options of its yaml, batches per window.
LOOPS = {
    "full": [
        ("brn_sum", 0, {"batch_size": 1}, 4),
        ("brn_sum", 2, {"batch_size": 1}, 4),
        ("brn_sum_tiny", 0, {}, 12),
    ],
    "quick": [
        ("brn_sum", 2, {"batch_size": 1, "num_layers": 1, "segment_seconds": 10}, 4),
        ("brn_sum_tiny", 0, {}, 4),
    ],
    "tiny": [
        ("brn_sum", 2, {"batch_size": 1, "segment_seconds": 1, **TINY}, 4),
        ("brn_sum_tiny", 0, {"batch_size": 2, "segment_seconds": 1, **TINY}, 4),
    ],
}
WINDOWS = 3
NOTE = (
    "Reading: seek, decode, mix down and resample to 24 kHz, from the middle of a 44.1 kHz stereo "
    "file; the baselines are soxr alone on as many samples, and libsndfile's decoder plus soxr. "
    "Waiting: the share of time in which the training loop (forward and backward) waits for its "
    "next batch, over windows of as many batches as the workers prefetch, after the first batch. "
    "brn_sum_tiny keeps decoded tracks in memory, as its yaml says."
)


def data(size="full", device="cpu", seconds=60.0):
    """Time of reading against the resampler, and share of training that waits for data."""
    with TemporaryDirectory() as folder:
        write_files(folder, SIZES[size][0])
        result = measure(partial(reading, folder=folder), size, device, seconds)
        for system, workers, options, batches in LOOPS[size]:
            waited, took = wait(folder, system, workers, device, batches, **options)
            name = f"{system}, {workers} workers"
            times = {f"{name}, waiting": waited, f"{name}, all": took}
            comparison = Comparison(
                f"waiting for data, {name}", *times, WAITING_TARGET, bound=AT_MOST
            )
            result["comparisons"].append(compare(comparison, times, {}))
            result["seconds"] |= {name: quartiles(samples) for name, samples in times.items()}
    return result


def make_music(seconds, seed=0):
    """Notes of half a second with four partials, and noise: (samples, 2) at 44.1 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * FILE_RATE)) / FILE_RATE
    pitches = 440 * 2 ** (rng.integers(-24, 8, int(2 * seconds) + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitches[(2 * time).astype(int)]) / FILE_RATE
    notes = sum(np.sin(k * phase) / k for k in range(1, 5)) * np.exp(-2 * (time % 0.5))
    return notes[:, None] * [0.1, 0.2] + 0.003 * rng.standard_normal((len(time), 2))


def write_files(folder, seconds):
    """Write music.wav, .flac, .mp3 and .ogg, 44.1 kHz stereo, into a folder."""
    block = min(seconds, 10)  # libsndfile's Ogg encoder fails on minutes at once
    files = [soundfile.SoundFile(Path(folder, f"music.{x}"), "w", FILE_RATE, 2) for x in FORMATS]
    for seed in range(seconds // block):
        music = make_music(block, seed).astype(np.float32)
        for file in files:
            file.write(music)
    for file in files:
        file.close()


def reading(size="full", device="cpu", folder="."):
    """A part from the middle of each file of `write_files`, against its decoder and resampler."""
    whole, length = SIZES[size]
    start = whole // 2 - length // 2
    paths = {name: Path(folder, f"music.{name}") for name in FORMATS}
    samples = make_music(length).mean(axis=1).astype(np.float32)

    def decode(path):
        with soundfile.SoundFile(path) as file:
            file.seek(start * FILE_RATE)
            file.read(length * FILE_RATE, dtype="float32")

    candidates = {
        name: partial(read_segment, path, start * SAMPLE_RATE, length * SAMPLE_RATE)
        for name, path in paths.items()
    }
    candidates |= {f"{name} decoder": partial(decode, path) for name, path in paths.items()}
    candidates[RESAMPLER] = partial(soxr.resample, samples, FILE_RATE, SAMPLE_RATE, quality="HQ")
    sums = {f"{name} decoder + {RESAMPLER}": [f"{name} decoder", RESAMPLER] for name in FORMATS}

    def check(candidates):
        part = slice(start * SAMPLE_RATE, (start + length) * SAMPLE_RATE)
        for name, path in paths.items():
            decoded, _ = soundfile.read(path, dtype="float32")
            expected = soxr.resample(decoded.mean(axis=1), FILE_RATE, SAMPLE_RATE, quality="HQ")
            found = candidates[name]()
            if len(found) != length * SAMPLE_RATE:
                raise Mismatch(f"{name}: {len(found)} samples, not {length * SAMPLE_RATE}")
            error = np.abs(found - expected[part]).max()
            if not error < 1e-4:
                raise Mismatch(f"{name}: differs by {error:.1e} from the whole file resampled")

    label = f"reading {length} s from the middle of {whole} s"
    return Benchmark(
        "data path",
        candidates,
        [
            Comparison(f"{label}, {name}", name, baseline, target, bound=AT_MOST)
            for baselines, target in (([RESAMPLER] * len(FORMATS), READING_TARGET), (sums, None))
            for name, baseline in zip(FORMATS, baselines, strict=True)
        ],
        check,
        "the whole file resampled, within 1e-4",
        sums=sums,
        note=NOTE,
    )


def wait(folder, system, workers, device="cpu", batches=4, **options):
    """Seconds per batch that training waits for data, and in all: two lists, of `WINDOWS` means."""
    step = TrainingStep(system, device, **options)
    stream = iter(_make_loader(folder, step.hparams, workers, batches))
    waited, took = [], []
    for count in range(1 + WINDOWS * batches):
        start = perf_counter()
        batch = next(stream)
        ready = perf_counter()
        step.accumulate(batch.to(device)).item()  # waits for the device
        done = perf_counter()
        step.optimizer.zero_grad(set_to_none=True)
        if count:  # the first starts the workers
            waited.append(ready - start)
            took.append(done - start)
    return [np.reshape(times, (WINDOWS, batches)).mean(axis=1).tolist() for times in (waited, took)]


def _make_loader(folder, hparams, workers, batches):
    paths = [str(Path(folder, f"music.{name}")) for name in FORMATS]
    frames = [soundfile.info(path).frames for path in paths]
    tracks = pd.DataFrame({"wav": paths, "start": 0, "stop": frames})
    tracks["duration"] = tracks["stop"] / FILE_RATE
    dataset = SegmentDataset(
        tracks,
        segment_tokens=round(hparams["segment_seconds"] * TOKEN_RATE),
        grid=FrameGrid(SAMPLES_PER_TOKEN, STACK, BANDS),
        kept={path: read_segment(path) for path in paths} if hparams["keep_in_memory"] else None,
    )
    size = hparams["batch_size"]
    draws = size * (1 + WINDOWS * batches + 2 * batches)  # more than are used
    sampler = WeightedSegmentSampler(tracks["duration"], draws, size)
    options = {"prefetch_factor": batches // workers} if workers else {}
    return make_loader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, **options
    )
