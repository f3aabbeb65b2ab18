"""Version identification: metrics by brute force, similarities by hand, the head and its loss."""

import itertools

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tones import melody

from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.dataio.transposition import transpose
from speechbrain_music.evaluation.results import summarise
from speechbrain_music.evaluation.versions import TransposedCache, track_similarities
from speechbrain_music.metrics.feature_statistics import make_standardizations
from speechbrain_music.metrics.retrieval import METRICS, chance_level, rank_scores
from speechbrain_music.metrics.track_scores import TrackScores
from speechbrain_music.metrics.versions import VersionIdentification
from speechbrain_music.models.frozen import MelEncoder
from speechbrain_music.nnet.version_head import VersionHead, contrastive_loss

TASK = VersionIdentification()


def by_brute_force(order):
    """The scores of a query whose candidates are relevant or not, in this order."""
    hits = np.flatnonzero(order)
    precision = [np.mean(order[: rank + 1]) for rank in hits]
    return {
        "top1": float(order[0]),
        "map": np.mean(precision),
        "p10": np.sum(order[:10]) / 10,
        "mr1": hits[0] + 1,
        "rank_percentile": np.mean(hits) / max(1, len(order) - 1),
    }


@pytest.mark.parametrize("count, relevant", [(1, 1), (5, 1), (12, 3), (30, 13), (30, 30)])
def test_scores_equal_brute_force(count, relevant):
    rng = np.random.default_rng(count)
    values = rng.permutation(count).astype(float)
    chosen = np.isin(np.arange(count), rng.permutation(count)[:relevant])
    expected = by_brute_force(chosen[np.argsort(-values)])
    assert set(expected) == set(METRICS)
    assert rank_scores(values, values[chosen]) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[1, 1, 1, 0], [2, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
@pytest.mark.parametrize("relevant", [1, 2, 3])
def test_ties_are_in_random_order(values, relevant):
    """The mean over all orders; average precision ranks tied candidates as the last of them."""
    values, chosen = np.array(values, float), np.arange(4) < relevant
    orders = [np.array(order) for order in itertools.permutations(range(4))]
    orders = [order[np.argsort(-values[order], kind="stable")] for order in orders]
    each = pd.DataFrame([by_brute_force(chosen[order]) for order in orders]).mean()
    found = rank_scores(values, values[chosen])
    for name in set(METRICS) - {"map"}:
        assert found[name] == pytest.approx(each[name]), name
    through = [np.sum(values >= value) for value in values[chosen]]
    hits = [np.sum(values[chosen] >= value) for value in values[chosen]]
    assert found["map"] == pytest.approx(np.mean(np.divide(hits, through)))


def test_identical_copies_random_order_and_single_works():
    rng = np.random.default_rng(0)
    works = np.array(["a", "a", "a", "b", "b", "single", *"cdefghij"])
    copies = rng.standard_normal((len(works), 16))[np.unique(works, return_inverse=True)[1]]
    found = TASK.score(track_similarities([copies], np.arange(len(works))), works)
    queries = np.arange(len(works)) < 5
    for name, best in (("map", 1), ("mr1", 1)):
        assert (found[name][queries] == best).all() and np.isnan(found[name][~queries]).all()
    chance = chance_level(works)
    drawn = []
    for _ in range(2000):
        vectors = rng.standard_normal((len(works), 24))
        drawn.append(TASK.score(track_similarities([vectors], np.arange(len(works))), works))
    for name in TASK.metrics:
        mean = np.mean([scores[name][queries] for scores in drawn], axis=0)
        np.testing.assert_allclose(chance[name][queries], mean, atol=0.3 if name == "mr1" else 0.02)


def test_the_query_is_not_ranked():
    """Whatever its similarity with itself is: planted matches change nothing."""
    works = np.repeat(np.arange(4), 2)
    similar = np.random.default_rng(1).standard_normal((8, 8))
    planted = similar + 1000 * np.eye(8)
    for name, values in TASK.score(lambda rows: planted[rows], works).items():
        np.testing.assert_equal(values, TASK.score(lambda rows: similar[rows], works)[name])


def test_a_part_of_the_tracks():
    """Only the chosen are ranked."""
    rng = np.random.default_rng(2)
    works, vectors = np.repeat(np.arange(6), 3), rng.standard_normal((18, 5))
    chosen = np.flatnonzero(np.arange(18) % 3 < 2)
    part = TASK.score(track_similarities([vectors], np.arange(18)), works, chosen)
    alone = TASK.score(track_similarities([vectors[chosen]], np.arange(12)), works[chosen])
    for name, values in part.items():
        np.testing.assert_allclose(values, alone[name])


def test_similarities_of_chunks():
    """Means of chunks, or the best match of each chunk."""
    rng = np.random.default_rng(3)
    tracks = np.array([0, 0, 0, 1, 2, 2])
    values = rng.standard_normal((6, 4)).astype(np.float32)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    means = np.stack([values[tracks == track].mean(axis=0) for track in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = track_similarities([values], tracks)(np.array([2, 0]))
    np.testing.assert_allclose(found, means[[2, 0]] @ means.T, rtol=1e-5)
    for matches in (1, 2, 10):
        found = track_similarities([values], tracks, matches)(np.arange(3))
        for one, two in itertools.product(range(3), repeat=2):
            closest = (unit[tracks == one] @ unit[tracks == two].T).max(axis=1)
            assert found[one, two] == pytest.approx(np.sort(closest)[-matches:].mean(), rel=1e-5)


@pytest.mark.parametrize("matches", [None, 1, 2, 10])
def test_the_best_transposition_counts(matches):
    rng = np.random.default_rng(5)
    tracks = np.array([0, 0, 0, 1, 2, 2])
    pitches = rng.standard_normal((3, 6, 4)).astype(np.float32)
    found = track_similarities(pitches, tracks, matches)(np.arange(3))
    each = []
    for values in pitches:  # of the first track alone
        joined, both = np.concatenate([values, pitches[0]]), np.concatenate([tracks, 3 + tracks])
        each.append(track_similarities([joined], both, matches)(np.arange(3))[:, 3:])
    np.testing.assert_allclose(found, np.max(each, axis=0), rtol=1e-5)


def test_features_of_transpositions(tmp_path):
    """Those of the transposed waves, each chunk's as it is alone."""
    rows = []
    for number, seconds in enumerate((0.9, 0.4)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, melody(seconds, 24000, 1, np.random.default_rng(number)), 24000)
        rows.append([str(number), str(path), 0, int(24000 * seconds), seconds])
    chunks = pd.DataFrame(rows, columns=["ID", "wav", "start", "stop", "duration"])
    encoder = MelEncoder()
    cache = TransposedCache(tmp_path / "features", encoder, chunks, 3).open()
    cache.extract(batch_size=2, bar=False)
    values, readable, reasons = cache.load()
    assert values.shape == (2, 3, 1, 256) and readable.all() and not reasons
    for row, path in enumerate(chunks["wav"]):
        wave = torch.from_numpy(read_segment(path)).unsqueeze(0)
        for place, semitones in enumerate((0, 1, -1)):
            alone = encoder(transpose(wave, semitones), torch.tensor([wave.shape[1]]))
            np.testing.assert_allclose(values[row, place], alone[0], atol=2e-3)
    assert TransposedCache(tmp_path, encoder, chunks, 12).folder.name != cache.folder.name


def test_bounds_of_means():
    """Of precision at 10, which few versions limit, and of the mean rank."""
    scores = TrackScores(TASK, ["raw"])
    weights = torch.tensor([[3.0] * 4, [5.0] * 4]).repeat_interleave(2, dim=1)  # and scores
    found = {metric: scores.bounds(metric, weights) for metric in scores.metrics}
    assert found == {
        "raw map": (0, 1),
        "raw p10": (0, 0.4),
        "raw mr1": (1, None),
        "raw rank_percentile": (0, 1),
    }
    assert scores.bounds("raw p10", 10 * weights) == (0, 1)
    # Three encoders of which one fails: Student's t with two degrees of freedom is wide.
    perfect = torch.tensor([1, 0.4, 1, 0.0]).expand(2, 4)
    bad = torch.tensor([0.2, 0.1, 3, 0.5]).expand(2, 4)
    figures = torch.stack([perfect, perfect, bad, bad * 0.5]).unsqueeze(1)
    figures = torch.stack([figures, weights[:, ::2].expand_as(figures)], -1).flatten(-2)
    summary = summarise(scores, figures[:3], weights, figures[3, 0], resamples=200)["figures"]
    for metric, (least, greatest) in found.items():
        low, high = summary[metric]["low"], summary[metric]["high"]
        assert low >= least and (greatest is None or high <= greatest)
    assert summary["raw mr1"]["low"] == 1 and summary["raw p10"]["high"] == pytest.approx(0.4)


def test_statistics_of_features():
    """Centred features have the mean 0 and their own scale; whitened ones are decorrelated."""
    rng = np.random.default_rng(4)
    mixed = rng.standard_normal((4000, 1, 3)) @ np.array([[3, 1, 0], [0, 1, 2], [0, 0, 0.5]]) + 7
    mixed = mixed.astype(np.float32)
    kinds = (False, "centre", True, "whiten")
    found = make_standardizations(mixed, np.arange(len(mixed)), kinds)
    raw, centred, scaled, white = (found[kind](torch.tensor(mixed))[:, 0].numpy() for kind in kinds)
    np.testing.assert_array_equal(raw, mixed[:, 0])
    np.testing.assert_allclose(centred, raw - raw.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(3), atol=0.1)


def test_contrastive_loss_by_hand():
    works = torch.tensor([0, 0, 1, 1, 1])
    embeddings = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    found = contrastive_loss(embeddings, works, temperature=0.2)
    for item in range(5):
        shares = (embeddings @ embeddings[item] / 0.2).exp()
        others = [other for other in range(5) if other != item]
        same = [other for other in others if works[other] == works[item]]
        logs = [torch.log(shares[other] / shares[others].sum()) for other in same]
        torch.testing.assert_close(found[item], -torch.stack(logs).mean())
    embeddings.requires_grad_()
    contrastive_loss(embeddings, works, 0.2).sum().backward()
    assert embeddings.grad.isfinite().all()


def test_the_head_does_not_see_padding():
    head = VersionHead(torch.zeros(2, 6), torch.ones(2, 6), width=4).eval()
    x = torch.randn(3, 5, 2, 6)
    lengths = torch.tensor([5, 2, 1])
    together = head(x, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = head(x[item : item + 1, :length], lengths[item : item + 1])
        torch.testing.assert_close(together[item], alone[0])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
