"""Pooled features of chunks, computed once and kept on disk."""

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_music.dataio.chunks import ChunkDataset, batches_of
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

FACTS, VALUES, STATE, REASONS = "facts.json", "features.npy", "state.npy", "unreadable.jsonl"
MISSING, THERE, UNREADABLE = range(3)  # states of a chunk


class FeatureCache:
    """(chunks, layers, dim) float32 features on disk, memory-mapped.

    Several processes may fill it together, each its own rows. What is there stays there: a killed
    extraction is continued by the next one.

    Arguments
    ---------
    folder : path
        Caches of many encoders and data sets live below it, each under its key.
    encoder : torch.nn.Module
        As `models.frozen` makes them.
    chunks : pandas.DataFrame
        From `dataio.chunks.cut_into_chunks`. Labels do not count: tasks on the same chunks share
        a cache.

    Raises
    ------
    UserError
        If what lies at the key's place was made with something else, is damaged, or cannot be
        written.

    Example
    -------
    >>> import pandas as pd
    >>> from types import SimpleNamespace
    >>> encoder = SimpleNamespace(name="mine", identity="0f", layers=("0", "1"), dim=16)
    >>> chunks = pd.DataFrame({"ID": ["a"], "wav": "a.wav", "start": 0, "stop": 9, "duration": 1})
    >>> one, two = (FeatureCache("features", encoder, chunks.assign(key=key)) for key in "CD")
    >>> one.facts["shape"], one.folder == two.folder  # labels do not count
    ([1, 2, 16], True)
    """

    def __init__(self, folder, encoder, chunks):
        self.facts = {
            "encoder": encoder.identity,
            "name": encoder.name,
            "chunks": _identify(chunks),
            "shape": [len(chunks), len(encoder.layers), encoder.dim],
        }
        key = hashlib.sha256(f"{encoder.identity} {self.facts['chunks']}".encode()).hexdigest()
        self.folder = Path(folder) / key[:24]
        self.encoder, self.chunks = encoder, chunks

    def open(self):
        """Makes the files, or checks those that are there."""
        try:
            if not (self.folder / FACTS).exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                rows = self.facts["shape"][0]
                for name, shape, kind in (
                    (VALUES, self.facts["shape"], np.float32),
                    (STATE, [rows], np.uint8),
                ):
                    np.lib.format.open_memmap(
                        self.folder / name, mode="w+", dtype=kind, shape=tuple(shape)
                    )
                    _occupy(self.folder / name)
                write_together({self.folder / FACTS: json.dumps(self.facts, indent=2) + "\n"})
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}): choose another "
                "feature_folder, or make room"
            ) from error
        return self.check()

    def check(self):
        """Refuses a cache of another encoder, other chunks or another size; returns itself."""
        try:
            facts = json.loads((self.folder / FACTS).read_text(encoding="utf-8"))
            shape = tuple(self.facts["shape"])
            values, state = (np.load(self.folder / n, mmap_mode="r") for n in (VALUES, STATE))
            whole = values.shape == shape and state.shape == shape[:1]
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{self.folder} is no whole feature cache ({error}): delete it, it is made again"
            ) from error
        if facts != self.facts or not whole:
            raise UserError(
                f"{self.folder} holds features of {facts.get('name')} with shape "
                f"{facts.get('shape')}, not those of {self.facts['name']} with shape "
                f"{self.facts['shape']}: delete it, or choose another feature_folder"
            )
        return self

    def extract(self, batch_size, workers=0, rank=0, world_size=1, device="cpu", bar=True):
        """Computes what is missing of this process's share of the chunks.

        Raises UserError if the disk fails. Chunks that cannot be read are noted with the reason.
        """
        values, state = (np.load(self.folder / name, mmap_mode="r+") for name in (VALUES, STATE))
        rows = np.flatnonzero(state == MISSING)
        rows = rows[rows % world_size == rank].tolist()
        if not rows:
            return
        waves = ChunkDataset(self.chunks, self.encoder.sample_rate)
        batches = batches_of(rows, waves.lengths, batch_size, not self.encoder.padding_safe)
        loader = make_loader(waves, sampler=batches, batch_size=None, num_workers=workers)
        encoder = self.encoder.to(device).eval()
        shown = tqdm(
            loader,
            desc=f"features of {self.encoder.name}",
            unit="batch",
            disable=not bar,
            dynamic_ncols=True,
        )
        with torch.no_grad():
            for batch in shown:
                done = batch.rows.numpy()
                if len(done):
                    values[done] = _features(encoder, batch.to(device))
                    values.flush()  # before the state that vouches for them
                    state[done] = THERE
                self._note(batch.errors, state)
                state.flush()

    def _note(self, errors, state):
        for row, reason in errors:
            logger.warning("%s It is left out.", reason)
            with open(self.folder / REASONS, "a", encoding="utf-8") as file:
                file.write(json.dumps({"row": row, "reason": reason}) + "\n")
            state[row] = UNREADABLE

    def load(self):
        """The features and what could not be read, once nothing is missing.

        Returns
        -------
        values : numpy.memmap
            (chunks, layers, dim), meaningless where unreadable.
        readable : numpy.ndarray
            (chunks,) bool.
        reasons : dict
            Row -> why it is not.
        """
        state = np.load(self.folder / STATE)
        assert (state != MISSING).all(), "extract() has not run on every process"
        reasons = {}
        if (self.folder / REASONS).exists():
            for line in (self.folder / REASONS).read_text(encoding="utf-8").splitlines():
                note = json.loads(line)
                reasons[note["row"]] = note["reason"]
        return np.load(self.folder / VALUES, mmap_mode="r"), state == THERE, reasons


def _occupy(path):
    """Takes a file's space now: on a full disk, writing into a mapped hole kills the process."""
    if hasattr(os, "posix_fallocate"):  # macOS has none
        try:
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError:
            path.unlink()  # it may hold all that was left
            raise


def _features(encoder, batch):
    """One by one where padding counts and a file is shorter than its manifest says."""
    whole = encoder.padding_safe or batch.samples.min() == batch.samples.max()
    parts = [slice(None)] if whole else [slice(i, i + 1) for i in range(len(batch.samples))]
    found = [encoder(batch.wave[part], batch.samples[part]) for part in parts]
    return torch.cat(found).cpu().numpy()


def _identify(chunks):
    """A hash of where the chunks lie in which files: other music of the same names is another."""
    places = chunks[["ID", "start", "stop", "duration"]].copy()
    files = {}
    for wav in chunks["wav"].unique():
        try:
            state = os.stat(wav)
            files[wav] = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:
            files[wav] = "gone"
    places["file"] = chunks["wav"].map(files)
    return hashlib.sha256(places.to_csv(index=False).encode()).hexdigest()
