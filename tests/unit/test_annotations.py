"""Annotations in time: the real files, other forms, and what is refused."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from speechbrain_music.dataio.annotations import (
    Beats,
    LabelledIntervals,
    read_beats,
    read_intervals,
    write_annotation,
)
from speechbrain_music.utils.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "audio"
REAL = Path(os.environ.get("SBMUSIC_REAL_AUDIO", SHARED)).parent / "annotations"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real annotations are not here")


def table(path):
    """The rows of a real file, without its header."""
    lines = [line.replace(";", "\t").split("\t") for line in path.read_text().splitlines() if line]
    return lines[lines[0][0].startswith("t") :]


def write(tmp_path, text, name="x.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@real
@pytest.mark.parametrize(
    "files, count, unknown",
    [
        ("beat_this/ballroom/annotations/beats/*", 685, 0),
        ("beat_this/candombe/annotations/beats/*", 35, 0),
        ("beat_this/gtzan/annotations/beats/*", 999, 6),
        ("beat_this/guitarset/annotations/beats/*", 180, 0),
        ("beat_this/smc/annotations/beats/*", 217, 217),
        ("rwc_v2/beats/*/*.csv", 167, 0),
        ("harmonix/beats_and_downbeats/*", 304, 0),
    ],
)
def test_real_beats(files, count, unknown):
    paths, without = sorted(REAL.glob(files)), []
    assert len(paths) == count
    for path in paths:
        beats, rows = read_beats(path), table(path)
        assert beats.times.tolist() == [float(row[0]) for row in rows]
        positions = [int(row[1]) if len(row) > 1 else 0 for row in rows]
        assert beats.positions.tolist() == positions
        without += [path.stem] * (not any(positions))
    assert len(without) == unknown
    if unknown == 6:
        numbers = ("00003", "00009", "00010", "00014", "00018", "00020")
        assert without == [f"gtzan_jazz_{number}" for number in numbers]


@real
def test_real_intervals():
    chords = sorted(REAL.glob("rwc_v2/chords/RWC-P/*.csv"))
    for path in chords:
        found, rows = read_intervals(path), table(path)
        assert found.intervals.tolist() == [[float(row[0]), float(row[1])] for row in rows]
        assert found.labels == [row[2] for row in rows]
    segments, labels = sorted(REAL.glob("harmonix/segments/*.txt")), Counter()
    for path in segments:
        rows = [line.split() for line in path.read_text().splitlines() if line]
        found, times = read_intervals(path), [float(row[0]) for row in rows]
        whole = rows[-1][1] != "end"  # the last row is missing
        assert found.intervals[:, 0].tolist() == (times if whole else times[:-1])
        assert found.intervals[:, 1].tolist() == (times[1:] + [math.inf] if whole else times[1:])
        labels.update(found.labels)
        assert whole == (path.stem == "0539_youandi")
    assert (len(chords), len(segments), labels["end"]) == (50, 304, 2)
    open_end = read_intervals(REAL / "harmonix/segments/0539_youandi.txt", seconds=246.0)
    assert open_end.intervals[-1].tolist() == [223.050684, 246.0]


@pytest.mark.parametrize(
    "text, times, positions",
    [
        ("\ufeff# a comment\r\n0.5\t4\r\n\r\n1.0\t1\r\n", [0.5, 1.0], [4, 1]),
        ("t;beat\n0.5;4\n1;1\n", [0.5, 1.0], [4, 1]),
        ("0.5;4\n1;1", [0.5, 1.0], [4, 1]),
        ("0.5 4.0 7\n1 1.0 8\n", [0.5, 1.0], [4, 1]),
        ("0.5\t4\n1.0\n1.0\t1\n", [0.5, 1.0, 1.0], [4, 0, 1]),
        ("", [], []),
    ],
)
def test_forms_of_beats(text, times, positions, tmp_path):
    beats = read_beats(write(tmp_path, text))
    assert beats.times.dtype == float and beats.positions.dtype == np.int64
    assert (beats.times.tolist(), beats.positions.tolist()) == (times, positions)


@pytest.mark.parametrize(
    "text, intervals, labels",
    [
        ("t_start;t_end;chord\n0;1;C:maj\n1;2.5;Ab:min(*b3,*5)\n", [[0, 1], [1, 2.5]], 2),
        ("0.0 1.0\tN\n% x\n1.005 2 C:7/b7\n", [[0, 1], [1.005, 2]], 2),
        ("0 1.005 N\n1 2 C\n", [[0, 1.005], [1.005, 2]], 2),
        ("0 1 verse two\n1 1 x\n3 4 chorus\n", [[0, 1], [3, 4]], 2),
        ("0.5 intro\n2 verse\n2 x\n4 end\n", [[0.5, 2], [2, 4]], 2),
        ("0.5 intro\n2 verse\n", [[0.5, 2], [2, 9]], 2),
    ],
)
def test_forms_of_intervals(text, intervals, labels, tmp_path):
    found = read_intervals(write(tmp_path, text, "x.lab"), seconds=9.0)
    assert found.intervals.tolist() == intervals and len(found.labels) == labels


def jams(*annotations):
    named = ({"namespace": kind, "data": data, **more} for kind, data, more in annotations)
    return json.dumps({"annotations": list(named)})


def seen(*rows):
    return [{"time": t, "duration": d, "value": v, "confidence": None} for t, d, v in rows]


def typed(kind):
    return {"sandbox": {"annotation_type": kind}}


def test_jams(tmp_path):
    positions = seen((1.0, 0, {"position": 1}), (0.5, 0, {"position": 4}))
    one, two = seen((0, 1, "C:maj"), (1, 1, "G")), seen((0, 2, "C:maj7/1"))
    path = write(
        tmp_path,
        jams(("beat_position", positions, {}), ("chord", one, {}), ("chord", two, {})),
        "a.jams",
    )
    assert [part.tolist() for part in read_beats(path)] == [[0.5, 1.0], [4, 1]]
    assert read_intervals(path) == LabelledIntervals(
        pytest.approx(np.array([[0, 1], [1, 2]])), ["C:maj", "G"]
    )
    # As in GTZAN-Rhythm: downbeats apart, columns or rows, other kinds between; a pick-up of two.
    beats = {"time": [0.1, 0.6, 1.1, 1.6, 2.1, 2.6, 3.1], "duration": [0] * 7, "value": [1] * 7}
    more = ("beat", seen((1.1, 0, None), (2.6, 0, None)), typed("downbeat"))
    rhythm = jams(
        ("beat", seen((9, 0, 1)), typed("8th-note")), ("beat", beats, typed("beat")), more
    )
    path = write(tmp_path, rhythm, "blues.00000.wav.jams")
    assert read_beats(path).positions.tolist() == [2, 3, 1, 2, 3, 1, 2]
    path = write(tmp_path, jams(("beat", seen((1, 0, 2.0), (2, 0, math.nan)), {})), "b.jams")
    assert read_beats(path).positions.tolist() == [2, 0]
    path = write(
        tmp_path, jams(("beat", [], typed("beat")), ("beat", [], typed("downbeat"))), "c.jams"
    )
    assert len(read_beats(path).times) == 0
    path = write(tmp_path, jams(("segment_open", seen((0, 3, "verse")), {})), "d.jams")
    assert read_intervals(path).labels == ["verse"]


@pytest.mark.parametrize("read", [read_beats, read_intervals])
@pytest.mark.parametrize(
    "text, name, words",
    [
        ("# nothing\n", "x.txt", ["x.txt has no rows"]),
        ("t;beat\n", "x.csv", ["has no rows"]),
        (b"\xff\xfe\x00", "x.txt", ["is no text in UTF-8"]),
        ("{", "x.jams", ["is no JAMS"]),
        ("[]", "x.jams", ["is no JAMS"]),
        ("[" * 100_000, "x.jams", ["is no JAMS"]),
        (jams(("chord", seen((0, math.inf, "N")), {})), "x.jams", ["is no JAMS"]),
        (jams(("chord", seen((10**400, 1, "N")), {})), "x.jams", ["is no JAMS"]),
        (jams(("tempo", seen((0, 1, 120)), {})), "x.jams", ["is no JAMS with such annotations"]),
        ("one 2 x\n", "x.lab", ["line 1", "'one'", "no time in seconds"]),
        ("0 1 1\n\nnan 2 3\n", "x.lab", ["line 3", "'nan'"]),
        ("0 1 1\n-1 2 3\n", "x.lab", ["line 2", "'-1'"]),
    ],
)
def test_files_that_are_refused(read, text, name, words, tmp_path):
    path = write(tmp_path, text, name)
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and "download" in message
    assert all(word in message for word in words)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "missing")


@pytest.mark.parametrize(
    "read, text, words",
    [
        (read_beats, "1 1\n0.5 2\n", ["line 2", "0.5 after 1"]),
        (read_beats, "1 New\n", ["line 1", "'New'", "position"]),
        (read_beats, "1 1.5\n", ["line 1", "'1.5'"]),
        (read_beats, "1 -1\n", ["line 1", "'-1'"]),
        (read_beats, "1 1e30\n", ["line 1", "'1e30'"]),
        (read_beats, " \n", ["has no rows"]),
        (read_intervals, "", ["has no rows"]),
        (read_intervals, "1 end\n", ["has no interval"]),
        (read_intervals, "0 1 a\n3 2 b\n", ["line 2", "ends at 2, before its start 3"]),
        (read_intervals, "0 2 a\n1.9 3 b\n", ["line 2", "starts at 1.9, before 2"]),
        (read_intervals, "0 a\n3 b\n2 c\n4 end\n", ["line 2", "ends at 2, before"]),
        (read_intervals, "0 1 a\n1 2\n", ["line 2", "no start, end and label"]),
        (read_intervals, "0 1 a\n1 b\n", ["line 2", "no start, end and label"]),
        (read_intervals, "0;1;\n", ["line 1", "no start, end and label"]),
        (read_intervals, "0 a\n1\n2 end\n", ["line 2", "no start, end and label"]),
    ],
)
def test_rows_that_are_refused(read, text, words, tmp_path):
    with pytest.raises(UserError) as caught:
        read(write(tmp_path, text))
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_is_written_is_read(tmp_path):
    beats = Beats(np.array([0.1, 0.734567, 2.0]), np.array([3, 1, 0]))
    write_annotation(tmp_path / "x.beats", beats)
    assert (tmp_path / "x.beats").read_text() == "0.1\t3\n0.734567\t1\n2.0\n"
    assert all(map(np.array_equal, read_beats(tmp_path / "x.beats"), beats))
    write_annotation(tmp_path / "none.beats", Beats(np.zeros(0), np.zeros(0, int)))
    assert len(read_beats(tmp_path / "none.beats").times) == 0
    labelled = LabelledIntervals(np.array([[0, 1.5], [1.5, 3]]), ["N", "C:maj7/3"])
    write_annotation(tmp_path / "x.lab", labelled)
    assert (tmp_path / "x.lab").read_text() == "0.0\t1.5\tN\n1.5\t3.0\tC:maj7/3\n"
    found = read_intervals(tmp_path / "x.lab")
    assert np.array_equal(found.intervals, labelled.intervals) and found.labels == labelled.labels
