"""What a long job has done: killed at any moment, the same command goes on from there."""

import fcntl
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np

from speechbrain_music.inference.store import OPTIONS, settings_text
from speechbrain_music.utils.atomic import atomic_file, write_together
from speechbrain_music.utils.errors import UserError

SETTINGS, ROWS, VALUES = "settings.json", "rows.jsonl", "values.f32"
KEY = ("model", *OPTIONS)  # of the settings: what results depend on


class Journal:
    """Results of files as they come, in a folder that only one process has open.

    A line of `rows.jsonl` a file, with its size and time of change: a file that has changed since
    is not done. A line vouches for values that were written before it.

    Arguments
    ---------
    folder : path
        Made if missing, and continued if not.
    settings : dict
        As of `store.Embeddings`.
    names : dict, optional
        Path -> name of an .npy in the folder that holds the file's values; without it they
        follow each other in `values.f32`.

    Raises
    ------
    UserError
        If the folder was begun with other settings, is open in another process, or is no journal.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "a.npz.partial"
    >>> settings = dict.fromkeys(KEY, 0)
    >>> with Journal(folder, settings) as journal:
    ...     journal.add(__file__, np.arange(3.0), seconds=1.5)
    >>> with Journal(folder, settings) as journal:
    ...     journal.holds(__file__), journal.row(__file__)["seconds"], journal.read([__file__])
    (True, 1.5, array([[0., 1., 2.]], dtype=float32))
    """

    def __init__(self, folder, settings, names=None):
        self.folder, self.names = Path(folder), names
        if self.folder.is_dir() and any(self.folder.iterdir()) and not self._file(ROWS).exists():
            raise UserError(f"{self.folder} stands where work would be kept: rename or remove it")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = open(self._file(ROWS), "a+b")
        self._values = open(self._file(VALUES), "a+b") if names is None else None
        try:
            self._lock()
            lines = self._read_log()
            self._check(settings, lines)
            self._rows = {row["path"]: row for row in lines if self._is_whole(row)}
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
        if not self._rows:  # nothing is lost
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self):
        """Lets another process have it."""
        for file in filter(None, (self._log, self._values)):
            file.close()

    def holds(self, path):
        """Whether a file's values are there, and it has not changed since."""
        row = self._rows.get(path)
        return row is not None and row["stamp"] is not None and row["stamp"] == _stamp(path)

    def row(self, path):
        """What was noted of a file that is there."""
        return self._rows[path]

    def add(self, path, values, **facts):
        """Keeps a file's values, a float array, and facts, plain values."""
        values = np.ascontiguousarray(values, dtype="<f4")
        if self.names is None:
            data = values.tobytes()
            place = self._values.seek(0, os.SEEK_END)
            self._values.write(data)
            self._values.flush()
            facts |= {"shape": values.shape, "place": place, "crc": zlib.crc32(data)}
        else:
            with atomic_file(self.file_of(path), "wb") as file:
                np.save(file, values)
        self.note(path, **facts)

    def note(self, path, **facts):
        """Keeps facts, plain values, of a file whose values are in its .npy already."""
        row = {"path": path, "stamp": _stamp(path), **facts}
        self._log.write(json.dumps(row).encode() + b"\n")
        self._log.flush()
        self._rows[path] = row

    def read(self, paths):
        """Values of files that are there, all of one shape, in `values.f32`: (N, ...) float32."""
        rows = [self._rows[path] for path in paths]
        values = np.empty((len(rows), *rows[0]["shape"]), dtype="<f4")
        for place, row in enumerate(rows):
            values[place] = np.frombuffer(self._bytes(row), dtype="<f4").reshape(row["shape"])
        return values

    def file_of(self, path):
        """The .npy of a file that is there, where files have `names`."""
        return self._file(self.names[path])

    def remove(self):
        """Closes it and deletes the folder."""
        self.close()
        shutil.rmtree(self.folder)

    def _file(self, name):
        return self.folder / name

    def _lock(self):
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is at work in {self.folder}: wait for it") from None

    def _check(self, settings, lines):
        if not lines:
            write_together({self._file(SETTINGS): settings_text(settings)})
            return
        try:
            begun = json.loads(self._file(SETTINGS).read_text(encoding="utf-8"))
            other = [key for key in KEY if begun[key] != settings[key]]
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{self.folder} is damaged: delete it, and begin anew") from None
        if other:
            was = ", ".join(f"{key} {begun[key]}, now {settings[key]}" for key in other)
            raise UserError(
                f"{self.folder} was begun with other settings ({was}): give those to continue, "
                "delete it to begin anew, or choose another --out"
            )

    def _read_log(self):
        self._log.seek(0)
        data = self._log.read()
        whole = data[: data.rfind(b"\n") + 1]  # a kill may have cut the last line
        self._log.truncate(len(whole))
        lines = []
        for line in whole.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # garbled by a power cut
                continue
        return lines

    def _is_whole(self, row):
        if self.names is None:
            return zlib.crc32(self._bytes(row)) == row["crc"]
        return row["path"] in self.names and self.file_of(row["path"]).is_file()

    def _bytes(self, row):
        self._values.seek(row["place"])
        return self._values.read(4 * int(np.prod(row["shape"])))


def _stamp(path):
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
