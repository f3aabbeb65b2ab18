"""Chunks of annotated tracks: what an encoder hears at once when it is judged."""

from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from speechbrain_music.dataio.audio import AudioError, read_segment, segment_bounds
from speechbrain_music.dataio.segments import split_tracks


class WaveBatch(NamedTuple):
    """B chunks side by side.

    wave (B, N) float32, samples (B,) int64, rows (B,) int64 of the table of chunks; tracks (B,)
    int64 and their targets (B, ...) if the data set knows them; errors: one (row, reason) for
    each chunk that could not be read, which is not among the B.

    Example
    -------
    >>> wave = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])  # rows 0 and 2; 1 has no sample
    >>> samples, rows = torch.tensor([3, 2]), torch.tensor([0, 2])
    >>> batch = WaveBatch(wave, samples, rows, None, None, errors=[(1, "is empty")])
    >>> torch.equal(batch.wave.sum(dim=1), batch.samples.float())
    True
    """

    wave: torch.Tensor
    samples: torch.Tensor
    rows: torch.Tensor
    tracks: torch.Tensor
    targets: torch.Tensor
    errors: list

    def to(self, device):
        """The batch with its tensors on a device."""
        return WaveBatch(
            *(part.to(device) if isinstance(part, torch.Tensor) else part for part in self)
        )


def cut_into_chunks(tracks, chunk_seconds=None, min_last_chunk_seconds=1.0, max_seconds=None):
    """The chunks of a manifest's rows.

    Arguments
    ---------
    tracks : pandas.DataFrame
        As `data_prep.manifest.read_manifest` gives it. Rows of one `track` (a column that clips
        have), else of one ID, are answered together.
    chunk_seconds : float, optional
        Length of a chunk; None takes rows whole.
    min_last_chunk_seconds : float
        A rest that is shorter is left out, unless it is all there is.
    max_seconds : float, optional
        Takes only so much of the beginning of each row.

    Returns
    -------
    pandas.DataFrame
        A row a chunk, with the columns of `tracks` and `track`.

    Example
    -------
    >>> import pandas as pd
    >>> row = {"ID": "a", "wav": "a.wav", "start": 0, "stop": 70, "duration": 7.0}
    >>> cut_into_chunks(pd.DataFrame([row]), chunk_seconds=3)[["track", "start", "stop"]].values
    array([['a', 0, 30],
           ['a', 30, 60],
           ['a', 60, 70]], dtype=object)
    """
    tracks = tracks.copy()
    if "track" not in tracks:
        tracks["track"] = tracks["ID"]
    if max_seconds is not None:
        rate = (tracks["stop"] - tracks["start"]) / tracks["duration"]
        tracks["duration"] = tracks["duration"].clip(upper=max_seconds)
        tracks["stop"] = tracks["start"] + (rate * tracks["duration"]).round().astype("int64")
    if chunk_seconds is None:
        return tracks.reset_index(drop=True)
    return split_tracks(tracks, chunk_seconds, min_last_chunk_seconds)


class ChunkDataset(Dataset):
    """Waves of chunks; an index is a list of rows, an item a `WaveBatch`.

    Arguments
    ---------
    chunks : pandas.DataFrame
        From `cut_into_chunks`.
    sample_rate : int
        Of the waves, Hz.
    tracks, answers : torch.Tensor, optional
        (chunks,) int64 whose each chunk is, and (tracks, ...) their targets.

    Example
    -------
    >>> import pandas as pd
    >>> chunks = pd.DataFrame({"wav": ["gone.wav"], "start": 0, "stop": 48000, "duration": 2.0})
    >>> data = ChunkDataset(chunks, sample_rate=16000)
    >>> data.lengths, len(data[[0]].rows), [row for row, _ in data[[0]].errors]
    (array([32000]), 0, [0])
    """

    def __init__(self, chunks, sample_rate, tracks=None, answers=None):
        self.paths = chunks["wav"].tolist()
        self.starts, lengths = segment_bounds(chunks, sample_rate)
        self.lengths = lengths.clip(min=1)
        self.sample_rate = sample_rate
        self.tracks, self.answers = tracks, answers

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, rows):
        waves, read, errors = [], [], []
        for row in rows:
            place = int(self.starts[row]), int(self.lengths[row])
            try:
                wave = read_segment(self.paths[row], *place, self.sample_rate)
            except AudioError as fault:
                errors.append((int(row), str(fault)))
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
            None if tracks is None else self.answers[tracks],
            errors,
        )


def batches_of(rows, lengths, batch_size, equal_lengths=False):
    """Lists of consecutive rows; with `equal_lengths` no chunk of a batch is longer than another.

    Example
    -------
    >>> batches_of([0, 1, 2, 3], lengths=[5, 5, 4, 4], batch_size=3, equal_lengths=True)
    [[0, 1], [2, 3]]
    """
    batches = []
    for row in rows:
        last = batches[-1] if batches else None
        fits = last and len(last) < batch_size
        if fits and (not equal_lengths or lengths[last[0]] == lengths[row]):
            last.append(row)
        else:
            batches.append([row])
    return batches
