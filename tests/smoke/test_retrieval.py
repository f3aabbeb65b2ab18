"""Retrieval: metrics by hand, the command on tones and on real recordings."""

import itertools
import json
from argparse import Namespace

import numpy as np
import pytest
import soundfile
from tones import write_tones

from experiments import retrieval
from speechbrain_music.metrics.retrieval import chance_level, layer_vectors, retrieve
from speechbrain_music.utils.errors import UserError

# Recordings of 4, 3 and 2 excerpts.
RECORDINGS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
PLACES = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1])


@pytest.mark.parametrize("gap, ranks", [(0, (1, 3, 6)), (1, (2, 5))])
def test_known_ranking(gap, ranks):
    """Ranks of the first excerpt's others; its neighbour, which the gap leaves out, is nearest."""
    angles = np.radians([0, 10, 30, 60, 20, 40, 50, 70, 80])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = retrieve(lambda rows: vectors[rows] @ vectors.T, RECORDINGS, PLACES, gap)
    assert found["top1"][0] == (ranks[0] == 1)
    precision = [place / rank for place, rank in enumerate(ranks, start=1)]
    assert found["map"][0] == pytest.approx(np.mean(precision))


def test_ties_give_the_expected_value():
    """Excerpts that are all alike give the share of relevant ones."""
    for order in (np.arange(9), np.arange(9)[::-1]):
        alike = np.ones((9, 9))
        found = retrieve(lambda rows, x=alike: x[rows], RECORDINGS[order], PLACES[order])
        expected = np.array([3, 3, 3, 3, 2, 2, 2, 1, 1])[order] / 8
        for name in retrieval.TITLES:
            np.testing.assert_allclose(found[name], expected)


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_chance_is_the_mean_over_all_orders(gap):
    recordings, places = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])
    chance = chance_level(recordings, places, gap)
    for query in range(5):
        own = np.abs(places - places[query]) <= gap
        ranked = (recordings != recordings[query]) | ~own
        relevant = [recordings[row] == recordings[query] for row in np.flatnonzero(ranked)]
        if not any(relevant):
            assert np.isnan([values[query] for values in chance.values()]).all()
            continue
        orders = [np.array(order) for order in itertools.permutations(relevant)]
        ranks = np.arange(1, len(relevant) + 1)
        precision = [np.mean((np.cumsum(order) / ranks)[order]) for order in orders]
        assert chance["top1"][query] == pytest.approx(np.mean([o[0] for o in orders]))
        assert chance["map"][query] == pytest.approx(np.mean(precision))


def test_features_are_standardised_or_centred():
    """A column's mean changes nothing; in standardised features nor does its scale."""
    values = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    moved = np.concatenate([values + [7, 0, -3, 1], np.full((9, 1), 0.1)], axis=1)
    scaled = moved * [1, 100, 1e-3, 5, 1]
    for kind, other, equal in (
        ("centred", moved, True),
        ("centred", scaled, False),
        ("standardised", scaled, True),
        ("raw", moved, False),
    ):
        (expected,), (found,) = (layer_vectors(x[:, None], kind) for x in (values, other))
        assert np.allclose(found[:, :4], expected, atol=1e-6) == equal
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-6)


def test_layers_are_chosen_on_the_other_half():
    """Layer 0 is right on the recordings 0 and 2, layer 1 on 1 and 3: each half takes the wrong."""
    recordings, places = np.repeat(np.arange(4), 2), np.tile([0, 1], 4)
    right, rng = np.eye(4)[recordings], np.random.default_rng(0)
    noise = rng.standard_normal((8, 4))
    even = (recordings % 2 == 0)[:, None]
    values = np.stack([np.where(even, right, noise), np.where(even, noise, right)], axis=1)
    scores, layers = retrieval.evaluate(values, recordings, groups=recordings, positions=places)
    assert layers["raw"] == [0, 1]
    assert scores["raw", "map"].max() < 1


def main(folder, out, *options):
    """Run the command; return what it wrote."""
    retrieval.main([str(folder), "--out", str(out), *map(str, options)])
    stored = json.loads((out / "retrieval.json").read_text())
    return stored, (out / "retrieval.md").read_text()


