"""What chunks give, joined: running statistics, or frames in memory or in a file."""

import tempfile
from contextlib import contextmanager
from io import BytesIO

import numpy as np

from speechbrain_music.utils.errors import UserError

IN_MEMORY = 512 * 2**20  # bytes; what is larger goes to a file, and is memory-mapped
ROWS = 2**14  # that are moved at once
TYPE = np.dtype("<f4")


class Pooled:
    """Mean, or mean and deviation, over all tokens of a file, in float64 (Chan et al., 1983).

    Arguments
    ---------
    pool : str
        "mean", or "mean_std": means, then the population's standard deviations.

    Example
    -------
    >>> frames = np.random.default_rng(0).normal(1e4, 1, (100, 3)).astype("f4")
    >>> pooled = Pooled("mean_std")
    >>> for part in np.split(frames, [1, 70]):
    ...     pooled.add(0, [part])
    >>> expected = np.concatenate([frames.mean(0, "f8"), frames.std(0, "f8")])
    >>> np.allclose(pooled.result(single=True), expected, rtol=1e-6)
    True
    """

    def __init__(self, pool):
        self.pool, self.count, self.means, self.squares = pool, 0, 0.0, 0.0

    def add(self, first, states):
        """Takes L layers, each (n, D); where they stand in the file does not matter."""
        new = len(states[0])
        share = new / (self.count + new)
        means = np.stack([state.mean(0, dtype=np.float64) for state in states])
        squares = [np.square(s - m).sum(0) for s, m in zip(states, means, strict=True)]
        step = means - self.means
        self.squares = self.squares + np.stack(squares) + step**2 * (self.count * share)
        self.means = self.means + step * share
        self.count += new

    def result(self, single):
        """(L, D) float32, or (D,) if there is a `single` layer; D doubles with "mean_std"."""
        parts = [self.means]
        if self.pool == "mean_std":
            parts.append(np.sqrt(self.squares / self.count))
        values = np.concatenate(parts, axis=1).astype(TYPE)
        return values[0] if single else values


class Frames:
    """Every token of a file: an array in memory, or memory-mapped.

    Arguments
    ---------
    layers, tokens, dim : int
        Of the whole.
    file : binary file, optional
        Open for reading and writing, and empty; becomes an .npy. Without it results above 512 MB
        go to a file of the system's temporary folder, which vanishes with the array.

    Raises
    ------
    UserError
        If the file cannot be written, such as on a full disk.

    Example
    -------
    >>> frames = Frames(layers=2, tokens=5, dim=1)
    >>> for first, stop in ((3, 4), (0, 3)):
    ...     part = np.arange(first, stop, dtype="f4")[:, None]
    ...     frames.add(first, [part, -part])
    >>> frames.result(single=False)[:, :, 0]  # it ended a token earlier
    array([[ 0.,  1.,  2.,  3.],
           [-0., -1., -2., -3.]], dtype=float32)
    """

    def __init__(self, layers, tokens, dim, file=None):
        self.layers, self.planned, self.dim, self.count = layers, tokens, dim, 0
        self.is_npy = file is not None
        with writable():
            if self.is_npy:
                self.file = file
            elif layers * tokens * dim * TYPE.itemsize > IN_MEMORY:
                self.file = tempfile.TemporaryFile()
            else:
                self.file = BytesIO()
            self.begin = 0
            self.begin = self._header((layers, tokens, dim))

    def add(self, first, states):
        """Takes L layers, each (n, D), whose first token is the file's token `first`."""
        with writable():
            for layer, state in enumerate(states):
                self.file.seek(self._place(layer * self.planned + first))
                self.file.write(np.ascontiguousarray(state, TYPE))
        self.count = max(self.count, first + len(states[0]))

    def result(self, single):
        """(L, T, D) float32, or (T, D) if there is a `single` layer."""
        shape = (self.count, self.dim) if single else (self.layers, self.count, self.dim)
        with writable():
            self._close_gaps()
            assert self._header(shape) == self.begin
            self.file.flush()
        if isinstance(self.file, BytesIO):
            return np.frombuffer(self.file.getbuffer(), TYPE).reshape(shape)
        return np.memmap(self.file, TYPE, "r+", self.begin, shape)

    def _place(self, row):
        return self.begin + row * self.dim * TYPE.itemsize

    def _header(self, shape):
        """Writes an .npy's, whose size does not depend on the shape; returns where rows begin."""
        if not self.is_npy:
            return 0
        self.file.seek(0)
        facts = {"descr": TYPE.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, facts)
        return self.file.tell()

    def _close_gaps(self):
        """Moves the layers together if the file ended before its header says."""
        for layer in range(1, self.layers if self.count < self.planned else 0):
            for first in range(0, self.count, ROWS):
                rows = min(ROWS, self.count - first)
                self.file.seek(self._place(layer * self.planned + first))
                data = self.file.read(self._place(rows) - self.begin)
                self.file.seek(self._place(layer * self.count + first))
                self.file.write(data)
        self.file.truncate(self._place(self.layers * self.count))


@contextmanager
def writable(path=None):
    """Says in one sentence that a file cannot be written; by default, a temporary one.

    Raises UserError in place of an OSError.

    Example
    -------
    >>> with writable("a.npy"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: a.npy cannot be written to (No space left on \
device): free its disk, or choose another place for it
    """
    try:
        yield
    except OSError as error:
        name, remedy = path, "choose another place for it"
        if path is None:
            name, remedy = f"{tempfile.gettempdir()}", "let TMPDIR name another folder, or pass out"
        raise UserError(
            f"{name} cannot be written to ({error.strerror or error}): free its disk, or {remedy}"
        ) from error
