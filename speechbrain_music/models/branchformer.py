"""Branchformer block: SpeechBrain's, with any token mixer and safe under padding."""

from collections.abc import Callable

import torch
from speechbrain.lobes.models.transformer import Branchformer
from speechbrain.nnet.normalization import LayerNorm
from torch import nn

from speechbrain_music.nnet.convolution import depthwise_conv, limit_lookahead
from speechbrain_music.nnet.dropout import replace_dropout


class ConvolutionBranch(Branchformer.ConvolutionBranch):
    """SpeechBrain's local branch (cgMLP), with each item's own end as the end of time."""

    def forward(self, x, padding_mask=None, lookahead=None, past=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        value, gate = self.activation(self.pre_channel_proj(x)).chunk(2, dim=-1)
        conv = self.csgu.conv.conv
        gate = self.csgu.norm(gate)
        kernel = conv.weight, conv.bias
        gate = depthwise_conv(gate, *kernel, padding_mask, "reflect", lookahead, past)
        return self.post_channel_proj(self.csgu.dropout(value * gate))


class BranchformerLayer(nn.Module):
    """A global branch (token mixer) parallel to a local one (cgMLP), and their merge.

    Source: Peng et al., arXiv 2207.02971, as in SpeechBrain's `BranchformerEncoderLayer`, whose
    parameter names it keeps (its `mha_layer` is `mixer` here).

    `mixer` makes the token mixer of the global branch: a module that maps x (B, T, d_model) and an
    optional (B, T) padding mask to (B, T, d_model), such as `SummaryMixing`. `ffn_units` is the
    width inside the local branch, `kernel_size` that of its depthwise convolution in tokens.
    `dropout` is after each branch, after the merge and inside both branches. The merge is a linear
    layer of the concatenated branches: `merge`, which exports name, is "concat", else ValueError.

    For streaming: with `lookahead` the convolution reads so many steps after each, at most half a
    kernel, and is padded with zeros; the mixer, which must be able to be `causal`, reads none; else
    ValueError. None: the block reads the whole piece.

    Example
    -------
    >>> from functools import partial
    >>> from speechbrain_music.nnet.summary_mixing import SummaryMixing
    >>> layer = BranchformerLayer(64, partial(SummaryMixing, 64), ffn_units=128)
    >>> layer(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(
        self,
        d_model: int,
        mixer: Callable,
        ffn_units: int = 3072,
        kernel_size: int = 31,
        dropout: float = 0.0,
        merge: str = "concat",
        lookahead: int | None = None,
    ):
        super().__init__()
        if merge != "concat":
            raise ValueError(f"merge is {merge!r}: set concat, branches are merged in no other way")
        self.lookahead = lookahead
        self.mixer = mixer()
        limit_lookahead(self.mixer, lookahead, kernel_size)
        self.convolution_branch = ConvolutionBranch(
            d_model, linear_units=ffn_units, kernel_size=kernel_size, dropout=dropout
        )
        self.merge_proj = nn.Linear(2 * d_model, d_model)
        self.norm_mhsa = LayerNorm(d_model)
        self.norm_conv = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        replace_dropout(self)

    def forward(self, x, padding_mask=None, past=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model).

        `past`, a `Past`, is of the stream that x continues.
        """
        stream = {} if past is None else {"past": past}  # a mixer of one's own need not take it
        mixed = self.dropout(self.mixer(self.norm_mhsa(x), padding_mask, **stream))
        local = self.convolution_branch(self.norm_conv(x), padding_mask, self.lookahead, past)
        branches = torch.cat([mixed, self.dropout(local)], dim=-1)
        return x + self.dropout(self.merge_proj(branches))
