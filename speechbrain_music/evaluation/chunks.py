"""Chunks of annotated tracks: what an encoder gets at once in an evaluation."""

import logging
from typing import NamedTuple

import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from speechbrain_music.dataio.audio import AudioError, read_segment, segment_bounds
from speechbrain_music.dataio.segments import split_tracks
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")


def cut_into_chunks(
    tracks,
    chunk_seconds=None,
    min_last_chunk_seconds=1.0,
    max_seconds=None,
    hop_seconds=None,
    excerpt="beginning",
):
    """Cuts a manifest's rows into chunks: one row each, with the columns of `tracks` and `track`.

    Rows with the same `track` (a column of data sets that come in clips), else with the same ID,
    share one prediction. Without `chunk_seconds` rows stay whole. Chunks follow each other, or
    begin every `hop_seconds`. A last chunk shorter than `min_last_chunk_seconds` is left out,
    unless it is the only one. Of rows longer than `max_seconds` so much is used,
    the `excerpt` "beginning" or "middle".
    """
    tracks = tracks.copy()
    if "track" not in tracks:
        tracks["track"] = tracks["ID"]
    if max_seconds is not None:
        rate = (tracks["stop"] - tracks["start"]) / tracks["duration"]
        used = tracks["duration"].clip(upper=max_seconds)
        if excerpt == "middle":
            tracks["start"] += (rate * (tracks["duration"] - used) / 2).round().astype("int64")
        tracks["duration"] = used
        tracks["stop"] = tracks["start"] + (rate * tracks["duration"]).round().astype("int64")
    if chunk_seconds is None:
        return tracks.reset_index(drop=True)
    return split_tracks(tracks, chunk_seconds, min_last_chunk_seconds, hop_seconds)


class LabelledChunks(NamedTuple):
    """Chunks of all splits and the labels of their tracks."""

    table: pd.DataFrame  # one row per chunk, with its `track` and `split`
    names: dict  # split -> its tracks, in order
    labels: dict  # split -> targets of its tracks; by the frame, their Beats or LabelledIntervals
    absent: dict  # split -> classes that no track of it has
    seconds: dict | None = None  # by the frame: split -> durations of its tracks


def cut_splits(manifests, hparams):
    """Cuts the manifests (split -> table) of a task into chunks and encodes the tracks' labels.

    Raises UserError for a bad label, or if the training tracks have fewer than two classes.
    """
    task = hparams["task"]
    keys = "chunk_seconds", "min_last_chunk_seconds", "max_seconds", "hop_seconds", "excerpt"
    options = {key: hparams.get(key) for key in keys}
    parts = {split: cut_into_chunks(manifests[split], **options) for split in SPLITS}
    names = {split: list(dict.fromkeys(part["track"])) for split, part in parts.items()}
    # All chunks of a track have its labels.
    firsts = {split: part[~part["track"].duplicated()] for split, part in parts.items()}
    targets = {split: task.encode(first) for split, first in firsts.items()}
    absent = {split: task.absent(targets[split]) for split in SPLITS}
    if len(absent["train"]) > max(0, task.outputs - 2):
        raise UserError(
            f"the training split has tracks of {task.outputs - len(absent['train'])} of "
            f"{task.outputs} classes, two are needed: use more data, or a larger --replica_scale"
        )
    for split, classes in absent.items():
        if classes:
            shown = ", ".join(classes[:10]) + (" ..." if len(classes) > 10 else "")
            logger.warning(f"{len(classes)} classes have no {split} track: {shown}")
    table = pd.concat([parts[split].assign(split=split) for split in SPLITS], ignore_index=True)
    return LabelledChunks(table, names, targets, absent)


class WaveBatch(NamedTuple):
    """B chunks, padded to one length; those that could not be read are in `errors` instead."""

    wave: torch.Tensor  # (B, N) float32
    samples: torch.Tensor  # (B,) int64
    rows: torch.Tensor  # (B,) int64, of the table of chunks
    tracks: torch.Tensor  # (B,) int64, or None
    targets: torch.Tensor  # (B, ...), or None
    errors: list  # (row, reason)


class ChunkDataset(Dataset):
    """Waves of chunks; an index is a list of rows, an item a `WaveBatch`.

    tracks (chunks,) int64 and targets (tracks, ...) are of a labelled split only.
    """

    def __init__(self, chunks, sample_rate, tracks=None, targets=None):
        self.paths = chunks["wav"].tolist()
        self.starts, lengths = segment_bounds(chunks, sample_rate)
        self.lengths = lengths.clip(min=1)
        self.sample_rate = sample_rate
        self.tracks, self.targets = tracks, targets

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        waves, read, errors = [], [], []
        for row in rows:
            bounds = int(self.starts[row]), int(self.lengths[row])
            try:
                wave = read_segment(self.paths[row], *bounds, self.sample_rate)
            except AudioError as error:
                errors.append((int(row), str(error)))
            else:
                waves.append(torch.from_numpy(wave))
                read.append(int(row))
        rows = torch.tensor(read, dtype=torch.long)
        tracks = None if self.tracks is None else self.tracks[rows]
        return WaveBatch(
            pad_sequence(waves, batch_first=True) if waves else torch.zeros(0, 1),
            torch.tensor([len(wave) for wave in waves], dtype=torch.long),
            rows,
            tracks,
            None if tracks is None else self.targets[tracks],
            errors,
        )
