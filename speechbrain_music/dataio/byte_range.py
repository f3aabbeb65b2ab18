"""Bytes of recordings: of a file, or a part of a larger file on disk or on a web server.

A manifest names such a part `shards/train-000003.tar#sets/waltz.wav@1536+88123`: the shard (see
`data_prep.shards`), the piece's ID, its first byte and its size. Where the shard begins with
`http://` or `https://`, only the needed bytes are fetched.
"""

import io
import math
import os
import re
import time
from bisect import bisect
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

import soundfile

from speechbrain_music.dataio import mp3

_ADDRESS = re.compile(r"(.+?\.tar)#(.*)@(\d{1,18})\+(\d{1,18})", re.DOTALL)
_ON_SERVER = ("http://", "https://")
# Bytes per request: seeking in a flac file reads a few places near each other, so that a crop of
# 30 s takes about four requests.
_FROM_SERVER, _FROM_DISK = 2**20, 2**18
_HEAD = 2**13  # bytes that most headers have at most
_TIMEOUT = 30  # seconds without a response
_PAUSES = (0, 1, 3, 9)  # seconds before each try
_DEAD_SECONDS = 600  # for which a file is not asked for again that could not be fetched
_TEMPORARY = frozenset({408, 425, 429})  # statuses, besides those from 500 on
_dead = {}  # address -> when and why it could not be fetched


class RangeError(soundfile.SoundFileError):
    """Bytes that cannot be read; the message continues after `path: ` and has no full stop."""


class ByteRange(NamedTuple):
    """`size` bytes of a file (a path or an address) from `offset` on, in which `item` is stored."""

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
        self.size, on_server = self._bytes.size, self._bytes.on_server
        try:
            with self._raising():
                file = io.BufferedReader(self._bytes, _FROM_SERVER if on_server else _HEAD)
                if parts := mp3.true_parts(file):
                    self._bytes.show(parts)
                if parts or not on_server:
                    file = io.BufferedReader(file.detach(), _FROM_DISK)
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
        self.on_server = bool(part) and part.file.startswith(_ON_SERVER)
        begin, self.size = (part.offset, part.size) if part else (0, 0)
        if not self.on_server:
            try:
                self._file = open(part.file if part else path, "rb", buffering=0)
            except OSError as error:
                raise self._unreadable(error) from error
            self.size = self.size if part else os.fstat(self._file.fileno()).st_size
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
            if self._file:
                self._file.seek(begin)
                found = self._file.read(count)
            else:
                found = _fetch(self._part.file, begin, begin + count)
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


def _fetch(url, begin, end):
    from http.client import HTTPException  # slow to import
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    since, why = _dead.get(url, (-math.inf, None))
    if time.monotonic() - since < _DEAD_SECONDS:
        raise RangeError(why)
    request = Request(url, headers={"Range": f"bytes={begin}-{end - 1}"})
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            with urlopen(request, timeout=_TIMEOUT) as response:
                if response.status == 206:
                    return response.read(end - begin)
                why = "its server does not support range requests; use one that does"
                break
        except (OSError, ValueError, HTTPException) as error:
            why = f"cannot be fetched ({error}); check the address and the server"
            if isinstance(error, HTTPError) and error.code < 500 and error.code not in _TEMPORARY:
                break
    _dead[url] = time.monotonic(), why
    raise RangeError(why)
