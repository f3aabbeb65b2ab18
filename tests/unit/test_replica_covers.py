"""Composed cover songs: versions play their original's notes, changed as the table says."""

import csv
import io
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.layouts import covers

PITCHED = ("bass", "comp", "pad", "melody")


@pytest.fixture(scope="module")
def tree():
    """The plan of 14 works."""
    return covers.plan(0.05, 0)


@pytest.fixture(scope="module")
def table(tree):
    """Track -> its row of the table."""
    rows = list(csv.DictReader(io.StringIO(tree.texts["covers.csv"])))
    assert [row["track"] for row in rows] == sorted({row["track"] for row in rows})
    return {row["track"]: row for row in rows}


@pytest.fixture(scope="module")
def versions(tree, table):
    """(row, original, performer, piece) of each track, by the kind of change."""
    found = defaultdict(list)
    for path, key in tree.sounds:
        row = table[path.removeprefix("audio/").removesuffix(".flac")]
        player, piece, _, change = covers.draw_version(*key)
        original = covers.draw_original(*key[:4])[1]
        assert row["change"] == covers.CHANGES[key[-1]] and row["artist"] == player.name
        # The table says to three decimals what was drawn.
        amounts = (float(row["start"]), int(row["semitones"]), float(row["time_factor"]))
        assert amounts == pytest.approx(change[:3], abs=6e-4)
        assert row["sections"] == " ".join(map(str, change.sections))
        found[row["change"]].append((row, change, original, player, piece))
    return found


def notes(piece, roles, start=0.0, factor=1.0):
    """Times, pitch classes and velocities of the notes of some roles, in order."""
    every = np.concatenate([p.notes for p in piece.parts if p.role in roles])
    times = start + factor * every["start"]
    table = np.stack([times, every["pitch"] % 12, every["velocity"]], axis=1)
    return in_order(table)


def in_order(table):
    return table[np.lexsort(table.T[::-1].round(6))]


def test_works_performers_and_splits(tree, table, versions):
    assert tree.counts["published"] == {"train": 25, "valid": 10, "test": 35}
    assert Counter(row["split"] for row in table.values()) == tree.counts["published"]
    tracks, works, artists = defaultdict(list), defaultdict(set), defaultdict(set)
    for row in table.values():
        tracks[row["work"]].append(row)
        works[row["split"], row["artist"]].add(row["work"])
        artists[row["split"]].add(row["artist"])
    for rows in tracks.values():
        assert sorted(row["change"] for row in rows) == sorted(covers.CHANGES)
        assert len({row["artist"] for row in rows}) == 5 and len({r["split"] for r in rows}) == 1
    assert all(2 <= len(own) <= 7 for own in works.values())
    assert not set.intersection(*artists.values())
    genres = defaultdict(list)
    for row, _, original, player, piece in (v for found in versions.values() for v in found):
        genres[row["work"]].append(player.genre)
        assert 25 <= piece.seconds <= 40 and piece.artist == player.name
        own = {(role, p) for role, programs in player.programs.items() for p in programs}
        assert {(p.role, p.program) for p in piece.parts} <= own | {("drums", 128)}
        assert (row["artist"] == original.artist) == (row["change"] == "original")
    assert all(len(set(five)) == 5 for five in genres.values())
    lengths = [piece.seconds for found in versions.values() for *_, piece in found]
    assert len(set(lengths)) == len(lengths)


