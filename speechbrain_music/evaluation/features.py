"""Features of chunks: computed once per encoder, kept on disk, read in batches by the probes."""

import hashlib
import json
import logging
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from speechbrain.utils.distributed import ddp_barrier, if_main_process, infer_device
from torch.utils.data import BatchSampler, IterableDataset
from tqdm import tqdm

from speechbrain_music.brains.base import among_processes
from speechbrain_music.dataio.audio import file_stamp
from speechbrain_music.dataio.loading import make_loader, to_device
from speechbrain_music.evaluation.chunks import SPLITS, ChunkDataset, LabelledChunks
from speechbrain_music.utils.atomic import atomic_file, one_at_a_time, write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

METADATA, VALUES = "metadata.json", "features.npy"
AT_ONCE = 1024  # rows that are searched for missing features
ORDER, DROPOUT = 20, 21  # first part of a random key: its purpose (see `dataio.segments`)


# ---- extraction ----


class FeatureCache:
    """(chunks, layers, dim) float32 features on disk, memory-mapped.

    Several processes can fill it together, each its own chunks. Finished chunks stay: a killed
    extraction is continued by the next one. Features that are missing are nan. `reasons` tells why
    chunks have none, by row: of this process, until `extract_features` has those of all.

    `folder` holds the caches of many encoders and data sets, each under its key. Labels do not
    count: tasks on the same chunks (from `chunks.cut_into_chunks`) share a cache. Subclasses store
    others: `rows` of each chunk (chunks,), the `shape` of a row, and what else is in its `key`.
    """

    kind, options = "f4", ()  # further arguments of the class, from the options of a task

    def __init__(self, folder, encoder, chunks, rows=1, shape=None, key=()):
        self.encoder, self.chunks, self.reasons = encoder, chunks, {}
        self.ends = np.cumsum(np.broadcast_to(rows, len(chunks)))  # (chunks,), of their rows
        self.metadata = {
            "encoder": encoder.identity,
            "name": encoder.name,
            "chunks": _identify(chunks),
            "shape": [int(self.ends[-1]), *(shape or (len(encoder.layers), encoder.dim))],
        }
        # The first tells caches of another form apart, in which missing features were 0.
        parts = ["nan", encoder.identity, self.metadata["chunks"], *map(str, key)]
        self.folder = Path(folder) / hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]

    def rows_of(self, chunk):
        """The slice of the features that a chunk fills."""
        return slice(self.ends[chunk - 1] if chunk else 0, self.ends[chunk])

    def encode(self, batch):
        """The features of each chunk of a `WaveBatch`, each (rows, layers, dim)."""
        parts = wave_parts(self.encoder, batch)
        return torch.cat([self.encoder(*part) for part in parts]).unsqueeze(1).cpu().numpy()

    def open(self):
        """Makes the files, or checks those that are there.

        Raises UserError if the files cannot be written or used.
        """
        metadata = self.folder / METADATA
        try:
            if not metadata.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                with one_at_a_time(metadata):
                    if not metadata.exists():  # no other process has made them meanwhile
                        _write_missing(self.folder / VALUES, self.kind, self.metadata["shape"])
                        write_together({metadata: json.dumps(self.metadata, indent=2) + "\n"})
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}): choose another "
                "feature_folder, or free disk space"
            ) from error
        return self.check()

    def check(self):
        """Refuses damaged files, and those of another encoder or other chunks; returns itself."""
        try:
            metadata = json.loads((self.folder / METADATA).read_text(encoding="utf-8"))
            values, name, shape = self._values(), self.metadata["name"], self.metadata["shape"]
            same = metadata | {"name": name} == self.metadata  # whatever the encoder is called
            if not same or values.dtype != self.kind or values.shape != tuple(shape):
                raise ValueError(f"it has other metadata or another shape than {shape}")
        except Exception as error:  # a damaged header may raise anything
            raise UserError(
                f"{self.folder} is no complete feature cache of {self.metadata['name']} ({error}): "
                "delete it, features are then computed again"
            ) from error
        return self

    def _values(self, mode="r"):
        return np.load(self.folder / VALUES, mmap_mode=mode)

    def _missing(self):
        """The chunks without finite features."""
        values, starts = self._values(), range(0, int(self.ends[-1]), AT_ONCE)
        axes = tuple(range(1, values.ndim))
        finite = [np.isfinite(values[row : row + AT_ONCE]).all(axis=axes) for row in starts]
        whole = np.logical_and.reduceat(np.concatenate(finite), [0, *self.ends[:-1]])
        return np.flatnonzero(~whole).tolist()

    def extract(self, batch_size, workers=0, rank=0, world_size=1, device="cpu", bar=True):
        """Computes the missing features of this process's share, and the reasons for others."""
        rows = [row for row in self._missing() if row % world_size == rank]
        if not rows:
            return
        values = self._values("r+")
        waves = ChunkDataset(self.chunks, self.encoder.sample_rate)
        batches = BatchSampler(rows, batch_size, drop_last=False)
        loader = make_loader(waves, sampler=batches, batch_size=None, num_workers=workers)
        encoder = self.encoder.to(device).eval()
        title = f"features of {self.encoder.name}"
        for batch in tqdm(loader, title, unit="batch", disable=not bar, dynamic_ncols=True):
            reasons = dict(batch.errors)
            if len(batch.rows):
                found = self.encode(to_device(batch, device))
                for row, part in zip(batch.rows.tolist(), found, strict=True):
                    if np.isfinite(part).all():
                        values[self.rows_of(row)] = part
                        continue
                    wav = self.chunks["wav"].iloc[row]
                    reasons[row] = f"{wav}: features of {encoder.name} are not finite."
                values.flush()
            for reason in reasons.values():
                logger.warning("%s It is left out.", reason)
            self.reasons |= reasons

    def load(self):
        """Features (chunks, layers, dim), which of them are readable (chunks,), row -> reason."""
        missing = self._missing()
        assert set(missing) <= set(self.reasons), "extract() has not run on every process"
        readable = ~np.isin(np.arange(len(self.chunks)), missing)
        return self._values(), readable, {row: self.reasons[row] for row in missing}

    def splits(self, chunks, values, readable):
        """split -> what of its tracks can be read; UserError if that is nothing."""
        splits = {split: self.split(split, chunks, values, readable) for split in SPLITS}
        for split, part in splits.items():
            if not part.names:
                raise UserError(f"no {split} track could be read: check the data folder")
        return splits

    def split(self, split, chunks, values, readable):
        """The FeatureSplit of the tracks of LabelledChunks with a readable chunk."""
        names, targets = pd.Index(chunks.names[split]), chunks.labels[split]
        rows = np.flatnonzero((chunks.table["split"] == split) & readable)
        tracks = torch.from_numpy(names.get_indexer(chunks.table["track"].iloc[rows]))
        left, tracks = tracks.unique(return_inverse=True)
        return FeatureSplit(values, rows, tracks, targets[left], names[left.numpy()].tolist())


