"""Recordings that are a part of a larger file, on disk or on a web server.

A manifest names it `shards/train-000003.tar#sets/waltz.wav@1536+88123`: the shard (see
`data_prep.shards`), the piece's ID, its first byte and its size. Where the shard begins with
`http://` or `https://`, only the needed bytes are fetched.
"""

import io
import re
import time
from contextlib import contextmanager
from typing import NamedTuple

import soundfile

_ADDRESS = re.compile(r"(.+?\.tar)#(.*)@(\d+)\+(\d+)", re.DOTALL)
_ON_SERVER = ("http://", "https://")
# Bytes per request: seeking in a flac file reads a few places near each other, so that a crop of
# 30 s takes about four requests.
_FROM_SERVER, _FROM_DISK = 2**20, 2**18
_TIMEOUT = 30  # seconds without a response
_PAUSES = (0, 1, 3, 9)  # seconds before each try
_TEMPORARY = frozenset({408, 425, 429})  # statuses, besides those from 500 on


class RangeError(soundfile.SoundFileError):
    """Bytes that cannot be read; the message continues after `path: ` and has no full stop."""


class ByteRange(NamedTuple):
    """`size` bytes of a file (a path or an address) from `offset` on, in which `item` is stored.

    Example
    -------
    >>> text = str(ByteRange("train-000003.tar", "sets/waltz.wav", 1536, 88123))
    >>> text
    'train-000003.tar#sets/waltz.wav@1536+88123'
    >>> parse(text).size, parse("sets/waltz.wav")
    (88123, None)
    """

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


class RangeSoundFile(soundfile.SoundFile):
    """A `soundfile.SoundFile` on a `ByteRange`.

    soundfile reads file objects in callbacks of C code, which cannot raise. A failed read there is
    raised here, as a RangeError, and not taken for the file's end or for damage.
    """

    def __init__(self, part):
        on_server = part.file.startswith(_ON_SERVER)
        self._bytes = _Bytes(part, _fetch if on_server else _read)
        buffered = io.BufferedReader(self._bytes, _FROM_SERVER if on_server else _FROM_DISK)
        with self._raising():
            super().__init__(buffered)

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
    """A byte range as a file of its own. It does not raise, but keeps its first `failure`."""

    def __init__(self, part, get):
        self._part, self._get, self._place = part, get, 0
        self.failure = None

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._place = offset + (0, self._place, self._part.size)[whence]
        return self._place

    def tell(self):
        return self._place

    def readinto(self, buffer):
        count = min(len(buffer), self._part.size - self._place)
        if count <= 0 or self.failure:
            return 0
        begin = self._part.offset + self._place
        try:
            found = self._get(self._part.file, begin, begin + count)
        except RangeError as failure:
            self.failure = failure
            return 0
        if len(found) < count:
            self.failure = RangeError("its shard ends before it does; fetch the shard again")
            return 0
        buffer[:count] = found
        self._place += count
        return count


def _read(file, begin, end):
    try:
        with open(file, "rb", buffering=0) as shard:
            shard.seek(begin)
            return shard.read(end - begin)
    except OSError as error:
        raise RangeError(
            f"its shard cannot be read ({error.strerror}); check the data folder"
        ) from error


def _fetch(url, begin, end):
    from http.client import HTTPException  # slow to import
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"Range": f"bytes={begin}-{end - 1}"})
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            with urlopen(request, timeout=_TIMEOUT) as response:
                if response.status != 206:
                    raise RangeError(
                        "its server does not support range requests; use one that does"
                    )
                return response.read(end - begin)
        except (OSError, ValueError, HTTPException) as error:
            reason = error
            if isinstance(error, HTTPError) and error.code < 500 and error.code not in _TEMPORARY:
                break
    raise RangeError(f"cannot be fetched ({reason}); check the address and the server") from reason
