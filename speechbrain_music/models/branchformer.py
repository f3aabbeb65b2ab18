"""Branchformer block: SpeechBrain's, with a mixing of choice and safe under padding."""

import torch
from speechbrain.lobes.models.transformer import Branchformer
from speechbrain.nnet.normalization import LayerNorm
from torch import nn

from speechbrain_music.models.mixing import make_mixing
from speechbrain_music.nnet.convolution import depthwise_conv
from speechbrain_music.nnet.dropout import replace_dropout


class ConvolutionBranch(Branchformer.ConvolutionBranch):
    """SpeechBrain's local branch (cgMLP), with each item's own end as the end of time.

    Example
    -------
    >>> ConvolutionBranch(64, linear_units=128)(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        value, gate = self.activation(self.pre_channel_proj(x)).chunk(2, dim=-1)
        conv = self.csgu.conv.conv
        gate = self.csgu.norm(gate)
        gate = depthwise_conv(gate, conv.weight, conv.bias, padding_mask, padding_mode="reflect")
        return self.post_channel_proj(self.csgu.dropout(value * gate))


class BranchformerLayer(nn.Module):
    """A global branch (mixing) beside a local one (cgMLP), concatenated and merged.

    Source: Peng et al., arXiv 2207.02971, as in SpeechBrain's `BranchformerEncoderLayer`, whose
    parameter names it keeps (its `mha_layer` is `mixing` here).

    Arguments
    ---------
    d_model : int
        Width of input and output.
    nhead : int
        Heads or groups of the mixing.
    mixing : str or torch.nn.Module
        "summary", "attention", "rope", or a module of the signature (x, padding_mask).
    csgu_linear_units : int
        Width inside the local branch.
    kernel_size : int
        Of its depthwise convolution, in tokens.
    dropout : float
        After each branch, after the merge and inside both branches.

    Raises
    ------
    ValueError
        For an unknown mixing, or widths that do not divide by nhead.

    Example
    -------
    >>> layer = BranchformerLayer(64, csgu_linear_units=128)
    >>> layer(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(
        self,
        d_model,
        nhead=4,
        mixing="summary",
        csgu_linear_units=3072,
        kernel_size=31,
        dropout=0.0,
    ):
        super().__init__()
        self.mixing = make_mixing(mixing, d_model, nhead, dropout)
        self.convolution_branch = ConvolutionBranch(
            d_model, linear_units=csgu_linear_units, kernel_size=kernel_size, dropout=dropout
        )
        self.merge_proj = nn.Linear(2 * d_model, d_model)
        self.norm_mhsa = LayerNorm(d_model)
        self.norm_conv = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        replace_dropout(self)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        far = self.dropout(self.mixing(self.norm_mhsa(x), padding_mask))
        near = self.dropout(self.convolution_branch(self.norm_conv(x), padding_mask))
        return x + self.dropout(self.merge_proj(torch.cat([far, near], dim=-1)))