def _write_missing(path, kind, shape):
    """Writes an array of nan: on a full disk, filling holes of a mapped file kills the process."""
    with atomic_file(path, "wb") as file:
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(file, header)
        row = np.full(shape[1:], np.nan, kind).tobytes()
        for _ in range(shape[0]):
            file.write(row)


def wave_parts(encoder, batch):
    """(wave, samples) to encode at once: of one length each, if padding changes the result."""
    lengths = [None] * len(batch.rows) if encoder.padding_safe else batch.samples.tolist()
    sizes = [len([*part]) for _, part in groupby(lengths)]
    return zip(batch.wave.split(sizes), batch.samples.split(sizes), strict=True)


def _identify(chunks):
    """A hash of the chunks' places and their files' sizes and times of change."""
    places = chunks[["ID", "start", "stop", "duration"]].copy()
    places["file"] = chunks["wav"].map({x: file_stamp(x) or "gone" for x in set(chunks["wav"])})
    return hashlib.sha256(places.to_csv(index=False).encode()).hexdigest()


# ---- splits ----


class FeatureSplit(NamedTuple):
    """The N chunks of a split's M tracks."""

    values: np.ndarray  # (n, L, d), perhaps memory-mapped, of all splits
    rows: np.ndarray  # (N,) rows of `values` that are this split's chunks
    tracks: torch.Tensor  # (N,) int64 track of each chunk
    targets: torch.Tensor  # (M, ...)
    names: list  # (M,) of the tracks

    def batch(self, chunks, dropout=None):
        """The FeatureBatch of chunks (S, B), positions in `rows`."""
        tracks = self.tracks[chunks]
        x = torch.from_numpy(np.asarray(self.values[self.rows[chunks]]))
        return FeatureBatch(x, self.targets[tracks], tracks[0], dropout)


