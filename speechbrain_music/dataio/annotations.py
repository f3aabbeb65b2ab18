"""Annotations in time: beats, and labelled intervals (chords, sections).

They are what people annotate: seconds, not frames. Metrics compare with these times.

Text files may have a byte order mark, any line ends, blank lines and comments (`#`, `%`); cells are
separated by white space or by semicolons, then with or without a header. Files that end in `.jams`
are JAMS. A file that cannot be right is a `UserError` with the file, the line and the value.
"""

import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_music.utils.atomic import atomic_file
from speechbrain_music.utils.errors import UserError

LAST = 999  # position in a bar
_ROUNDING = 0.01  # seconds by which intervals may overlap: the resolution of some annotations
_HEADERS = ("t", "time", "t_start", "start")  # the first cell of a header
_REMEDY = "fix it, or download the file again"


class Beats(NamedTuple):
    """Beats of a track."""

    times: np.ndarray  # (N,) float64 seconds, ascending
    positions: np.ndarray  # (N,) int64 in the bar, from 1 (the downbeat); 0 where it is unknown


class LabelledIntervals(NamedTuple):
    """Chords or sections of a track, one after the other."""

    intervals: np.ndarray  # (N, 2) float64 seconds
    labels: list  # (N,) of str


def read_beats(path):
    """Read beats: `seconds position` or `seconds` per line, or JAMS (`beat_position`, `beat`).

    Further columns are ignored. A file of no bytes holds no beats; any other without a row is
    refused. GTZAN-Rhythm's JAMS have downbeats apart: positions are counted from these.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "song.beats")
    >>> write_annotation(path, Beats(np.array([0.5, 1.25]), np.array([4, 1])))
    >>> path.read_text(), read_beats(path).positions.tolist()
    ('0.5\\t4\\n1.25\\t1\\n', [4, 1])
    """
    times, positions = [], []
    for where, (time, *rest) in _rows(path, _jams_beats, empty=True):
        times.append(_seconds(where, time))
        if times[-1] < times[max(0, len(times) - 2)]:
            raise UserError(f"{where} has the time {time} after {times[-2]:g}: {_REMEDY}")
        text = rest[0] if rest and rest[0] not in ("", None) else 0
        if not _is_number(text, 0) or float(text) % 1 or float(text) > LAST:
            raise UserError(f"{where} has {text!r}, no position in a bar from 1 on: {_REMEDY}")
        positions.append(int(float(text)))
    return Beats(np.array(times, dtype=np.float64), np.array(positions, dtype=np.int64))


def read_intervals(path, seconds=math.inf):
    """Read labelled intervals: `start end label` or `start label` per line, or JAMS.

    In the second form (Harmonix) a row starts a segment and the last row is `end`. Without that row
    the last segment ends at `seconds`, the length of the track. Of JAMS the first `chord` is read
    (of GuitarSet's two that which was instructed), else `segment_open`. Overlaps of up to 10 ms are
    rounding: the later interval starts later. Intervals without length are left out.
    """
    rows = _rows(path, _jams_intervals)
    if not _is_number(*rows[0][1][1:2]):
        starts = [_seconds(where, cells[0]) for where, cells in rows]
        if rows[-1][1][1:] != ["end"]:
            starts.append(max(seconds, starts[-1]))
        ends = starts[1:]
        rows = [
            (where, [start, end, " ".join(cells[1:])])
            for (where, cells), start, end in zip(rows, starts, ends, strict=False)
        ]
    intervals, labels, last = [], [], 0.0
    for where, cells in rows:
        if len(cells) != 3 or not str(cells[2]).strip():
            raise UserError(f"{where} has no start, end and label ({cells}): {_REMEDY}")
        start = _seconds(where, cells[0])
        end = cells[1] if cells[1] == math.inf else _seconds(where, cells[1])
        if end < start:
            raise UserError(f"{where} ends at {end:g}, before its start {start:g}: {_REMEDY}")
        if start < last - _ROUNDING:
            raise UserError(f"{where} starts at {start:g}, before {last:g}: {_REMEDY}")
        start, last = max(start, last), max(end, last)
        if start < end:
            intervals.append((start, end))
            labels.append(str(cells[2]).strip())
    if not labels:
        raise UserError(f"{path} has no interval: {_REMEDY}")
    return LabelledIntervals(np.array(intervals), labels)


