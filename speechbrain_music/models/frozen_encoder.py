"""Base class of frozen encoders: hidden states, pooled or by the frame, and an identity."""

import json
from hashlib import blake2b

import torch
from torch import nn

from speechbrain_music.nnet.precision import full_float32

POOLINGS = {"mean": 1, "mean_std": 2}  # over time -> values per hidden dimension


class FrozenEncoder(nn.Module):
    """Frozen model from waves to hidden states; a subclass defines `states(wave, samples)`.

    These are L states (B, T, d) and the (B,) int64 frames of each item. The model stays in eval
    mode, also inside another module, and without gradients: its features can be cached under
    `identity`.

    `name` is for tables; `identity` is hex, the same for equal weights and configuration;
    `sample_rate` in Hz is that of the waves; `layers` are names of the L states, `width` is d,
    `frame_rate` their number a second. `pooling` over time, "mean" or "mean_std", makes vectors of
    `dim` values. Unless `padding_safe`, all lengths of a batch must be equal.

    Example
    -------
    >>> class Level(FrozenEncoder):
    ...     def states(self, wave, samples):
    ...         return [wave.abs().unsqueeze(2)], samples
    >>> level = Level("level", "0f", 24000, ["level"], width=1, frame_rate=24000)
    >>> wave, samples = torch.ones(2, 9), torch.tensor([9, 5])
    >>> level.train()(wave, samples).shape, level.frames(wave, samples)[0].shape
    (torch.Size([2, 1, 1]), torch.Size([2, 9, 1, 1]))
    """

    padding_safe = True

    def __init__(self, name, identity, sample_rate, layers, width, frame_rate, pooling="mean"):
        super().__init__()
        self.name, self.identity, self.sample_rate = name, identity, sample_rate
        self.layers, self.width, self.frame_rate = tuple(layers), width, frame_rate
        self.frame_width = width  # of `frames`
        self.pooling, self.dim = pooling, width * POOLINGS[pooling]
        self.train()

    def states(self, wave, samples):
        """(B, N) waves and (B,) samples of each to L states (B, T, d) and (B,) frames of each."""
        raise NotImplementedError

    def train(self, mode=True):
        return super().train(False)

    @torch.no_grad()
    def forward(self, wave, samples):
        """(B, N) float32 mono waves and (B,) int64 lengths, 1 to N, to (B, layers, dim) float32.

        What stands past an item's length is not read. Raises ValueError if a length is out of
        range, or if lengths differ where `padding_safe` is False.
        """
        return pool_states(*self._checked_states(wave, samples), self.pooling).float()

    @torch.no_grad()
    def frames(self, wave, samples):
        """All states, (B, T, L, d) float32, and (B,) frames of each item; as `forward`."""
        hidden, counts = self._checked_states(wave, samples)
        return torch.stack(list(hidden), 2).float(), counts

    def _checked_states(self, wave, samples):
        shortest, longest = int(samples.min()), int(samples.max())
        if shortest < 1 or longest > wave.shape[1]:
            raise ValueError(
                f"lengths {shortest} to {longest} for waves of {wave.shape[1]} samples"
            )
        if not self.padding_safe and shortest != longest:
            raise ValueError(
                f"lengths {shortest} to {longest} in one batch of {self.name}, where padding "
                "changes the result: give batches of equal lengths"
            )
        with full_float32(wave.device):
            return self.states(wave[:, :longest], samples)


def fingerprint(config, weights):
    """Hash a configuration and every weight's name, type, shape and bytes; return hex."""
    digest = blake2b(json.dumps(config, sort_keys=True, default=str).encode(), digest_size=16)
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def pool_states(hidden, tokens, pooling="mean"):
    """Pool L hidden states (B, T, d) over an item's own (B,) tokens: (B, L, d).

    (B, L, 2 d) with "mean_std"; the deviation is the population's, 0 for a single token.
    """
    pooled = []
    for state in hidden:
        state = state if state.dtype == torch.float64 else state.float()
        mean = _mean(state, tokens)
        if pooling == "mean_std":
            variance = _mean((state - mean.unsqueeze(1)).square(), tokens)
            mean = torch.cat([mean, variance.sqrt()], dim=1)
        pooled.append(mean)
    return torch.stack(pooled, 1)


def _mean(x, lengths):
    beyond = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
    return x.masked_fill(beyond.unsqueeze(2), 0.0).sum(1) / lengths.unsqueeze(1)
