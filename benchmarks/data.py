"""The row of the data path: reading a part of a file, and a training step that waits for it."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
import soundfile
import soxr

from benchmarks import contest
from benchmarks.contest import AT_MOST, Claim, Contest, Disagreement
from benchmarks.embed import FILE_RATE, play
from benchmarks.timing import Spread
from benchmarks.training import TrainingStep
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import WeightedSegmentSampler
from speechbrain_music.dataio.segments import FrameGrid, SegmentDataset, collate
from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK, TOKEN_RATE

FORMATS = ("wav", "flac", "mp3", "ogg")
ALONE = "resampler alone"
READING_REACH, WAITING_REACH = 4, 0.05
SIZES = {"full": (600, 30), "quick": (60, 10), "tiny": (4, 1)}  # seconds of a file, of a part
SMALL = {"num_layers": 1, "d_model": 16, "ffn_units": 32, "codebook_size": 64}
# What waits: system, workers, what its yaml is told, batches of a window.
RUNS = {
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
        ("brn_sum", 2, {"batch_size": 1, "segment_seconds": 1, **SMALL}, 4),
        ("brn_sum_tiny", 0, {"batch_size": 2, "segment_seconds": 1, **SMALL}, 4),
    ],
}
WINDOWS = 3
NOTE = (
    "A part is read from the middle of a file of {seconds} s, 44.1 kHz, stereo: found, decoded, "
    "mixed down, resampled to 24 kHz as soxr does alone on the same samples. What libsndfile's "
    "decoder takes for that part is the other thing that cannot be spared. Waiting is the share "
    "of time that the loop stands still for the next batch, of segments from all four files, in "
    "windows of as many batches as the workers hold ready, after the first; forward and backward "
    "only, as brn_sum takes an optimiser step once in hundreds of such batches. brn_sum_tiny is "
    "as its yaml has it: tracks stay in memory once decoded, no workers."
)


def measure(size="full", device="cpu", seconds=60.0):
    """Reading beside the resampler, and waiting beside training.

    Arguments
    ---------
    size : str
        "full", "quick" or "tiny".
    device : str
        "cpu" or "cuda", of the training step.
    seconds : float
        About how long to time reading.

    Returns
    -------
    dict
        As `contest.measure`.

    Example
    -------
    >>> row = measure("tiny", seconds=0)
    >>> row["seconds"]["wav"]["median"] < row["seconds"]["ogg"]["median"]
    True
    """
    with TemporaryDirectory() as folder:
        write_files(folder, SIZES[size][0])
        row = contest.measure(partial(reading, folder=folder), size, device, seconds)
        for system, workers, changes, batches in RUNS[size]:
            waited, took = wait(folder, system, workers, device, batches, **changes)
            names = f"{system}, {workers} workers, waiting", f"{system}, {workers} workers, all"
            times = dict(zip(names, (waited, took), strict=True))
            what = f"share of training that waits for data, {system}, {workers} workers"
            claim = Claim(what, *names, WAITING_REACH, bound=AT_MOST)
            row["claims"].append(contest.settle(claim, times))
            row["seconds"] |= {name: Spread.of(times[name])._asdict() for name in names}
    return row


def write_files(folder, seconds):
    """music.wav, .flac, .mp3 and .ogg, 44.1 kHz stereo, in a folder.

    Example
    -------
    >>> folder = TemporaryDirectory()
    >>> write_files(folder.name, seconds=1)
    >>> sorted(path.name for path in Path(folder.name).iterdir())
    ['music.flac', 'music.mp3', 'music.ogg', 'music.wav']
    """
    block = min(seconds, 10)  # libsndfile's encoder of Ogg breaks on minutes at once
    paths = [Path(folder, f"music.{name}") for name in FORMATS]
    files = [soundfile.SoundFile(path, "w", FILE_RATE, 2) for path in paths]
    for seed in range(seconds // block):
        music = play(block, seed).astype(np.float32)
        for file in files:
            file.write(music)
    for file in files:
        file.close()


def reading(size="full", device="cpu", folder="."):
    """A part from the middle of each file, against the resampler alone on as many samples.

    Example
    -------
    >>> folder = TemporaryDirectory()
    >>> write_files(folder.name, seconds=4)
    >>> reading("tiny", folder=folder.name).contenders["ogg"]().shape
    (24000,)
    """
    whole, length = SIZES[size]
    start = whole // 2 - length // 2
    paths = {name: Path(folder, f"music.{name}") for name in FORMATS}
    samples = play(length).mean(axis=1).astype(np.float32)

    def resample():
        return soxr.resample(samples, FILE_RATE, SAMPLE_RATE, quality="HQ")

    contenders = {
        name: partial(read_segment, path, start * SAMPLE_RATE, length * SAMPLE_RATE)
        for name, path in paths.items()
    }

    def decode(path):
        with soundfile.SoundFile(path) as file:
            file.seek(start * FILE_RATE)
            file.read(length * FILE_RATE, dtype="float32")

    decoders = {f"{name} decoder": partial(decode, path) for name, path in paths.items()}
    both = {f"{name} decoder and resampler": [f"{name} decoder", ALONE] for name in FORMATS}

    def check(contenders):
        part = slice(start * SAMPLE_RATE, (start + length) * SAMPLE_RATE)
        for name, path in paths.items():
            decoded, _ = soundfile.read(path, dtype="float32")
            expected = soxr.resample(decoded.mean(axis=1), FILE_RATE, SAMPLE_RATE, quality="HQ")
            found = contenders[name]()
            if len(found) != length * SAMPLE_RATE:
                raise Disagreement(f"{name}: {len(found)} samples, not {length * SAMPLE_RATE}")
            error = np.abs(found - expected[part]).max()
            if not error < 1e-4:
                raise Disagreement(f"{name}: is {error:.1e} from the whole file resampled")

    what = f"reading {length} s from the middle of {whole} s"
    return Contest(
        {**contenders, **decoders, ALONE: resample},
        [
            Claim(f"{what}, {name}{beside}", name, other, reach, bound=AT_MOST)
            for others, beside, reach in (
                ([ALONE] * len(FORMATS), "", READING_REACH),
                (both, ", beside decoder and resampler", None),
            )
            for name, other in zip(FORMATS, others, strict=True)
        ],
        check,
        sums=both,
        note=NOTE.format(seconds=whole),
    )


def wait(folder, system, workers, device="cpu", batches=4, **changes):
    """Seconds that training waits for batches, and that a batch takes in all.

    Arguments
    ---------
    folder : path
        With what `write_files` writes.
    system : str
        Of hparams/.
    workers : int
        Processes that read.
    device : str
        "cpu" or "cuda".
    batches : int
        Of a window; what the workers hold ready is as much.
    **changes
        Of the system's yaml.

    Returns
    -------
    waited, took : list of float
        Of a batch, the mean in each of `WINDOWS` windows.

    Example
    -------
    >>> folder = TemporaryDirectory()
    >>> write_files(folder.name, seconds=4)
    >>> waited, took = wait(folder.name, "brn_sum_tiny", workers=0, num_layers=1)
    >>> all(0 < part < whole for part, whole in zip(waited, took))
    True
    """
    step = TrainingStep(system, device, **changes)
    loader = _make_loader(folder, step.hparams, workers, batches)
    stream = iter(loader)
    waited, took = [], []
    for count in range(1 + WINDOWS * batches):
        begun = perf_counter()
        batch = next(stream)
        ready = perf_counter()
        step.accumulate(batch.to(device)).item()  # waits for the device
        done = perf_counter()
        step.optimiser.zero_grad(set_to_none=True)
        if count:  # the first one starts the workers, and warms up
            waited.append(ready - begun)
            took.append(done - begun)
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
    draws = size * (1 + WINDOWS * batches + 2 * batches)  # more than are taken
    sampler = WeightedSegmentSampler(tracks["duration"], draws, size)
    options = {"prefetch_factor": batches // workers} if workers else {}
    return make_loader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, **options
    )