class TaskFeatures(NamedTuple):
    """An encoder's features of a task."""

    cache: FeatureCache
    chunks: LabelledChunks
    splits: dict  # split -> FeatureSplit or TrackSplit of what can be read
    reasons: dict  # row of the table of chunks -> why the chunk could not be read

    @property
    def encoder(self):
        """The encoder that computed them."""
        return self.cache.encoder


def make_caches(run, chunks, cache=FeatureCache):
    """The cache, of that class, of each encoder of a run."""
    folder, *options = (run.hparams[key] for key in ("feature_folder", *cache.options))
    return [cache(folder, encoder, chunks.table, *options) for encoder in run.encoders]


def extract_features(run, caches, chunks):
    """Fills the caches, with other processes; yields the `TaskFeatures` of each encoder."""
    rank, world = among_processes()
    options = run.hparams["extract_batch"], run.hparams["num_workers"], rank, world
    device, bar = run.run_opts.device or infer_device(), not run.run_opts.noprogressbar
    for cache in caches:
        if if_main_process():  # not by run_on_main, which would send the encoder to all processes
            cache.open()
        ddp_barrier()
        size = np.prod(cache.metadata["shape"]) * np.dtype(cache.kind).itemsize
        logger.info(f"features of {cache.encoder.name}: {size / 1e6:.0f} MB")
        cache.check().extract(*options, device, bar)
        if world > 1:
            each = [None] * world
            torch.distributed.all_gather_object(each, cache.reasons)  # waits for all
            cache.reasons = dict(item for reasons in each for item in reasons.items())
        values, readable, reasons = cache.load()
        yield TaskFeatures(cache, chunks, cache.splits(chunks, values, readable), reasons)


# ---- batches ----


class FeatureBatch(NamedTuple):
    """B chunks for each of S probe seeds."""

    x: torch.Tensor  # (S, B, L, d) features as extracted
    targets: torch.Tensor  # (S, B, ...)
    tracks: torch.Tensor  # (B,) int64, of the first seed
    dropout: torch.Tensor  # (S, B, hidden) factors, or None


class ShuffledBatches(IterableDataset):
    """Batches of items in an order that follows, as all random choices, from (seed, epoch).

    A subclass has `make_batch`, from some items and a random generator.
    """

    epoch = 1

    def __init__(self, items, batch_size, *seeds):
        self.items, self.batch_size, self.seeds = items, batch_size, seeds

    def start(self, epoch, batch=0):
        """Sets the epoch of the next iteration, which starts with its first batch."""
        self.epoch = epoch

    def __len__(self):
        return -(-len(self.items) // self.batch_size)

    def __iter__(self):
        rng = np.random.default_rng([ORDER, *self.seeds, self.epoch])
        order = rng.permutation(self.items)
        for begin in range(0, len(order), self.batch_size):
            yield self.make_batch(order[begin : begin + self.batch_size], rng)


class TrainingBatches(ShuffledBatches):
    """One epoch of a split in FeatureBatches, shuffled for each of several seeds.

    Its chunks are independent examples; `hidden` values are dropped with the probability `dropout`.
    """

    def __init__(self, split, batch_size, seeds, hidden, dropout):
        super().__init__(split.rows, batch_size, *seeds)
        self.split, self.hidden, self.dropout = split, hidden, dropout

    def __iter__(self):
        orders, noise = (
            [np.random.default_rng([purpose, seed, self.epoch]) for seed in self.seeds]
            for purpose in (ORDER, DROPOUT)
        )
        orders = np.stack([rng.permutation(len(self.items)) for rng in orders])
        for begin in range(0, len(self.items), self.batch_size):
            chunks = orders[:, begin : begin + self.batch_size]
            drawn = [rng.random((chunks.shape[1], self.hidden), "f4") for rng in noise]
            kept = torch.from_numpy(np.stack(drawn)) >= self.dropout
            yield self.split.batch(chunks, kept.float() / (1 - self.dropout))


def load_in_order(split, batch_size=256):
    """A loader of a split's chunks, in FeatureBatches with S = 1 that all probes share."""
    chunks = np.arange(len(split.rows))[None]
    parts = np.split(chunks, range(batch_size, chunks.size, batch_size), axis=1)
    return make_loader(parts, batch_size=None, collate_fn=split.batch)
