"""Training items: a crop of a track, its mask and its noise, each drawn from a key.

Nothing depends on history: draw number `index` of an epoch is a function of the seed, the epoch
and the index, on any worker or rank and after a restart.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from speechbrain_music.dataio.audio import SAMPLE_RATE, AudioError, read_segment, segment_bounds
from speechbrain_music.dataio.augment import augment_wave, draw_speed
from speechbrain_music.nnet.masking import mask_blocks

# The purpose comes first in a key, so that no two purposes share a random stream.
TRAIN, VALID, CORPUS = range(3)


class SegmentIndex(NamedTuple):
    """An item: the epoch, its place in the epoch's global order, and the manifest's row.

    Example
    -------
    >>> from speechbrain_music.dataio.sampler import WeightedSegmentSampler
    >>> next(iter(WeightedSegmentSampler([0.0, 1.0], draws=2, batch_size=2)))  # weight 0
    [SegmentIndex(epoch=0, index=0, row=1), SegmentIndex(epoch=0, index=1, row=1)]
    """

    epoch: int
    index: int
    row: int


@dataclass
class SegmentBatch:
    """A batch of B items, with T tokens in the longest and M masked tokens in all.

    wave (B, N) float32, samples (B,) int64, mask (B, T) bool, noise (4 M, 128) float32, rows (B,)
    int64; errors: one (path, reason) for each item that could not be read, which then has no
    masked token and does not count.

    Example
    -------
    >>> tracks = pd.DataFrame({"wav": ["a", "gone"], "start": 0, "stop": 48000, "duration": 2.0})
    >>> kept = {"a": np.ones(48000, np.float32)}
    >>> data = SegmentDataset(tracks, 50, FrameGrid(960, stack=4, bands=128), kept=kept)
    >>> batch = collate([data[SegmentIndex(0, 0, 0)], data[SegmentIndex(0, 1, 1)]])
    >>> batch.mask.any(dim=1).tolist(), [path for path, _ in batch.errors]
    ([True, False], ['gone'])
    """

    wave: torch.Tensor
    samples: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor
    rows: torch.Tensor
    errors: list

    def to(self, device, non_blocking=True):
        """The batch with its tensors on a device."""
        return SegmentBatch(
            **{
                name: value.to(device, non_blocking=non_blocking)
                if isinstance(value, torch.Tensor)
                else value
                for name, value in vars(self).items()
            }
        )

    def pin_memory(self):
        """Called by a DataLoader with pin_memory=True."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.pin_memory())
        return self