@pytest.fixture(scope="module")
def music(tone_folder, tmp_path_factory):
    """Eight recordings of 6 to 12 s, one of 3 s, one that is no audio."""
    folder = tmp_path_factory.mktemp("music")
    for path in tone_folder.rglob("*.*"):
        (folder / path.name).symlink_to(path)
    soundfile.write(folder / "short.wav", 0.1 * np.sin(np.arange(72000) / 9), 24000)
    (folder / "broken.wav").write_text("no audio")
    return folder


def test_command(music, tiny_export, tmp_path):
    options = ("--encoders", "mel", f"untrained=random:{tiny_export}")
    options += ("--seconds", 2, "--resamples", 50)
    stored, page = main(music, tmp_path, *options)
    assert stored["counts"]["recordings"] == 8
    assert stored["counts"]["too short for two excerpts"] == 1
    assert stored["counts"]["skipped files"] == 1
    assert len(stored["encoders"]["untrained"]["identities"]) == 3
    for row in stored["rows"]:
        assert 0 <= row["low"] <= row["high"] <= 1
        assert 0 < row["chance"] < row["mean"] or row["encoder"] == "untrained"
        assert np.mean(row["by_encoder"]) == pytest.approx(row["mean"])
    assert len(stored["rows"]) == 2 * 2 * 2 and len(stored["layers"]["untrained"]["raw"]) == 3
    (pair,) = stored["pairs"]
    assert (pair["first"], pair["second"]) == ("mel", "untrained") and len(pair["tasks"]) == 4
    assert f"{stored['rows'][0]['mean']:.3f}" in page and "| mel minus untrained |" in page
    assert "| too short for two excerpts | 1 |" in page and "| skipped files | 1 |" in page

    # Another gap: features are reused.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("features.npy")}
    assert len(kept) == 4
    wider, _ = main(music, tmp_path, *options, "--gap", 2)
    assert wider["counts"]["too short for the gap"] > 0
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("features.npy")}


def test_last_excerpt_is_kept_at_every_rate(tmp_path):
    """All of a recording, at every rate: its duration in the manifest is rounded."""
    folder = tmp_path / "music"
    write_tones(folder, seconds=(9, 9.9))
    tracks, _ = retrieval.find_recordings(Namespace(folder=folder, out=tmp_path, manifest=None))
    excerpts = retrieval.cut_into_excerpts(tracks, 3.0)
    assert (excerpts.groupby("track").size() == 3).all() and excerpts["track"].nunique() == 8
    assert excerpts["place"].tolist() == [0, 1, 2] * 8
    np.testing.assert_allclose(excerpts["duration"], 3.0, rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        ("--encoders mel --seconds 7", "0 of 9 recordings in .* have two excerpts of 7 s"),
        ("--encoders mel --seconds 2.5 --gap 9", "0 recording.* have an excerpt"),
        ("--encoders mel mel", "two encoders are named 'mel': write NAME=ENCODER"),
        ("--encoders =mel", "two encoders are named '': write NAME=ENCODER"),
        ("--encoders nowhere", "encoder is 'nowhere': choose"),
        ("--encoders mel", "There is no folder .*no such folder"),
    ],
)
def test_wrong_input(options, message, music, tmp_path):
    folder = tmp_path / "no such folder" if options == "--encoders mel" else music
    with pytest.raises(UserError, match=message):
        retrieval.main([str(folder), "--out", str(tmp_path / "out"), *options.split()])
    assert not (tmp_path / "out" / "retrieval.md").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ("--gap=-1", "argument --gap: '-1' is not a whole number of 0 or more"),
        ("--seconds 0", "argument --seconds: '0' is not 0.1 or more"),
        ("--seconds nan", "argument --seconds: 'nan' is not 0.1 or more"),
        ("--resamples 0", "argument --resamples: '0' is not a whole number above 0"),
    ],
)
def test_wrong_values_are_refused(options, message, music, capsys):
    with pytest.raises(SystemExit):
        retrieval.main([str(music), "--encoders", "mel", *options.split()])
    assert message in capsys.readouterr().err
