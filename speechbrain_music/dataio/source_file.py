"""Files of music opened for libsndfile, whatever their names, tags and mp3 headers."""

import io
import os
from bisect import bisect
from contextlib import contextmanager
from itertools import accumulate

import soundfile

from speechbrain_music.dataio import mp3

_HEAD, _REST = 2**13, 2**18  # bytes per read: what most headers have at most, and the others


class SourceError(soundfile.SoundFileError):
    """A file that cannot be read; the message continues after `path: ` and has no full stop."""


class SourceFile(soundfile.SoundFile):
    """A `soundfile.SoundFile` on all music in a file; `size` is in bytes.

    libsndfile is not given the path: it cannot open `song.mp3` if `._song.mp3` exists, nor names
    of other encodings. It reads parts of files in callbacks of C code, which cannot raise. A
    failed read there is raised here, as a SourceError, and not taken for the file's end or damage.
    """

    _file = _bytes = _parts = None

    def __init__(self, path):
        try:
            self._bytes = open(path, "rb", buffering=0)
            self.size = os.fstat(self._bytes.fileno()).st_size
            head = io.BufferedReader(self._bytes, _HEAD)
            parts = mp3.true_parts(head)
            head.detach().seek(0)
            if parts:
                self._parts = _Parts(self._bytes, parts)
            with self._raising():
                super().__init__(
                    io.BufferedReader(self._parts, _REST) if parts else os.dup(self._bytes.fileno())
                )
        except OSError as error:
            raise _unreadable(error) from error
        finally:
            if self.closed:
                self.close()

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
            if self._parts and self._parts.failure:
                raise self._parts.failure

    def seek(self, *args, **kwargs):
        """As soundfile's."""
        with self._raising():
            return super().seek(*args, **kwargs)

    def read(self, *args, **kwargs):
        """As soundfile's."""
        with self._raising():
            return super().read(*args, **kwargs)


class _Parts(io.RawIOBase):
    """Parts of a file, see `mp3.true_parts`. It does not raise, but keeps its first `failure`."""

    def __init__(self, file, parts):
        self._file, self._parts, self.failure = file, parts, None
        sizes = (len(p) if isinstance(p, bytes) else p[1] - p[0] for p in parts)
        self._starts = [0, *accumulate(sizes)]
        self._place = 0

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
            found = part[begin : begin + count]
        else:
            try:
                self._file.seek(part[0] + begin)
                found = self._file.read(count)
            except OSError as error:
                self.failure = _unreadable(error)
                return 0
            if len(found) < count:
                self.failure = SourceError("changes while it is read; try again later")
                return 0
        buffer[:count] = found
        self._place += count
        return count


def _unreadable(error):
    return SourceError(f"cannot be read ({error.strerror}); check its permissions and the disk")
