"""Performed pieces: annotations agree with the notes, and everything they promise occurs."""

import importlib
from collections import Counter
from unittest.mock import Mock

import mir_eval
import numpy as np
import pytest

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.frames import COLUMNS
from speechbrain_music.data_prep.manifest import DATA_ROOT
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica import storage, trees
from speechbrain_music.data_prep.replica.draws import keyed
from speechbrain_music.data_prep.replica.expression import perform
from speechbrain_music.data_prep.replica.genres import GENRES, make_artist
from speechbrain_music.data_prep.replica.synth import load_bank
from speechbrain_music.dataio.annotations import read_beats, read_intervals

SECONDS = 60.0


@pytest.fixture(scope="module")
def pieces():
    """20 pieces, two a genre, whose players are exactly on time."""
    found = []
    for index in range(20):
        artist = make_artist("a", list(GENRES)[index % 10], keyed(index))
        artist.tightness = 0.0
        found.append(perform(artist, SECONDS, keyed(1, index), load_bank()))
    return found


def notes(piece, *roles):
    """Their notes, as (start, end, pitch, velocity)."""
    return [note for part in piece.parts if part.role in roles for note in part.notes.tolist()]


def test_notes_begin_on_the_annotated_beats(pieces):
    for piece in pieces:
        starts = np.array([n[0] for n in notes(piece, "drums", "bass", "comp", "pad", "melody")])
        distances = np.array([np.abs(starts - beat).min() for beat in piece.beats])
        near = distances < 0.05  # a sixteenth is longer
        assert near.mean() > 0.5 and distances[near].max() < 1e-3
        # Nothing sounds before the first beat; a downbeat ends a pick-up.
        assert starts.min() >= piece.beats[0] - 1e-6 and set(piece.downbeats) <= set(piece.beats)
        size = {"4/4": 4, "3/4": 3, "6/8": 2}[piece.meter]
        positions = [position for _, position, _ in piece.positions()]
        assert np.all(np.diff(positions) % size == 1 % size) and set(positions) <= {1, 2, 3, 4}
        bars = [bar for *_, bar in piece.positions()]
        assert bars[0] == 1 and [int(p == 1) for p in positions[1:]] == np.diff(bars).tolist()
        assert [time for time, position, _ in piece.positions() if position == 1] == piece.downbeats


def test_notes_belong_to_the_annotated_chords(pieces):
    for piece in pieces:
        assert piece.chords[0][0] == 0 and piece.chords[-1][1] == SECONDS
        for start, end, label in piece.chords:
            root, bitmap, bass = mir_eval.chord.encode(label)
            inside = [n for n in notes(piece, "comp", "pad") if start - 1e-3 < n[0] < end - 1e-3]
            assert all(bitmap[(pitch - root) % 12] for _, _, pitch, _ in inside), label
            assert all(stop < end + 1e-3 for _, stop, _, _ in inside)
            bassists = [n for n in notes(piece, "bass") if start - 1e-3 < n[0] < end - 1e-3]
            if label == "N":
                assert not bassists and not inside
            elif "/" in label and bassists:
                assert (bassists[0][2] - root - bass) % 12 == 0


def test_spans_and_tempi(pieces):
    for piece in pieces:
        for spans in (piece.sections, piece.chords):
            edges = np.array([span[:2] for span in spans])
            assert edges[0, 0] == 0 and edges[-1, 1] == SECONDS and np.all(np.diff(edges) > 0)
            assert np.array_equal(edges[1:, 0], edges[:-1, 1])
        music = {edge for *edges, name in piece.sections if name != "silence" for edge in edges}
        assert all(
            np.abs(np.subtract(piece.downbeats, t)).min() < 1e-6 for t in sorted(music)[1:-1]
        )
        assert piece.keys[0][0] == piece.beats[0]
        intervals = np.diff(piece.beats)
        assert 0.5 < intervals.min() * piece.tempo / 60 and intervals.max() * piece.tempo / 60 < 1.6


def test_everything_occurs(pieces):
    seen = Counter(piece.meter for piece in pieces)
    seen.update(name for piece in pieces for *_, name in piece.sections)
    seen.update(name.partition(":")[2] or name for piece in pieces for *_, name in piece.chords)
    seen["pick-up"] = sum(piece.beats[0] != piece.downbeats[0] for piece in pieces)
    seen["late"] = sum(piece.beats[0] > 1 for piece in pieces)
    tempi = [60 / np.diff(piece.beats) for piece in pieces]
    seen["changing"] = sum(tempo.max() > 1.15 * tempo.min() for tempo in tempi)
    for piece in pieces:
        drums = np.array([start for start, *_ in notes(piece, "drums")])
        breaks = [span for span in piece.chords[1:-1] if span[2] == "N"]
        seen["break"] += len(breaks)
        assert all(np.any((start < drums + 1e-3) & (drums < end)) for start, end, _ in breaks)
    wanted = "4/4 3/4 6/8 intro verse chorus bridge inst solo outro silence N maj min 7 maj7 min7"
    wanted += " sus4 maj/3 maj/5 min/b3 7/b7 pick-up late changing break"
    assert not set(wanted.split()) - set(+seen)


@pytest.mark.parametrize("name", ("beats", "rwc", "chords1217", "guitarset", "harmonix"))
def test_annotation_files_agree_with_what_is_composed(name, tmp_path, monkeypatch):
    layout = importlib.import_module(f"speechbrain_music.data_prep.replica.layouts.{name}")
    tree = layout.plan(0.0001, 0)
    monkeypatch.setattr(layout, "plan", lambda *_: tree)  # planned once
    monkeypatch.setattr(storage, "render_all", Mock())
    root = trees.make_replica(name, tmp_path, 0.0001)
    for path, _ in tree.sounds:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    draw = getattr(layout, "draw_excerpt", trees.draw_performance)
    keys, items = dict(tree.sounds), DATA_SETS[name].read(root).items
    assert {item.split for item in items} == set(SPLITS) and len(items) == len(keys)
    for item in items[::3]:
        piece = draw(*keys[item.wav])[1]
        files = dict(zip(DATA_SETS[name].labels, item.labels, strict=True))
        files = {c: files[c].replace(DATA_ROOT, str(root)) for c in COLUMNS if files[c]}
        if name != "chords1217":  # which has chords only
            beats = read_beats(files["beats"])
            assert beats.times == pytest.approx(piece.beats, abs=1e-3)
            assert beats.times[beats.positions == 1] == pytest.approx(piece.downbeats, abs=1e-3)
        for key, spans in (("chords", piece.chords), ("segments", piece.sections)):
            if key in files:
                found, labels = read_intervals(files[key], piece.seconds), [s[2] for s in spans]
                if name == "guitarset":  # chords as instructed
                    labels = [label.partition("/")[0] for label in labels]
                assert found.labels == labels
                assert np.allclose(found.intervals, [span[:2] for span in spans], atol=1e-3)
        if name == "guitarset":
            assert {part.program for part in piece.parts} <= {24, 25}
