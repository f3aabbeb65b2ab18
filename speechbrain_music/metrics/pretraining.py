"""Held-out figures of masked prediction, with their baselines.

A cross-entropy that fell from 9 to 7.6 can be the frequencies of tokens alone. So each figure
comes with those of trivial predictors on the same masked tokens.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from speechbrain_music.nnet.convolution import zero_padding
from speechbrain_music.nnet.masking import interpolate_masked, nearest_visible

# Weights of the bigram's prior, in observations. The one that is best on the held-out tokens
# themselves is reported, in the baseline's favour.
PRIOR_WEIGHTS = (1.0, 4.0, 16.0, 64.0)

# Title, key, and baselines (key -> label) of each figure: for logs, curves and reports.
ENTROPIES = {"cross_entropy_unigram": "unigram", "cross_entropy_bigram": "bigram"}
ACCURACIES = {
    "accuracy_most_frequent": "most frequent token",
    "accuracy_nearest_visible": "nearest visible token",
}
MEL_MSES = {"mel_mse_item_mean": "segment mean", "mel_mse_interpolation": "interpolation"}
HELD_OUT = (
    ("cross-entropy (nats)", "cross_entropy", ENTROPIES),
    ("accuracy", "accuracy", ACCURACIES),
    ("mel MSE", "mel_mse", MEL_MSES),
)
# Where there are targets of a constant-Q transform.
CQT_ENTROPY = ("CQT cross-entropy", "cqt_cross_entropy", {"cqt_cross_entropy_unigram": "unigram"})


class TokenStatistics(NamedTuple):
    """Counts in the training corpus."""

    unigram: np.ndarray  # (N, K), tokens of each codebook
    # (P,), sorted: (codebook * K + visible) * K + masked, of a token and its nearest visible one
    pairs: np.ndarray
    pair_counts: np.ndarray
    cqt_unigram: np.ndarray | None = None  # (N, K), of the tokens of a constant-Q transform


def sum_cross_entropy(logits, tokens):
    """Cross-entropy in nats, summed over M tokens (M, N), a mean over N codebooks (M, N, K)."""
    entropy = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), tokens.flatten(), reduction="sum"
    )
    return entropy / tokens.shape[-1]


def count_pairs(tokens, mask, lengths, entries):
    """Codes of pairs as in `TokenStatistics`, and their counts; tokens (B, T, N), mask (B, T)."""
    codes = _pair_codes(_nearest_tokens(tokens, mask, lengths), tokens[mask], entries)
    return np.unique(codes.cpu().numpy(), return_counts=True)


def _nearest_tokens(tokens, mask, lengths):
    """The visible token (M, N) that is nearest to each masked one."""
    near = nearest_visible(mask, lengths)[2]
    return tokens.gather(1, near.unsqueeze(-1).expand_as(tokens))[mask]


def _pair_codes(visible, masked, entries):
    codebook = torch.arange(masked.shape[-1], device=masked.device)
    return ((codebook * entries + visible) * entries + masked).flatten()


def count_codes(tokens, entries):
    """Counts (N, K) of each of K entries of N codebooks, from tokens (M, N) int64."""
    codebooks = tokens.shape[-1]
    codes = (tokens + torch.arange(codebooks, device=tokens.device) * entries).flatten()
    return torch.bincount(codes, minlength=codebooks * entries).view(codebooks, entries)


def perplexity(counts):
    """exp of the entropy of a distribution given by counts: the effective number of codes."""
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


class MaskedPredictionMetrics:
    """Sums over held-out masked tokens, to be added over processes, and figures from them.

    `statistics` are the TokenStatistics of the training corpus. Accuracy is also given by position
    in a `block` of the mask (tokens). The sums are kept on `device`.
    """

    def __init__(self, statistics, block, device="cpu"):
        self.block = block
        self.codebooks, self.entries = statistics.unigram.shape
        self.unigram = _add_one(statistics.unigram, device)
        self.most_frequent = self.unigram.argmax(dim=1)
        self.pairs = torch.as_tensor(statistics.pairs, device=device)
        doubles = {"dtype": torch.float64, "device": device}
        self.pair_counts = torch.as_tensor(statistics.pair_counts, **doubles)
        tokens = self.codebooks * self.entries
        seen = np.bincount(statistics.pairs // self.entries, statistics.pair_counts, tokens)
        self.visible_counts = torch.as_tensor(seen, **doubles)
        shown = HELD_OUT
        if statistics.cqt_unigram is not None:
            self.cqt_unigram = _add_one(statistics.cqt_unigram, device)
            shown = (*HELD_OUT, CQT_ENTROPY)
        self.names = ["count", *(name for _, key, others in shown for name in (key, *others))]
        # Of `names`, of the bigram for each prior weight, by place in a block, by token.
        self.sizes = len(self.names), len(PRIOR_WEIGHTS), 3 * block, tokens
        self.sums = torch.zeros(sum(self.sizes), **doubles)

    @torch.no_grad()
    def update(self, logits, rebuilt, mel, tokens, mask, lengths, cqt=None):
        """Adds a batch of B items: logits (M, N, K) and reconstructed mel (M, stack * bands) of the
        M masked tokens; true mel (B, stack * T, bands), 0 past the end of each item; true tokens
        (B, T, N) int64, mask (B, T) bool, tokens of each item (B,); logits and true tokens of the
        constant-Q transform, if the statistics have these."""
        truth, visible = tokens[mask], _nearest_tokens(tokens, mask, lengths)
        hits = (logits.argmax(dim=-1) == truth).double().mean(dim=-1)
        nearest_hits = (visible == truth).double().mean(dim=-1)
        place = torch.where(mask)[1] % self.block
        by_place = [
            torch.bincount(place, values, minlength=self.block)
            for values in (torch.ones_like(hits), hits, nearest_hits)
        ]
        valid = torch.arange(mask.shape[1], device=mask.device) < lengths.unsqueeze(1)
        used = count_codes(tokens[valid], self.entries).flatten()
        baselines = self._baselines(visible, truth)
        scalars = [
            torch.tensor(float(len(truth)), device=mask.device),
            sum_cross_entropy(logits, truth),
            *baselines[:2],  # in place of this bigram `figures` puts the best
            hits.sum(),
            (truth == self.most_frequent).double().mean(dim=-1).sum(),
            nearest_hits.sum(),
            *_mel_mses(rebuilt, mel, mask, lengths),
        ]
        if cqt is not None:
            unigram = -_shares(self.cqt_unigram, cqt[1]).log().sum() / cqt[1].shape[-1]
            scalars += [sum_cross_entropy(*cqt), unigram]
        scalars = torch.stack([scalar.double() for scalar in scalars + baselines[1:]])
        self.sums += torch.cat([scalars, *by_place, used])

    def _baselines(self, visible, truth):
        """Summed cross-entropies of the unigram, and of the bigram for each prior weight."""
        prior = _shares(self.unigram, truth)
        codes = _pair_codes(visible, truth, self.entries)
        pair = torch.zeros_like(prior)
        if len(self.pairs):
            place = torch.searchsorted(self.pairs, codes).clamp(max=len(self.pairs) - 1)
            pair = torch.where(self.pairs[place] == codes, self.pair_counts[place], 0.0)
        seen = self.visible_counts[codes // self.entries]
        bigrams = [
            -((pair + weight * prior) / (seen + weight)).log().sum() / self.codebooks
            for weight in PRIOR_WEIGHTS
        ]
        return [-prior.log().sum() / self.codebooks, *bigrams]

    def figures(self, sums):
        """A dict of floats, from `sums` added over all processes; {} if no token was masked.

        Cross-entropies in nats, accuracies as shares, mel MSEs over normalised values.
        """
        totals, bigrams, by_place, used = sums.cpu().split(self.sizes)
        if not (count := totals[0].item()):
            return {}
        figures = dict(zip(self.names[1:], (totals[1:] / count).tolist(), strict=True))
        figures["cross_entropy_bigram"] = bigrams.min().item() / count
        here, *hits = by_place.view(3, -1)
        for place, (own, copied) in enumerate((torch.stack(hits) / here.clamp(min=1)).T.tolist()):
            figures |= {f"accuracy_at_{place}": own, f"accuracy_nearest_visible_at_{place}": copied}
        used = used.view(self.codebooks, -1).numpy()
        figures["codes_used"] = float(np.mean((used > 0).sum(axis=1)))
        figures["perplexity"] = float(np.mean([perplexity(counts) for counts in used]))
        figures["masked_tokens"] = count
        return figures


class BlockShares:
    """How much each block changes its input: rms of what it adds over rms of what comes in.

    Watches the `layers` of an encoder until `close`; the sums may be added over processes.
    """

    def __init__(self, layers, device="cpu"):
        self.sums = torch.zeros(len(layers), 2, dtype=torch.float64, device=device)
        self._hooks = [
            layer.register_forward_hook(partial(self._add, place))
            for place, layer in enumerate(layers)
        ]

    def _add(self, place, _, inputs, output):
        before, mask = inputs
        added = zero_padding(output - before, mask)
        energies = [values.double().square().sum() for values in (added, before)]
        self.sums[place] += torch.stack(energies)

    def close(self):
        """Stops watching."""
        for hook in self._hooks:
            hook.remove()

    def figures(self, sums):
        """Figure -> share, of each layer from 1 on."""
        shares = (sums[:, 0] / sums[:, 1].clamp(min=1e-12)).sqrt().tolist()
        return {f"block_share_{place}": share for place, share in enumerate(shares, start=1)}


def _add_one(counts, device):
    """Shares (N, K) of tokens from their counts; add-one: a held-out token may be new."""
    counts = counts + 1.0
    shares = counts / counts.sum(axis=1, keepdims=True)
    return torch.as_tensor(shares, dtype=torch.float64, device=device)


def _shares(unigram, tokens):
    """The shares (M * N,) that `unigram` (N, K) gives to tokens (M, N)."""
    return unigram[torch.arange(len(unigram), device=tokens.device), tokens].flatten()


def _mel_mses(rebuilt, mel, mask, lengths):
    """MSEs summed over masked tokens: of the model, the mean of an item, linear interpolation."""
    stack = mel.shape[1] // mask.shape[1]
    frames = mask.repeat_interleave(stack, dim=1)
    valid = torch.arange(mel.shape[1], device=mel.device) < stack * lengths.unsqueeze(1)
    seen = (valid & ~frames).unsqueeze(-1)
    item_mean = (mel * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
    truth = mel[frames]
    rebuilt = rebuilt.float().view(-1, mel.shape[-1])
    mean = item_mean.unsqueeze(1).expand_as(mel)[frames]
    return [
        (guess - truth).square().mean(dim=-1).double().sum() / stack
        for guess in (rebuilt, mean, interpolate_masked(mel, mask, lengths))
    ]
