"""Bytes of recordings: of a file, or a part of a larger file.

A manifest names such a part `shards/train-000003.tar#sets/waltz.wav@1536+88123`: the shard (see
`data_prep.shards`), the piece's ID, its first byte and its size.
"""

import io
import os
import re
from bisect import bisect
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

import soundfile

from speechbrain_music.dataio import mp3

_ADDRESS = re.compile(r"(.+?\.tar)#(.*)@(\d{1,18})\+(\d{1,18})", re.DOTALL)
_HEAD, _REST = 2**13, 2**18  # bytes per read: what most headers have at most, and the others


class RangeError(soundfile.SoundFileError):
    """Bytes that cannot be read; the message continues after `path: ` and has no full stop."""


class ByteRange(NamedTuple):
    """`size` bytes of a file from `offset` on, in which `item` is stored."""

    file: str
    item: str
    offset: int
    size: int

    def __str__(self):
        return f"{self.file}#{self.item}@{self.offset}+{self.size}"


def parse(path):
    """Return the `ByteRange` that a path names, or None for a whole file."""
    match = _ADDRESS.fullmatch(str(path))
    return match and ByteRange(match[1], match[2], int(match[3]), int(match[4]))


class SourceFile(soundfile.SoundFile):
    """A `soundfile.SoundFile` on the file or `ByteRange` that a path names; `size` is in bytes.

    libsndfile is not given the path: it cannot open `song.mp3` if `._song.mp3` exists, nor names
    of other encodings. It reads parts of files in callbacks of C code, which cannot raise. A
    failed read there is raised here, as a RangeError, and not taken for the file's end or damage.
    """

    _bytes = None

    def __init__(self, path):
        part = parse(path)
        self._bytes = _Bytes(path, part)
        self.size = self._bytes.size
        try:
            with self._raising():
                file = io.BufferedReader(self._bytes, _HEAD)
                if parts := mp3.true_parts(file):
                    self._bytes.show(parts)
                file = io.BufferedReader(file.detach(), _REST)
                file.seek(0)
                super().__init__(file if part or parts else self._bytes.descriptor())
        except BaseException:
            self._bytes.close()
            raise

    def close(self):
        """As soundfile's."""
        super().close()
        if self._bytes:
            self._bytes.close()

    @contextmanager
    def _raising(self):
        try:
            yield
        finally:
            if self._bytes.failure:
                raise self._bytes.failure

    def seek(self, *args, **kwargs):
        """As soundfile's."""
        with self._raising():
            return super().seek(*args, **kwargs)

    def read(self, *args, **kwargs):
        """As soundfile's."""
        with self._raising():
            return super().read(*args, **kwargs)


class _Bytes(io.RawIOBase):
    """Bytes as a file of their own. It does not raise, but keeps its first `failure`."""

    def __init__(self, path, part):
        self._part, self._file, self.failure = part, None, None
        try:
            self._file = open(part.file if part else path, "rb", buffering=0)
        except OSError as error:
            raise self._unreadable(error) from error
        whole = (0, os.fstat(self._file.fileno()).st_size)
        begin, self.size = (part.offset, part.size) if part else whole
        self.show([(begin, begin + self.size)])

    def show(self, parts):
        """Consist of these parts: bytes, or begin and end in the file."""
        self._parts = parts
        sizes = (len(p) if isinstance(p, bytes) else p[1] - p[0] for p in parts)
        self._starts = [0, *accumulate(sizes)]
        self._place = 0

    def descriptor(self):
        """Another descriptor of the file, at its beginning."""
        self._file.seek(0)
        return os.dup(self._file.fileno())

    def close(self):
        if self._file:
            self._file.close()
        super().close()

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._place = max(0, offset + (0, self._place, self._starts[-1])[whence])
        return self._place

    def tell(self):
        return self._place

    def readinto(self, buffer):
        number = bisect(self._starts, self._place) - 1
        if number == len(self._parts) or self.failure:
            return 0
        part, begin = self._parts[number], self._place - self._starts[number]
        count = min(len(buffer), self._starts[number + 1] - self._place)
        if isinstance(part, bytes):
            buffer[:count] = part[begin : begin + count]
        else:
            try:
                buffer[:count] = self._get(part[0] + begin, count)
            except RangeError as failure:
                self.failure = failure
                return 0
        self._place += count
        return count

    def _get(self, begin, count):
        try:
            self._file.seek(begin)
            found = self._file.read(count)
        except OSError as error:
            raise self._unreadable(error) from error
        if len(found) < count:
            what = "its shard ends before it does; fetch the shard again"
            raise RangeError(what if self._part else "changes while it is read; try again later")
        return found

    def _unreadable(self, error):
        if self._part:
            return RangeError(f"its shard cannot be read ({error.strerror}); check the data folder")
        return RangeError(f"cannot be opened ({error.strerror}); check its permissions")
