"""Metrics of masked prediction against loops over single tokens."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from speechbrain_music.metrics.pretraining import (
    HELD_OUT,
    PRIOR_WEIGHTS,
    BlockShares,
    MaskedPredictionMetrics,
    TokenStatistics,
    count_pairs,
)

B, T, K, BLOCK, STACK, BANDS = 3, 23, 7, 5, 4, 6
LENGTHS = (23, 17, 11)


def held_out(codebooks, seed=0):
    """A batch as numpy arrays: item 0 begins masked, item 1 ends masked."""
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.random((B, 5)) < 0.5, BLOCK, axis=1)[:, :T]
    mask[0, :5], mask[0, 5:10], mask[1, 15:], mask[1, 10:15], mask[2, :3] = 1, 0, 1, 0, 0
    for row, length in enumerate(LENGTHS):
        mask[row, length:] = False
    mel = rng.standard_normal((B, STACK * T, BANDS)).astype("f4")
    for row, length in enumerate(LENGTHS):
        mel[row, STACK * length :] = 0
    count = mask.sum()
    return {
        "logits": rng.standard_normal((count, codebooks, K)).astype("f4"),
        "rebuilt": rng.standard_normal((count, STACK * BANDS)).astype("f4"),
        "mel": mel,
        "tokens": rng.integers(0, K - 1, (B, T, codebooks)),
        "mask": mask,
        "lengths": np.array(LENGTHS),
    }


def masked_and_nearest(batch):
    """(row, step, nearest visible step before, after, nearest) of each masked token."""
    for row, length in enumerate(batch["lengths"]):
        visible = [i for i in range(length) if not batch["mask"][row, i]]
        for step in np.flatnonzero(batch["mask"][row]):
            before = max((v for v in visible if v < step), default=None)
            after = min((v for v in visible if v > step), default=None)
            yield row, step, before, after, min(visible, key=lambda v: (abs(v - step), v))


def training_statistics(codebooks, seed=5):
    """Counts as Counters and as the `TokenStatistics` that says the same."""
    rng = np.random.default_rng(seed)
    unigram = rng.integers(0, 20, (codebooks, K))
    unigram[:, 0] = 0  # held-out tokens that were never seen
    pairs = Counter()
    for _ in range(40):
        book, visible, masked = rng.integers([codebooks, K, K])
        pairs[int(book), int(visible), int(masked)] += int(rng.integers(1, 9))
    counts = {(n * K + v) * K + m: count for (n, v, m), count in pairs.items()}
    codes = np.array(sorted(counts))
    pair_counts = np.array([counts[code] for code in codes])
    return unigram, pairs, TokenStatistics(unigram, codes, pair_counts)


def brute_force(batch, unigram, pairs):
    codebooks = unigram.shape[0]
    prior = (unigram + 1) / (unigram + 1).sum(axis=1, keepdims=True)
    sums = Counter()
    places = [Counter() for _ in range(BLOCK)]
    bigrams = Counter()
    for index, (row, step, before, after, near) in enumerate(masked_and_nearest(batch)):
        place = places[step % BLOCK]
        place["count"] += 1
        for book in range(codebooks):
            token, copy = batch["tokens"][row, step, book], batch["tokens"][row, near, book]
            scores = batch["logits"][index, book].astype(float)
            hit = scores.argmax() == token
            log_sum = math.log(np.exp(scores).sum())
            sums["cross_entropy"] += (log_sum - scores[token]) / codebooks
            sums["cross_entropy_unigram"] -= math.log(prior[book, token]) / codebooks
            seen = sum(pairs[book, copy, m] for m in range(K))
            for weight in PRIOR_WEIGHTS:
                share = (pairs[book, copy, token] + weight * prior[book, token]) / (seen + weight)
                bigrams[weight] -= math.log(share) / codebooks
            sums["accuracy"] += hit / codebooks
            sums["accuracy_nearest_visible"] += (copy == token) / codebooks
            sums["accuracy_most_frequent"] += (token == unigram[book].argmax()) / codebooks
            place["hits"] += hit / codebooks
            place["copies"] += (copy == token) / codebooks
        mel = batch["mel"][row].astype(float)
        visible = ~batch["mask"][row, : batch["lengths"][row]]
        mean = mel[: STACK * len(visible)][visible.repeat(STACK)].mean(axis=0)
        # The frames that face the gap; at an item's edge the one there is, held.
        left = None if before is None else STACK * before + STACK - 1
        right = None if after is None else STACK * after
        for j in range(STACK):
            frame = STACK * step + j
            if left is None or right is None:
                line = mel[right if left is None else left]
            else:
                line = mel[left] + (mel[right] - mel[left]) * (frame - left) / (right - left)
            rebuilt = batch["rebuilt"][index, j * BANDS : (j + 1) * BANDS]
            sums["mel_mse"] += np.square(rebuilt - mel[frame]).mean() / STACK
            sums["mel_mse_item_mean"] += np.square(mean - mel[frame]).mean() / STACK
            sums["mel_mse_interpolation"] += np.square(line - mel[frame]).mean() / STACK
    count = batch["mask"].sum()
    figures = {name: value / count for name, value in sums.items()}
    figures["cross_entropy_bigram"] = min(bigrams.values()) / count
    for i, place in enumerate(places):
        figures[f"accuracy_at_{i}"] = place["hits"] / max(1, place["count"])
        figures[f"accuracy_nearest_visible_at_{i}"] = place["copies"] / max(1, place["count"])
    valid = np.arange(T) < batch["lengths"][:, None]
    used = [Counter(batch["tokens"][..., book][valid]) for book in range(codebooks)]
    figures["codes_used"] = np.mean([len(counts) for counts in used])
    shares = [np.array(list(c.values())) / sum(c.values()) for c in used]
    figures["perplexity"] = np.mean([math.exp(-(p * np.log(p)).sum()) for p in shares])
    return figures | {"masked_tokens": count}, bigrams


def measure(statistics, *batches):
    metrics = MaskedPredictionMetrics(statistics, BLOCK)
    for batch in batches:
        metrics.update(**{name: torch.from_numpy(value) for name, value in batch.items()})
    return metrics


@pytest.mark.parametrize("codebooks, seed", [(1, 0), (2, 1), (2, 2)])
def test_figures_and_pairs_by_brute_force(codebooks, seed):
    batch = held_out(codebooks, seed)
    unigram, pairs, statistics = training_statistics(codebooks)
    names = ("tokens", "mask", "lengths")
    codes, counts = count_pairs(*(torch.from_numpy(batch[name]) for name in names), K)
    expected = Counter()
    for row, step, _, _, near in masked_and_nearest(batch):
        for book, (visible, masked) in enumerate(batch["tokens"][row, [near, step]].T.tolist()):
            expected[(book * K + visible) * K + masked] += 1
    assert list(codes) == sorted(expected)
    assert dict(zip(codes.tolist(), counts.tolist(), strict=True)) == expected

    metrics = measure(statistics, batch)
    expected, bigrams = brute_force(batch, unigram, pairs)
    figures = metrics.figures(metrics.sums)
    assert figures == pytest.approx(expected, rel=1e-5)
    assert all({key, *baselines} <= figures.keys() for _, key, baselines in HELD_OUT)
    found = metrics.sums.split(metrics.sizes)[1].tolist()
    assert found == pytest.approx([bigrams[weight] for weight in PRIOR_WEIGHTS], rel=1e-9)


def test_sums_of_batches_and_processes_add_up():
    _, _, statistics = training_statistics(2)
    one, two = held_out(2, seed=1), held_out(2, seed=2)
    both = {name: np.concatenate([one[name], two[name]]) for name in one}
    expected = measure(statistics, both).sums
    torch.testing.assert_close(measure(statistics, one, two).sums, expected)
    sums = [measure(statistics, batch).sums for batch in (one, two)]
    torch.testing.assert_close(sum(sums), expected)


def test_cqt_figures_by_hand():
    (unigram, _, statistics), batch = training_statistics(2), held_out(2)
    logits, tokens = batch["logits"][::-1].copy(), np.roll(batch["tokens"][batch["mask"]], 1, 0)
    metrics = MaskedPredictionMetrics(statistics._replace(cqt_unigram=unigram), BLOCK)
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    metrics.update(**tensors, cqt=(torch.from_numpy(logits), torch.from_numpy(tokens)))
    figures, plain = metrics.figures(metrics.sums), measure(statistics, batch)
    shares = np.exp(logits.astype(float)) / np.exp(logits).sum(axis=-1, keepdims=True)
    own = -np.log(np.take_along_axis(shares, tokens[..., None], axis=-1)).mean()
    prior = (unigram + 1) / (unigram + 1).sum(axis=1, keepdims=True)
    assert figures.pop("cqt_cross_entropy") == pytest.approx(own, rel=1e-5)
    unigram_entropy = figures.pop("cqt_cross_entropy_unigram")
    assert unigram_entropy == pytest.approx(-np.log(prior[[0, 1], tokens]).mean())
    assert figures == plain.figures(plain.sums)


def test_no_masked_token_and_no_statistics():
    metrics = MaskedPredictionMetrics(training_statistics(1)[2], BLOCK)
    assert metrics.figures(metrics.sums) == {}
    blank = TokenStatistics(np.zeros((1, K)), np.zeros(0, int), np.zeros(0, int))
    metrics = measure(blank, held_out(1))
    figures = metrics.figures(metrics.sums)
    uniform = pytest.approx(math.log(K))
    assert figures["cross_entropy_unigram"] == figures["cross_entropy_bigram"] == uniform


class Halves(torch.nn.Module):
    """A block that adds half of its input, and something at padded steps."""

    def forward(self, x, mask):
        return 1.5 * x + (0 if mask is None else 100.0 * mask.unsqueeze(-1))


def test_block_shares_leave_padding_out():
    layers = torch.nn.ModuleList([Halves(), torch.nn.Identity()])
    layers[1].forward = lambda x, mask: x
    shares, mask = BlockShares(layers), torch.tensor([[False] * 4 + [True]])
    x = torch.randn(1, 5, 3).masked_fill(mask.unsqueeze(-1), 0.0)
    for layer in layers:
        layer(x, mask), layer(x[:, :4], None)
    shares.close()
    layers[1](x + 1, None)  # not watched any more
    found = shares.figures(2 * shares.sums)  # as of two processes
    assert found == {"block_share_1": pytest.approx(0.5), "block_share_2": 0.0}