class SegmentDataset(Dataset):
    """Crops of tracks; an index is a `SegmentIndex`.

    Arguments
    ---------
    tracks : pandas.DataFrame
        Columns wav, start, stop (samples at the file's rate), duration (seconds); see
        `data_prep.manifest.read_manifest`.
    segment_tokens : int
        Length of a crop; a shorter track is taken whole.
    grid : FrameGrid
        Frames of the model.
    mask_block, mask_probability, noise_std
        See `nnet.masking.mask_blocks`; the standard deviation of the noise.
    seed, stream : int
        Key of everything random here, with the draw.
    kept : dict, optional
        Cache of decoded tracks (346 MB per hour, in each worker), for small corpora, where
        decoding takes longer than a small model's step. Data sets can share it.
    augment : bool
        Whether crops are played at another speed, level and timbre, see `dataio.augment`.

    Example
    -------
    >>> grid = FrameGrid(samples_per_token=960, stack=4, bands=128)
    >>> tracks = pd.DataFrame({"wav": ["gone.wav"], "start": 0, "stop": 48000, "duration": 2.0})
    >>> item = SegmentDataset(tracks, 25, grid)[SegmentIndex(0, 0, 0)]
    >>> item["error"][0], item["mask"].any()  # an unreadable track is reported, not raised
    ('gone.wav', tensor(False))
    """

    def __init__(
        self,
        tracks,
        segment_tokens,
        grid,
        mask_block=10,
        mask_probability=0.2,
        noise_std=0.1,
        seed=0,
        stream=TRAIN,
        kept=None,
        augment=False,
    ):
        self.paths = tracks["wav"].tolist()
        self.starts, self.samples = segment_bounds(tracks, SAMPLE_RATE)
        self.segment_samples = segment_tokens * grid.samples_per_token
        self.grid = grid
        self.mask_block = mask_block
        self.mask_probability = mask_probability
        self.noise_std = noise_std
        self.seed = seed
        self.stream = stream
        self.kept = kept
        self.augment = augment

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
        least = 2 * self.mask_block * self.grid.samples_per_token
        # A short track that is played fast must stay long enough to be masked.
        speed = min(draw_speed(rng), samples / least) if self.augment else 1.0
        length = min(round(self.segment_samples * speed), samples)
        start = self.starts[draw.row] + rng.integers(samples - length + 1)
        try:
            wave = self._read(self.paths[draw.row], int(start), int(length))
            if self.augment:
                wave = augment_wave(wave, speed, rng)[: self.segment_samples]
            tokens = -(-len(wave) // self.grid.samples_per_token)
            mask = mask_blocks(tokens, self.mask_block, self.mask_probability, rng)
            error = None
        except (AudioError, ValueError) as fault:
            wave = np.zeros(least, np.float32)
            mask = np.zeros(2 * self.mask_block, bool)
            error = (self.paths[draw.row], str(fault))
        frames = int(mask.sum()) * self.grid.stack
        noise = rng.standard_normal((frames, self.grid.bands), np.float32) * self.noise_std
        return {
            "wave": torch.from_numpy(wave),
            "mask": torch.from_numpy(mask),
            "noise": torch.from_numpy(noise.astype(np.float32)),
            "row": draw.row,
            "error": error,
        }


class FrameGrid(NamedTuple):
    """The model's frame grid: samples per token, frames per token, bands.

    Example
    -------
    >>> grid = FrameGrid(samples_per_token=960, stack=4, bands=128)
    >>> 24000 / grid.samples_per_token, 24000 / grid.samples_per_token * grid.stack
    (25.0, 100.0)
    """

    samples_per_token: int
    stack: int
    bands: int


def collate(items):
    """Pads a list of items to a `SegmentBatch`.

    Example
    -------
    >>> def item(n):
    ...     mask = torch.arange(n) < 1
    ...     return {"wave": torch.ones(n), "mask": mask, "noise": torch.ones(4, 2), "row": n,
    ...             "error": None}
    >>> batch = collate([item(2), item(3)])
    >>> batch.wave.shape, batch.samples, batch.noise.shape
    (torch.Size([2, 3]), tensor([2, 3]), torch.Size([8, 2]))
    """
    return SegmentBatch(
        wave=pad_sequence([item["wave"] for item in items], batch_first=True),
        samples=torch.tensor([len(item["wave"]) for item in items]),
        mask=pad_sequence([item["mask"] for item in items], batch_first=True),
        noise=torch.cat([item["noise"] for item in items]),
        rows=torch.tensor([item["row"] for item in items]),
        errors=[item["error"] for item in items if item["error"]],
    )


def split_tracks(tracks, segment_seconds, min_seconds):
    """Cuts tracks into consecutive pieces of one segment, without a too short remainder.

    Arguments
    ---------
    tracks : pandas.DataFrame
        As for `SegmentDataset`.
    segment_seconds, min_seconds : float
        Length of a piece, and the shortest remainder that is kept.

    Returns
    -------
    pandas.DataFrame
        The same columns, one row per piece.

    Example
    -------
    >>> tracks = pd.DataFrame({"wav": ["a"], "start": 0, "stop": 700, "duration": 7.0})
    >>> split_tracks(tracks, 3.0, 0.8)[["start", "stop"]].values.tolist()
    [[0, 300], [300, 600], [600, 700]]
    """
    pieces = []
    for track in tracks.to_dict("records"):
        rate = (track["stop"] - track["start"]) / track["duration"]
        step = round(segment_seconds * rate)
        # A whole piece is long enough, even if the manifest's duration is rounded down.
        least = min(step, min_seconds * rate)
        for start in range(track["start"], track["stop"], step):
            stop = min(start + step, track["stop"])
            if start == track["start"] or stop - start >= least:
                duration = (stop - start) / rate
                pieces.append(track | {"start": start, "stop": stop, "duration": duration})
    return pd.DataFrame(pieces, columns=tracks.columns)