def write_annotation(path, annotation):
    """Write `Beats` as `seconds<TAB>position` per line, LabelledIntervals as `start end label`.

    Positions that are unknown are left out.
    """
    if isinstance(annotation, Beats):
        rows = [[time, position or ""] for time, position in zip(*annotation, strict=True)]
    else:
        rows = [[*span, " ".join(label.split())] for span, label in zip(*annotation, strict=True)]
    with atomic_file(path, encoding="utf-8", newline="") as file:
        for *seconds, text in rows:
            times = [f"{round(float(time), 6)}" for time in seconds]
            file.write("\t".join([*times, str(text)]).rstrip() + "\n")


def positions(beats, starts):
    """Positions (N,) int64 of N beats in bars that begin at the beats `starts` (M,), ascending.

    A pick-up counts as the end of a bar like the first; 0 is unknown.
    """
    starts, places = np.asarray(starts, dtype=np.int64), np.arange(beats)
    if not len(starts):
        return places * 0
    ahead, bar = starts[0] - places, np.diff(starts[:2]).sum()
    begun = starts[np.searchsorted(starts, places, side="right") - 1]
    return np.where(ahead <= 0, places - begun + 1, np.where(ahead < bar, bar + 1 - ahead, 0))


def _rows(path, from_jams, empty=False):
    """A list of (file and line, cells); `from_jams(annotations)` gives the cells of a JAMS."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        if str(path).endswith(".jams"):
            rows = enumerate(from_jams(json.loads(text)["annotations"]), 1)
            rows = [(f"{path}, observation {n}", cells) for n, cells in rows]
        else:
            lines = enumerate(re.split(r"\r\n|\r|\n", text), 1)
            rows = [(f"{path}, line {n}", line.strip()) for n, line in lines]
            rows = [(where, line) for where, line in rows if line and line[0] not in "#%"]
            rows = [
                (at, line.split(";") if ";" in line else line.split(None, 2)) for at, line in rows
            ]
            if rows and rows[0][1][0].lower() in _HEADERS:
                rows.pop(0)
            empty &= not text
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except Exception as error:  # a file of anyone may raise anything
        kind = "JAMS with such annotations" if str(path).endswith(".jams") else "text in UTF-8"
        raise UserError(f"{path} is no {kind} ({error!r}): {_REMEDY}") from error
    if not rows and not empty:
        raise UserError(f"{path} has no rows: {_REMEDY}")
    return rows


def _is_number(text=0, lowest=-math.inf):
    with suppress(TypeError, ValueError, OverflowError):
        return lowest <= float(text) < math.inf
    return False


def _seconds(where, text):
    if not _is_number(text, 0):
        raise UserError(f"{where} has {text!r}, no time in seconds from 0 on: {_REMEDY}")
    return float(text)


def _observations(annotation):
    """The observations of a JAMS annotation, a list of dicts or a dict of columns, by time."""
    data = annotation["data"]
    if isinstance(data, dict):
        data = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    return sorted(data, key=lambda observation: observation["time"])


def _jams_beats(annotations):
    """Rows of time and position; a KeyError if there are no beats."""
    kinds = {}
    for annotation in annotations:
        kind = annotation["namespace"]
        if kind in ("beat", "beat_position"):
            sandbox = annotation.get("sandbox") or {}
            kinds.setdefault(sandbox.get("annotation_type", kind), _observations(annotation))
    if "beat_position" in kinds:
        return [[o["time"], o["value"]["position"]] for o in kinds["beat_position"]]
    if "downbeat" not in kinds:
        beats = [(o["time"], o["value"]) for o in kinds["beat"]]
        return [(time, 0 if value != value else value) for time, value in beats]  # it may be NaN
    times, downbeats = ([o["time"] for o in kinds[kind]] for kind in ("beat", "downbeat"))
    starts = sorted({int(np.abs(np.subtract(times, time)).argmin()) for time in downbeats})
    return list(zip(times, positions(len(times), starts).tolist(), strict=True))


def _jams_intervals(annotations):
    """Rows of start, end and label; an IndexError if there is no such annotation."""
    kinds = ("chord", "segment_open")
    chosen = [a for kind in kinds for a in annotations if a["namespace"] == kind][0]
    found = _observations(chosen)
    ends = np.array([o["time"] + o["duration"] for o in found], dtype=float)
    if not np.isfinite(ends).all():
        raise ValueError("a duration that is not finite")
    return [[o["time"], end, o["value"]] for o, end in zip(found, ends.tolist(), strict=True)]
