"""Retrieval: metrics by hand, the command on tones and on real recordings."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from tones import write_tones

from experiments import retrieval
from speechbrain_music.metrics.retrieval import chance_level, retrieve
from speechbrain_music.utils.errors import UserError

# Recordings of 4, 3 and 2 excerpts.
RECORDINGS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
PLACES = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1])


@pytest.mark.parametrize("gap, ranks", [(0, (1, 3, 6)), (1, (2, 5))])
def test_known_ranking(gap, ranks):
    """Ranks of the first excerpt's others; its neighbour, which the gap leaves out, is nearest."""
    angles = np.radians([0, 10, 30, 60, 20, 40, 50, 70, 80])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = retrieve(vectors, RECORDINGS, PLACES, gap)
    assert found["top1"][0] == (ranks[0] == 1)
    precision = [place / rank for place, rank in enumerate(ranks, start=1)]
    assert found["average_precision"][0] == pytest.approx(np.mean(precision))


def test_ties_give_the_expected_value():
    """Excerpts that are all alike give the share of relevant ones."""
    for order in (np.arange(9), np.arange(9)[::-1]):
        found = retrieve(np.ones((9, 2)), RECORDINGS[order], PLACES[order])
        expected = np.array([3, 3, 3, 3, 2, 2, 2, 1, 1])[order] / 8
        for values in found.values():
            np.testing.assert_allclose(values, expected)


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
        assert chance["average_precision"][query] == pytest.approx(np.mean(precision))


def test_features_are_standardised_and_layers_have_equal_weights():
    """A constant column, its scale and a layer's width change nothing."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((9, 1, 4)).astype(np.float32)
    scaled = np.concatenate([values * [1, 100, 1e-3, 5] + 7, np.full((9, 1, 1), 0.1)], axis=2)
    rows = np.arange(9)
    one, two = (retrieval.evaluate(v, rows, RECORDINGS, PLACES, [0]) for v in (values, scaled))
    assert one["average_precision", 0].shape == (2, 3)
    for key, found in one.items():
        np.testing.assert_allclose(found, two[key])
        np.testing.assert_allclose(found[0], found[1])  # one layer, and all of them


def main(folder, out, *options):
    """Run the command; return what it wrote."""
    retrieval.main([str(folder), "--out", str(out), *map(str, options)])
    stored = json.loads((out / "retrieval.json").read_text())
    encoders = [row["encoder"] for row in stored["rows"]]
    assert pd.read_csv(out / "retrieval.csv")["encoder"].tolist() == encoders
    return stored, (out / "retrieval.md").read_text()


def figure(stored, encoder, layer, metric, gap):
    keys = {"encoder": encoder, "layer": layer, "metric": metric, "gap": gap}
    return next(row for row in stored["rows"] if keys.items() <= row.items())


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
    layers = {row["layer"] for row in stored["rows"] if row["encoder"] == "untrained"}
    assert layers == {"0", "1", "2", "all"}
    for row in stored["rows"]:
        assert 0 <= row["low"] <= row["high"] <= 1
        assert 0 < row["chance"] < row["mean"] or row["encoder"] == "untrained"
    figures = [figure(stored, "untrained", layer, "average_precision", 1) for layer in "012"]
    best = max(figures, key=lambda row: row["mean"])
    assert f"{best['layer']}: {best['mean']:.3f}" in page
    assert page.count("| best layer |") == page.count("| last layer |") == 4
    assert "1 recordings with fewer than two excerpts, 1 files that cannot be used" in page

    # Another gap: features are reused, and the figures without a gap are equal.
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("features.npy")}
    assert len(kept) == 4
    wider, _ = main(music, tmp_path, *options, "--gap", 2)
    key = "mel", "mel", "average_precision", 0
    assert figure(wider, *key) == figure(stored, *key)
    assert wider["counts"]["too short for the gap"] > 0
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("features.npy")}


def test_last_excerpt_is_kept_at_every_rate(tmp_path):
    """All of a recording, at every rate: its duration in the manifest is rounded."""
    folder = tmp_path / "music"
    write_tones(folder, seconds=(9, 9.9))
    excerpts, _ = retrieval.find_excerpts(folder, tmp_path / "out", 3.0)
    assert (excerpts.groupby("track").size() == 3).all() and excerpts["track"].nunique() == 8
    assert excerpts["place"].tolist() == [0, 1, 2] * 8
    np.testing.assert_allclose(excerpts["duration"], 3.0, rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        ("--encoders mel --seconds 7", "0 of 9 recordings in .* have two excerpts of 7 s"),
        ("--encoders mel --seconds 2.5 --gap 9", "gap is 9: 0 recording"),
        ("--encoders mel --gap -1", "gap is -1: it must be 0 or more"),
        ("--encoders mel --seconds 0", "seconds is 0.0: it must be at least 0.1"),
        ("--encoders mel --seconds nan", "seconds is nan"),
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
