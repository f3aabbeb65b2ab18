"""Held-out figures of a trained quantizer and of a student: sums over tokens and processes."""

import numpy as np
import torch

from speechbrain_music.metrics.pretraining import count_codes, perplexity

# A codebook has collapsed if its perplexity is below this share of its entries (of the tokens, if
# they are fewer) and below this number.
COLLAPSED_SHARE, COLLAPSED_PERPLEXITY = 0.1, 100


class QuantizerMetrics:
    """Sums over held-out tokens, to be added over processes, and figures from them.

    `codebooks` is N, of K `entries` each; the sums are kept on `device`.
    """

    def __init__(self, codebooks, entries, device="cpu"):
        self.codebooks, self.entries = codebooks, entries
        self.sums = torch.zeros(3 + codebooks * entries, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, rebuilt, vectors, tokens):
        """Adds M tokens: reconstructed and true vectors (M, d), and tokens (M, N)."""
        errors = [(guess - vectors).square().mean(dim=-1).double().sum() for guess in (rebuilt, 0)]
        used = count_codes(tokens, self.entries).flatten()
        count = torch.tensor(float(len(tokens)), device=tokens.device)
        self.sums += torch.cat([torch.stack([count.double(), *errors]), used])

    def figures(self, sums):
        """A dict of floats, from `sums` added over all processes; {} of no token.

        mel_mse, and mel_mse_mean of the corpus's mean, which is 0, over normalised values;
        codes_used, dead_codes (never used) and perplexity: means over codebooks, whose own
        perplexities follow; collapsed: how many codebooks have collapsed.
        """
        count, *errors = sums[:3].tolist()
        if not count:
            return {}
        figures = {"mel_mse": errors[0] / count, "mel_mse_mean": errors[1] / count}
        used = sums[3:].view(self.codebooks, -1).cpu().numpy()
        perplexities = [perplexity(counts) for counts in used]
        figures["codes_used"] = float(np.mean((used > 0).sum(axis=1)))
        figures["dead_codes"] = self.entries - figures["codes_used"]
        figures["perplexity"] = float(np.mean(perplexities))
        figures |= {f"perplexity_of_{i}": value for i, value in enumerate(perplexities)}
        least = min(COLLAPSED_PERPLEXITY, COLLAPSED_SHARE * min(self.entries, count))
        figures["collapsed"] = sum(value < least for value in perplexities)
        figures["tokens"] = count
        return figures


class RegressionMetrics:
    """Sums over held-out tokens, to be added over processes, and figures from them.

    `losses` are names of means over tokens; `names` those of the targets, which have `width` d
    each. The sums are kept on `device`.
    """

    def __init__(self, losses, names, width, device="cpu"):
        self.losses, self.names = losses, names
        size = 1 + len(losses) + len(names) * (2 + width)
        self.sums = torch.zeros(size, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, losses, predicted, targets):
        """Adds M tokens: sums of the losses (a dict), L predictions and L targets (L, M, d)."""
        values = [losses[name].double() for name in self.losses]
        predicted, targets = predicted.double(), targets.double()
        sums = [(predicted - targets).square(), targets.square()]
        sums = torch.stack([value.sum(dim=(1, 2)) for value in sums], dim=1)
        sums = torch.cat([sums, targets.sum(dim=1)], dim=1).flatten()
        count = torch.full_like(sums[:1], targets.shape[1])
        self.sums += torch.cat([count, torch.stack(values), sums])

    def figures(self, sums):
        """A dict of floats, from `sums` added over all processes; {} of no token.

        The losses, then r2_NAME of each target: the share of its variance that is predicted.
        """
        count, losses, sums = sums.split((1, len(self.losses), len(sums) - 1 - len(self.losses)))
        if not count:
            return {}
        figures = dict(zip(self.losses, (losses / count).tolist(), strict=True))
        for name, row in zip(self.names, sums.view(len(self.names), -1), strict=True):
            variance = row[1] - row[2:].square().sum() / count
            figures[f"r2_{name}"] = (1 - row[0] / variance).item()
        return figures | {"tokens": count.item()}
