"""Features by the frame: whole tracks in overlapping chunks, cached, read in windows and whole."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from speechbrain_music.dataio.overlap import plan_chunks
from speechbrain_music.evaluation.chunks import SPLITS, LabelledChunks
from speechbrain_music.evaluation.features import FeatureCache, ShuffledBatches, wave_parts
from speechbrain_music.evaluation.heads import HeadBatch
from speechbrain_music.metrics.base import read_column
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.utils.errors import UserError


def cut_tracks(manifests, hparams):
    """Reads the annotations of manifests (split -> table) and plans the chunks of their tracks.

    Returns LabelledChunks with the chunks of `plan_tracks`. Raises UserError for an annotation that
    is missing or cannot be read.
    """
    task, tables, names, labels, seconds = hparams["task"], [], {}, {}, {}
    for split in SPLITS:
        tracks = manifests[split]
        table = plan_tracks(tracks, hparams["chunk_seconds"], hparams["overlap_seconds"])
        tables.append(table.assign(split=split))
        names[split], seconds[split] = tracks["ID"].tolist(), tracks["duration"].tolist()
        pairs = zip(read_column(tracks, task.column), seconds[split], strict=True)
        labels[split] = [_read(task, *pair) for pair in pairs]
    return LabelledChunks(pd.concat(tables, ignore_index=True), names, labels, {}, seconds)


def _read(task, path, seconds):
    """The annotation of a track; UserError if its times are not of so many seconds."""
    annotation = task.read(path, seconds)
    times = np.asarray(annotation[0])
    last = times[np.isfinite(times)].max(initial=0)
    if last > 2 * seconds + 60:
        raise UserError(
            f"{path} has the time {last:g} s, and its audio ends at {seconds:g} s: write seconds, "
            "or give the audio that was annotated"
        )
    return annotation


def plan_tracks(tracks, chunk_seconds=None, overlap_seconds=0.0):
    """The chunks of a manifest's rows, one row each, with the columns of `tracks` and `track`.

    `start` and `stop` are of what is encoded; of its tokens of 40 ms the first `skip` are left out,
    and the next `keep` are kept. A track is encoded in chunks of `chunk_seconds`, of which
    neighbours share `overlap_seconds`, or whole if that is None. Raises UserError if the overlap is
    not the shorter of both.
    """
    chunk = chunk_seconds and max(1, round(chunk_seconds * TOKEN_RATE))
    overlap, rows = round(overlap_seconds * TOKEN_RATE), []
    if chunk and overlap >= chunk:
        raise UserError(
            f"overlap_seconds is {overlap_seconds:g}: set it below chunk_seconds, {chunk_seconds:g}"
        )
    for track in tracks.to_dict("records"):
        samples = (track["stop"] - track["start"]) / track["duration"] / TOKEN_RATE  # of a token
        tokens = math.ceil(track["duration"] * TOKEN_RATE - 1e-6)
        for context, keep in plan_chunks(tokens, chunk, overlap):
            start = track["start"] + round(context.start * samples)
            stop = min(track["start"] + round(context.stop * samples), track["stop"])
            place = {"start": start, "stop": stop}
            place["duration"] = (stop - start) / samples / TOKEN_RATE
            kept = {"skip": keep.start - context.start, "keep": len(keep)}
            rows.append(track | place | kept | {"track": track["ID"]})
    return pd.DataFrame(rows)


class FrameCache(FeatureCache):
    """(frames, layers, dim) float16 features on disk, of the chosen layers (names, or None: all).

    `chunks` is the table of `plan_tracks`: the frames of a track lie one after the other.
    Raises UserError for a layer that there is not, or a frame rate that is no multiple of 25 Hz.
    """

    kind, options = "f2", ("layers",)

    def __init__(self, folder, encoder, chunks, layers=None):
        self.layers = list(encoder.layers if layers is None else map(str, layers))
        if unknown := [layer for layer in self.layers if layer not in encoder.layers]:
            raise UserError(
                f"{encoder.name} has no layer {unknown[0]}: choose of {', '.join(encoder.layers)}"
            )
        self.per_token = round(encoder.frame_rate / TOKEN_RATE)
        if self.per_token * TOKEN_RATE != encoder.frame_rate:
            raise UserError(
                f"{encoder.name} has {encoder.frame_rate:g} frames a second: tasks by the frame "
                f"need a multiple of {TOKEN_RATE}"
            )
        places = chunks[["skip", "keep"]].to_numpy()
        shape, key = (len(self.layers), encoder.frame_width), (self.layers, places.tolist())
        super().__init__(folder, encoder, chunks, places[:, 1] * self.per_token, shape, key)
        self.metadata["layers"] = self.layers

    def encode(self, batch):
        """The kept frames of each chunk; of a file that ends early, its last frame again."""
        places = [self.encoder.layers.index(layer) for layer in self.layers]
        rows, found = iter(batch.rows.tolist()), []
        for part in wave_parts(self.encoder, batch):
            for x, count in zip(*self.encoder.frames(*part), strict=True):
                skip, keep = self.chunks[["skip", "keep"]].iloc[next(rows)] * self.per_token
                kept = torch.arange(skip, skip + keep).clamp(max=count - 1)
                kept = x[kept.to(x.device)][:, places].cpu().numpy().astype(self.kind)
                found.append(kept if count > skip else np.full_like(kept, np.nan))
        return found

    def split(self, split, chunks, values, readable):
        """The TrackSplit of the tracks of LabelledChunks that can be read whole."""
        table = chunks.table[chunks.table["split"] == split]
        rows = {
            name: slice(self.rows_of(part.index[0]).start, self.rows_of(part.index[-1]).stop)
            for name, part in table.groupby("track", sort=False)
            if readable[part.index].all()
        }
        kept = [number for number, name in enumerate(chunks.names[split]) if name in rows]
        names, *others = (
            [column[split][number] for number in kept]
            for column in (chunks.names, chunks.labels, chunks.seconds)
        )
        return TrackSplit(values, [rows[name] for name in names], names, *others)


class TrackSplit(NamedTuple):
    """M tracks of a split with the rows of their frames."""

    values: np.ndarray  # (n, L, d) float16, memory-mapped, of all splits
    rows: list  # (M,) slices
    names: list  # (M,)
    annotations: list  # (M,)
    seconds: list  # (M,)

    def frames(self, track):
        """(T, L, d) float32 of a track."""
        return torch.from_numpy(self.values[self.rows[track]].astype(np.float32))


class TrainingWindows(ShuffledBatches):
    """One epoch of `HeadBatch`es: each track in windows of `window` frames, placed at random.

    A window begins at a multiple of `head.down` frames. `targets` are (steps, ...) of each track.
    """

    def __init__(self, split, targets, head, window, batch_size, seed):
        self.split, self.targets, self.head = split, targets, head
        self.window = -(-window // head.down) * head.down
        sizes = [rows.stop - rows.start for rows in split.rows]
        draws = [[track] * max(1, size // self.window) for track, size in enumerate(sizes)]
        super().__init__(sum(draws, []), batch_size, seed)

    def make_batch(self, items, rng):
        """Windows of some tracks."""
        xs, targets = zip(*(self._draw(track, rng) for track in items), strict=True)
        return HeadBatch(
            pad_sequence(xs, batch_first=True),
            torch.tensor([len(x) for x in xs]),
            pad_sequence(targets, batch_first=True, padding_value=-1),
        )

    def _draw(self, track, rng):
        rows, down = self.split.rows[track], self.head.down
        spare = max(0, rows.stop - rows.start - self.window)
        first = int(rng.integers(spare // down + 1)) * down
        part = slice(rows.start + first, min(rows.start + first + self.window, rows.stop))
        x = torch.from_numpy(self.split.values[part].astype(np.float32))
        begin = self.head.steps(first)
        return x, self.targets[track][begin : begin + self.head.steps(len(x))]