@pytest.mark.parametrize("name", ("original", "timbre", "key", "tempo"))
def test_versions_have_the_notes_of_the_original(name, versions):
    shifts = set()
    for _, change, original, _, piece in versions[name]:
        expected = notes(original, PITCHED, change.start, change.time_factor)
        expected[:, 1] = (expected[:, 1] + change.semitones) % 12
        expected, found = in_order(expected), notes(piece, PITCHED)
        assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)
        assert len(change.sections) == len(original.sections)
        music = change.start + change.time_factor * original.seconds
        assert 0.1 <= piece.seconds - music <= 2.4 and 0.1 <= change.start <= 2.4
        ends = max(part.notes["end"].max() for part in piece.parts)
        assert ends <= music + 0.03
        shifts.add((change.semitones, change.time_factor))
    if name == "key":
        assert all(1 <= abs(shift) <= 6 and factor == 1 for shift, factor in shifts)
        assert min(shifts)[0] < 0 < max(shifts)[0]
    elif name == "tempo":
        assert all(0.72 <= f <= 0.9 or 1.1 <= f <= 1.35 for _, f in shifts)
        assert {shift for shift, _ in shifts} == {0} and min(shifts)[1] < 1 < max(shifts)[1]
    else:
        assert shifts == {(0, 1.0)}


def test_pitch_classes_are_transposed(versions):
    for _, change, original, _, piece in versions["key"]:
        before, after = (
            np.bincount(notes(p, PITCHED)[:, 1].astype(int), minlength=12)
            for p in (original, piece)
        )
        assert np.array_equal(np.roll(before, change.semitones), after)


def test_sections_are_left_out_and_in_another_order(versions):
    for _, change, original, _, piece in versions["form"]:
        played = list(change.sections)
        assert 1 < len(set(played)) < len(original.sections)
        assert played != sorted(played) and set(played) <= set(range(1, 20))
        bar = np.diff(original.downbeats)[0]
        edges = [*(start for start, *_ in original.sections), original.downbeats[-1] + bar]
        assert np.allclose(np.diff(edges) / bar, np.rint(np.diff(edges) / bar))  # whole bars
        spans = list(pairwise(edges))
        every, position, expected = notes(original, PITCHED), change.start, []
        for begin, end in (spans[number - 1] for number in played):
            early = every[:, 0] + covers.EARLY
            own = every[(begin <= early) & (early < end)]
            expected.append(own + (position - begin, 0, 0))
            position += end - begin
        position = min(position, change.start + covers.LONGEST)
        assert 0.1 <= piece.seconds - position <= 2.4
        expected, found = np.concatenate(expected), notes(piece, PITCHED)
        expected = expected[expected[:, 0] < position - covers.EARLY]
        expected[:, 0] = np.maximum(change.start, expected[:, 0])
        expected = in_order(expected)
        assert found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)


def test_drums_are_those_of_the_performer(versions):
    patterns = defaultdict(list)
    for name in ("original", "timbre", "key", "tempo"):
        for row, change, original, player, piece in versions[name]:
            drums = [part.notes for part in piece.parts if part.role == "drums"]
            if player.genre == "disco":
                assert drums
            for strokes in drums:  # on the downbeats, too
                times = (strokes["start"] - change.start) / change.time_factor
                downbeats = np.array(original.downbeats)
                assert np.median([np.abs(times - beat).min() for beat in downbeats[:-1]]) < 0.05
                counts = np.bincount(strokes["pitch"], minlength=128) / len(downbeats)
                patterns[row["work"]].append(counts)
    apart = [np.abs(np.subtract(a, b)).sum() for p in patterns.values() for a, b in pairwise(p)]
    assert len(apart) > 20 and np.mean(np.array(apart) > 0.5) > 0.8


def test_same_seed_same_bytes(tree, tmp_path):
    sounds, found = dict(tree.sounds), []
    path = list(sounds)[8]
    for name, plan in (("1", tree), ("2", covers.plan(0.05, 0)), ("3", covers.plan(0.05, 1))):
        sounds = dict(plan.sounds)
        key = sounds.get(path) or list(sounds.values())[8]
        trees.write_sound(tmp_path / f"{name}.flac", plan.rate, 1, plan.render, key)
        found.append(((tmp_path / f"{name}.flac").read_bytes(), plan.texts, plan.sounds))
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))
    # A track depends on its own key alone: in any order, whatever was drawn before.
    covers.draw_original.cache_clear()
    trees.write_sound(tmp_path / "4.flac", tree.rate, 1, tree.render, dict(tree.sounds)[path])
    assert (tmp_path / "4.flac").read_bytes() == found[0][0]
