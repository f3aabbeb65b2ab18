"""SummaryMixing: global context at a cost linear in time.

Written from the equations of Parcollet et al., "SummaryMixing: A Linear-Complexity Alternative to
Self-Attention for Speech Recognition and Understanding", arXiv 2307.07421.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_music.nnet.convolution import Past
from speechbrain_music.nnet.dropout import Dropout


class GroupedLinear(nn.Module):
    """A linear layer that is block-diagonal over `groups` of features.

    Raises ValueError if a width does not divide by `groups`.
    """

    def __init__(self, in_features, out_features, groups):
        super().__init__()
        for width in (in_features, out_features):
            if width < 1 or groups < 1 or width % groups:
                raise ValueError(
                    f"width {width} does not divide by nhead {groups}: "
                    f"take a positive multiple of {groups}"
                )
        fan_in, fan_out = in_features // groups, out_features // groups
        bound = 1 / math.sqrt(fan_in)  # the range of nn.Linear, for each block
        self.weight = nn.Parameter(torch.empty(groups, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x):
        """(groups, frames, in/groups) to (groups, frames, out/groups).

        Groups come first so that a layer is one batched matrix product, and layers follow each
        other without a transposition.
        """
        return torch.baddbmm(self.bias.view(len(x), 1, -1), x, self.weight)


class MergeLinear(nn.Linear):
    """A linear layer of frames that are concatenated with a vector, of each or of all of them."""

    def forward(self, x, constant):
        """(B, T, n) and (B, 1, m) or (B, T, m) to (B, T, out), n + m being the layer's inputs."""
        weight, of_constant = self.weight.split((x.shape[-1], constant.shape[-1]), dim=1)
        # W [x; c] = W_x x + W_c c: the second product once per item, not per frame.
        return F.linear(x, weight) + F.linear(constant, of_constant, self.bias)


class SummaryMixing(nn.Module):
    """Mixes every time step with the mean of all valid time steps.

    output_t = GELU(W [f(x_t); s_bar] + b) with s_bar the mean of s(x_t) over valid t. f and s are
    per-step MLPs, block-diagonal over `nhead` groups, GELU after every layer.

    If `causal` is set, s_bar of a step is the mean up to that step, for streaming (not in the
    paper).

    `hidden` are the hidden widths of f and s, by default one layer of d_model. `out_features` is
    the width of f(x_t) and of s_bar, by default d_model. Every width must divide by nhead, else
    ValueError. `dropout` is on f per frame, and on s_bar per item.

    Example
    -------
    >>> mixing = SummaryMixing(64)
    >>> x = torch.randn(2, 10, 64)
    >>> mixing(x).shape
    torch.Size([2, 10, 64])
    >>> order = torch.randperm(10)  # the summary does not depend on the order of time
    >>> torch.allclose(mixing(x)[:, order], mixing(x[:, order]), atol=1e-5)
    True
    """

    causal = False

    def __init__(
        self,
        d_model: int,
        nhead: int = 4,
        hidden: tuple | None = None,
        out_features: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.nhead = nhead
        self.out_features = out_features or d_model
        widths = (d_model, *((d_model,) if hidden is None else hidden), self.out_features)
        self.f = self._mlp(widths, nhead)
        self.s = self._mlp(widths, nhead)
        self.merge = MergeLinear(2 * self.out_features, d_model)
        nn.init.zeros_(self.merge.bias)
        self.dropout = Dropout(dropout)

    @staticmethod
    def _mlp(widths, nhead):
        layers = []
        for fan_in, fan_out in zip(widths, widths[1:], strict=False):
            layers += [GroupedLinear(fan_in, fan_out, nhead), nn.GELU()]
        return nn.Sequential(*layers)

    def forward(self, x, padding_mask=None, past=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model).

        Values at padded steps are meaningless; an item of padding has a summary of zeros. `past`, a
        `Past`, is of the stream that x continues, if `causal`.
        """
        batch, steps, width = x.shape
        groups = x.reshape(batch * steps, self.nhead, -1).transpose(0, 1)
        local = self.f(groups).transpose(0, 1).reshape(batch, steps, self.out_features)
        summary = self.s(groups).view(self.nhead, batch, steps, -1)
        if self.causal:
            summary = self._running_mean(summary, padding_mask, past or Past())
        else:
            summary = self._mean(summary, padding_mask)
        summary = summary.permute(1, 2, 0, 3).flatten(2)
        summary = self.dropout(summary).to(x.dtype)
        return F.gelu(self.merge(self.dropout(local), summary))

    @staticmethod
    def _mean(s, padding_mask):
        """Mean over valid steps of (groups, B, T, features), summed in float32 or better."""
        dtype = torch.promote_types(s.dtype, torch.float32)
        if padding_mask is None:  # faster than mean(), whose gradient is expanded first
            return s.sum(dim=2, keepdim=True, dtype=dtype) / s.shape[2]
        valid = (~padding_mask).to(dtype)
        count = valid.sum(dim=1).clamp(min=1).view(1, -1, 1, 1)
        # where, not a product with 0: padded steps may hold anything, even NaN.
        s = torch.where(padding_mask.unsqueeze(-1), 0, s.to(dtype))
        return s.sum(dim=2, keepdim=True) / count

    @staticmethod
    def _running_mean(s, padding_mask, past):
        """Mean of (groups, B, T, features) up to each step.

        Summed in float64: an hour has 90,000 steps.
        """
        valid = torch.ones(s.shape[1:3], device=s.device)
        if padding_mask is not None:
            valid = (~padding_mask).to(valid.dtype)
            s = torch.where(padding_mask.unsqueeze(-1), 0, s)
        total = s.cumsum(dim=2, dtype=torch.float64) + past.total
        count = valid.cumsum(dim=1) + past.count
        if past.leaving:
            past.total = total[:, :, past.leaving - 1 : past.leaving]
            past.count += past.leaving
        return total / count.clamp(min=1).unsqueeze(-1)
