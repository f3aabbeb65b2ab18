"""Branchformer block: SpeechBrain's, with any token mixer and safe under padding."""

from collections.abc import Callable

import torch
from speechbrain.lobes.models.transformer import Branchformer
from speechbrain.nnet.normalization import LayerNorm
from torch import nn

from speechbrain_music.nnet.convolution import depthwise_conv, zero_padding
from speechbrain_music.nnet.dropout import replace_dropout

MERGES = ("concat", "average", "global", "local")


class ConvolutionBranch(Branchformer.ConvolutionBranch):
    """SpeechBrain's local branch (cgMLP), with each item's own end as the end of time."""

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        value, gate = self.activation(self.pre_channel_proj(x)).chunk(2, dim=-1)
        conv = self.csgu.conv.conv
        gate = self.csgu.norm(gate)
        gate = depthwise_conv(gate, conv.weight, conv.bias, padding_mask, padding_mode="reflect")
        return self.post_channel_proj(self.csgu.dropout(value * gate))


class BranchWeights(nn.Module):
    """Weights of the two branches of an item, which add up to 1.

    Each branch is pooled over valid steps by attention with a learned query, and scored.
    Source: Peng et al., arXiv 2207.02971, section 3.4.2.
    """

    def __init__(self, d_model):
        super().__init__()
        self.query = nn.ModuleList(nn.Linear(d_model, 1) for _ in range(2))
        self.score = nn.ModuleList(nn.Linear(d_model, 1) for _ in range(2))

    def forward(self, global_branch, local_branch, padding_mask=None):
        """Two branches (B, T, d_model) and an optional (B, T) mask to (B, 2) weights."""
        scores = []
        branches = (global_branch, local_branch)
        for branch, query, score in zip(branches, self.query, self.score, strict=True):
            branch = zero_padding(branch, padding_mask)
            similarity = query(branch) / branch.shape[-1] ** 0.5
            if padding_mask is not None:  # not -inf: an item may be all padding
                lowest = torch.finfo(similarity.dtype).min
                similarity = similarity.masked_fill(padding_mask.unsqueeze(-1), lowest)
            scores.append(score((similarity.softmax(dim=1) * branch).sum(dim=1)))
        return torch.cat(scores, dim=-1).softmax(dim=-1)


class BranchformerLayer(nn.Module):
    """A global branch (token mixer) parallel to a local one (cgMLP), and their merge.

    Source: Peng et al., arXiv 2207.02971, as in SpeechBrain's `BranchformerEncoderLayer`, whose
    parameter names it keeps (its `mha_layer` is `mixer` here).

    `mixer` makes the token mixer of the global branch: a module that maps x (B, T, d_model) and an
    optional (B, T) padding mask to (B, T, d_model), such as `SummaryMixing`. `ffn_units` is the
    width inside the local branch, `kernel_size` that of its depthwise convolution in tokens.
    `dropout` is after each branch, after the merge and inside both branches. `merge` is "concat":
    the concatenated branches, then a linear layer (the paper's); "average": their average by
    `BranchWeights`, then a linear layer; "global" or "local": one branch alone; else ValueError.

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
    ):
        super().__init__()
        if merge not in MERGES:
            raise ValueError(f"merge is {merge!r}: choose {', '.join(MERGES)}")
        has_global, has_local = merge != "local", merge != "global"
        self.mixer = mixer() if has_global else None
        self.convolution_branch = (
            ConvolutionBranch(
                d_model, linear_units=ffn_units, kernel_size=kernel_size, dropout=dropout
            )
            if has_local
            else None
        )
        self.branch_weights = BranchWeights(d_model) if merge == "average" else None
        self.merge_proj = nn.Linear(2 * d_model if merge == "concat" else d_model, d_model)
        self.norm_mhsa = LayerNorm(d_model) if has_global else None
        self.norm_conv = LayerNorm(d_model) if has_local else None
        self.dropout = nn.Dropout(dropout)
        replace_dropout(self)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        branches = []
        if self.mixer is not None:
            branches.append(self.dropout(self.mixer(self.norm_mhsa(x), padding_mask)))
        if self.convolution_branch is not None:
            local = self.convolution_branch(self.norm_conv(x), padding_mask)
            branches.append(self.dropout(local))
        if self.branch_weights is None:
            merged = torch.cat(branches, dim=-1)
        else:
            weight = self.branch_weights(*branches, padding_mask)[:, :1].unsqueeze(-1)
            merged = torch.lerp(branches[1], branches[0], weight)
        return x + self.dropout(self.merge_proj(merged))
