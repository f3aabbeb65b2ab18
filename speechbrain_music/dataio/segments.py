"""Training items: a crop of a track, its mask and its noise, each drawn from a key.

Nothing depends on history: draw number `index` of an epoch is a function of the seed, the epoch
and the index, on any worker or rank and after a restart.
"""

from dataclasses import InitVar, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import soxr
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from speechbrain_music.dataio.audio import SAMPLE_RATE, AudioError, read_segment, segment_bounds
from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK
from speechbrain_music.nnet.masking import mask_blocks

# The purpose comes first in a key, so that no two purposes share a random stream.
TRAIN, VALID, CORPUS = range(3)

# Augmentation, for corpora of minutes, not hours.
SPEED = 0.3  # at most, of the logarithm: 0.74 to 1.35 times, pitch and tempo together
LEVEL = (-12.0, 6.0)  # dB
TAPS, SPREAD = 3, 0.3  # of a filter after its first tap of 1: a few dB up or down, smooth


class SegmentIndex(NamedTuple):
    """An item: the epoch, its place in the epoch's global order, and the manifest's row."""

    epoch: int
    index: int
    row: int


class SegmentBatch(NamedTuple):
    """A batch of B items, with T tokens in the longest and M masked tokens in all.

    wave (B, N) float32, samples (B,) int64, mask (B, T) bool, noise (4 M, 128) float32; errors: one
    (path, reason) for each item that could not be read, which then has no masked token and does not
    count.
    """

    wave: torch.Tensor
    samples: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor
    errors: list


@dataclass(eq=False, repr=False)
class SegmentDataset(Dataset):
    """Crops of tracks; an index is a `SegmentIndex`.

    `tracks` is a manifest, see `data_prep.manifest.read_manifest`; a track shorter than
    `segment_tokens` is taken whole. `kept`, if given, caches decoded tracks (346 MB per hour, in
    each worker), for small corpora, where decoding takes longer than a small model's step; data
    sets can share it. `augment` changes speed, level and timbre, see `augment_wave`.
    """

    tracks: InitVar[pd.DataFrame]
    segment_tokens: int
    mask_block: int = 10
    mask_probability: float = 0.2
    noise_std: float = 0.1
    seed: int = 0
    stream: int = TRAIN
    kept: dict | None = None
    augment: bool = False

    def __post_init__(self, tracks):
        self.paths = tracks["wav"].tolist()
        self.starts, self.samples = segment_bounds(tracks, SAMPLE_RATE)
        self.segment_samples = self.segment_tokens * SAMPLES_PER_TOKEN

    def __len__(self):
        return len(self.paths)

    def _read(self, path, start, length):
        if self.kept is None:
            return read_segment(path, start, length)
        if path not in self.kept:
            self.kept[path] = read_segment(path)
        return self.kept[path][start : start + length]

    def __getitem__(self, draw):
        rng = np.random.default_rng([self.seed, self.stream, draw.epoch, draw.index])
        samples = self.samples[draw.row]
        least = 2 * self.mask_block * SAMPLES_PER_TOKEN
        speed = 1.0
        if self.augment:  # a short track that is played fast must stay long enough to be masked
            speed = min(float(np.exp(rng.uniform(-SPEED, SPEED))), samples / least)
        length = min(round(self.segment_samples * speed), samples)
        start = self.starts[draw.row] + rng.integers(samples - length + 1)
        try:
            wave = self._read(self.paths[draw.row], int(start), int(length))
            if self.augment:
                wave = augment_wave(wave, speed, rng)[: self.segment_samples]
            tokens = -(-len(wave) // SAMPLES_PER_TOKEN)
            mask = mask_blocks(tokens, self.mask_block, self.mask_probability, rng)
            error = None
        except (AudioError, ValueError) as fault:
            wave = np.zeros(least, np.float32)
            mask = np.zeros(2 * self.mask_block, bool)
            error = (self.paths[draw.row], str(fault))
        frames = int(mask.sum()) * STACK
        noise = rng.standard_normal((frames, BANDS), np.float32) * self.noise_std
        return {
            "wave": torch.from_numpy(wave),
            "mask": torch.from_numpy(mask),
            "noise": torch.from_numpy(noise.astype(np.float32)),
            "error": error,
        }


def augment_wave(wave, speed, rng):
    """Change a crop's speed, level and timbre: (about n / speed,) float32.

    Example
    -------
    >>> wave = np.random.default_rng(0).standard_normal(24000, np.float32)
    >>> len(augment_wave(wave, 1.25, np.random.default_rng(0)))
    19200
    """
    wave = soxr.resample(wave, speed, 1.0)
    taps = np.concatenate([[1.0], rng.normal(0, SPREAD, TAPS)])
    taps *= 10 ** (rng.uniform(*LEVEL) / 20) / np.linalg.norm(taps)
    return np.convolve(wave, taps.astype(np.float32))[: len(wave)]


def collate(items):
    """Pad a list of items to a `SegmentBatch`."""
    return SegmentBatch(
        wave=pad_sequence([item["wave"] for item in items], batch_first=True),
        samples=torch.tensor([len(item["wave"]) for item in items]),
        mask=pad_sequence([item["mask"] for item in items], batch_first=True),
        noise=torch.cat([item["noise"] for item in items]),
        errors=[item["error"] for item in items if item["error"]],
    )


def split_tracks(tracks, segment_seconds, min_seconds, hop_seconds=None):
    """Cut tracks into pieces of one segment; a remainder shorter than `min_seconds` is dropped.

    Pieces follow each other, or begin every `hop_seconds`.
    """
    pieces = []
    for track in tracks.to_dict("records"):
        rate = (track["stop"] - track["start"]) / track["duration"]
        length = round(segment_seconds * rate)
        step = round((hop_seconds or segment_seconds) * rate)
        # A whole piece is long enough, even if the manifest's duration is rounded down.
        least = min(length, min_seconds * rate)
        for start in range(track["start"], track["stop"], step):
            stop = min(start + length, track["stop"])
            if start == track["start"] or stop - start >= least:
                duration = (stop - start) / rate
                pieces.append(track | {"start": start, "stop": stop, "duration": duration})
    return pd.DataFrame(pieces, columns=tracks.columns)
