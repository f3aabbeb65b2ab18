"""Long audio: read files chunk by chunk, batch chunks, aggregate the encoder's chunk outputs."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from speechbrain_music.dataio.audio import AudioError, audio_info, read_segments, resampled_length
from speechbrain_music.dataio.overlap import ChunkSpan, plan_chunks
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, token_count

READ_AHEAD = 4  # batches read before they are formed: enough to find chunks of similar length
IN_MEMORY = 512 * 2**20  # bytes; larger results go to a memory-mapped file
FLOAT32 = np.dtype("<f4")


class Chunk(NamedTuple):
    """A span of a file and its wave, (n,) float32; or the error that ends the file."""

    file: object  # the caller's record of the file, with its `path`
    file_tokens: int = 0  # by the file's header
    span: ChunkSpan = None
    wave: np.ndarray = None
    is_last: bool = True
    error: AudioError = None

    @property
    def tokens(self):
        """Number of tokens that are encoded."""
        return len(self.span.context) if self.span else 0


def read_chunks(file, chunk=None, overlap=0):
    """Read a file's chunks in order; a file that cannot be read ends with a chunk of the error.

    A file that ends before its header says has fewer chunks. `file`, with its `path`, is in each.
    """
    try:
        info = audio_info(file.path)
        tokens = token_count(resampled_length(info.frames, info.sample_rate))
        plan = plan_chunks(max(tokens, 1), chunk, overlap)
        contexts = (span.context for span in plan)
        parts = [(c.start * SAMPLES_PER_TOKEN, len(c) * SAMPLES_PER_TOKEN) for c in contexts]
        pending = None
        for (context, keep), wave in zip(plan, read_segments(file.path, parts), strict=True):
            stop = context.start + token_count(len(wave))
            if stop > keep.start:
                if pending:
                    yield pending
                kept = range(keep.start, min(keep.stop, stop))
                span = ChunkSpan(range(context.start, stop), kept)
                pending = Chunk(file, tokens, span, wave, is_last=False)
        if pending is None:
            raise AudioError(f"{file.path}: is too short for one sample at 24 kHz; remove it.")
        yield pending._replace(is_last=True)
    except AudioError as error:
        yield Chunk(file, error=error)


def group_chunks(chunks, budget):
    """Group consecutive chunks: `READ_AHEAD` times the tokens of a batch per group."""
    group, tokens = [], 0
    for chunk in chunks:
        group.append(chunk)
        tokens += chunk.tokens
        if tokens >= READ_AHEAD * budget:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def batch_chunks(group, budget):
    """Batch a group's readable chunks by length: at most `budget` tokens, or one chunk, each."""
    batch = []
    for chunk in sorted((c for c in group if not c.error), key=lambda c: c.tokens, reverse=True):
        if batch and (len(batch) + 1) * batch[0].tokens > budget:
            yield batch
            batch = []
        batch.append(chunk)
    if batch:
        yield batch


def prefetch(items):
    """Yield the same items; a thread computes the next one while the caller uses the current."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = thread.submit(next, items, end)
            yield item


class PoolAggregator:
    """Mean, or mean and standard deviation, of a file's tokens, by sums in float64."""

    def __init__(self, pool):
        self.pool, self.count, self.sums, self.squares = pool, 0, 0.0, 0.0

    def add(self, first, states):
        """Add L layers, each (n, D), in any order of chunks; `first` is not used."""
        states = np.stack(states).astype(np.float64)
        if not self.count:  # from here on, sums of squares lose no digits to the mean
            self.origin = states.mean(1, keepdims=True)
        states -= self.origin
        self.sums += states.sum(1)
        self.squares += np.square(states).sum(1)
        self.count += states.shape[1]

    def result(self):
        """Return (L, D) float32; D doubles with "mean_std"."""
        mean = self.sums / self.count
        std = np.sqrt((self.squares / self.count - mean**2).clip(min=0))
        mean = mean + self.origin[:, 0]
        values = [mean, std] if self.pool == "mean_std" else [mean]
        return np.concatenate(values, axis=1).astype(FLOAT32)


class TokenAggregator:
    """All tokens of a file, at most `tokens`: an array in memory, or a memory-mapped file.

    A result above 512 MB goes to a temporary file, which disappears with the array. It is written
    without the memory map, through which a full disk would end the process.
    """

    def __init__(self, layers, tokens, dim):
        self.shape, self.count = (layers, tokens, dim), 0
        in_memory = layers * tokens * dim * FLOAT32.itemsize <= IN_MEMORY
        self.file = None if in_memory else tempfile.TemporaryFile()
        self.values = np.empty(self.shape, FLOAT32) if in_memory else None

    def add(self, first, states):
        """Add L layers, each (n, D), whose first token is token `first` of the file."""
        last, (_, tokens, dim) = first + len(states[0]), self.shape
        for layer, state in enumerate(states):
            if self.file is None:
                self.values[layer, first:last] = state
                continue
            self.file.seek((layer * tokens + first) * dim * FLOAT32.itemsize)
            self.file.write(np.ascontiguousarray(state, FLOAT32))
        self.count = max(self.count, last)

    def result(self):
        """Return (L, T, D) float32; T is less where the file ended early."""
        if self.file is not None:
            self.file.truncate(int(np.prod(self.shape)) * FLOAT32.itemsize)
            self.file.flush()
            self.values = np.memmap(self.file, FLOAT32, "r+", shape=self.shape)
        return self.values[:, : self.count]
