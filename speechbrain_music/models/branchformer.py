"""Branchformer block: SpeechBrain's, with a mixing of choice and safe under padding."""

import torch
from speechbrain.lobes.models.transformer import Branchformer
from speechbrain.nnet.normalization import LayerNorm
from torch import nn

from speechbrain_music.models.mixing import make_mixing
from speechbrain_music.nnet.convolution import depthwise_conv, zero_padding
from speechbrain_music.nnet.dropout import replace_dropout

MERGES = ("concat", "average", "global", "local")


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


class BranchWeights(nn.Module):
    """How much each branch counts for an item: two weights that add up to 1.

    Each branch is pooled over valid steps by attention with a learned query, and scored.
    Source: Peng et al., arXiv 2207.02971, section 3.4.2.

    Example
    -------
    >>> weights = BranchWeights(64)(torch.randn(2, 10, 64), torch.randn(2, 10, 64))
    >>> weights.shape, torch.allclose(weights.sum(dim=1), torch.ones(2))
    (torch.Size([2, 2]), True)
    """

    def __init__(self, d_model):
        super().__init__()
        self.query = nn.ModuleList(nn.Linear(d_model, 1) for _ in range(2))
        self.score = nn.ModuleList(nn.Linear(d_model, 1) for _ in range(2))

    def forward(self, far, near, padding_mask=None):
        """Two branches (B, T, d_model) and an optional (B, T) mask to (B, 2) weights."""
        scores = []
        for branch, query, score in zip((far, near), self.query, self.score, strict=True):
            branch = zero_padding(branch, padding_mask)
            similarity = query(branch) / branch.shape[-1] ** 0.5
            if padding_mask is not None:  # the least number, not -inf: an item may be all padding
                lowest = torch.finfo(similarity.dtype).min
                similarity = similarity.masked_fill(padding_mask.unsqueeze(-1), lowest)
            scores.append(score((similarity.softmax(dim=1) * branch).sum(dim=1)))
        return torch.cat(scores, dim=-1).softmax(dim=-1)


class BranchformerLayer(nn.Module):
    """A global branch (mixing) beside a local one (cgMLP), and their merge.

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
    merge : str
        "concat": the branches side by side, then a linear layer (the paper's). "average": their
        average by `BranchWeights`, then a linear layer. "global" or "local": one branch alone.

    Raises
    ------
    ValueError
        For an unknown mixing or merge, or widths that do not divide by nhead.

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
        merge="concat",
    ):
        super().__init__()
        if merge not in MERGES:
            raise ValueError(f"merge is {merge!r}: choose {', '.join(MERGES)}")
        far, near = merge != "local", merge != "global"  # which branches there are
        self.mixing = make_mixing(mixing, d_model, nhead, dropout) if far else None
        self.convolution_branch = (
            ConvolutionBranch(
                d_model, linear_units=csgu_linear_units, kernel_size=kernel_size, dropout=dropout
            )
            if near
            else None
        )
        self.branch_weights = BranchWeights(d_model) if merge == "average" else None
        self.merge_proj = nn.Linear(2 * d_model if merge == "concat" else d_model, d_model)
        self.norm_mhsa = LayerNorm(d_model) if far else None
        self.norm_conv = LayerNorm(d_model) if near else None
        self.dropout = nn.Dropout(dropout)
        replace_dropout(self)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        branches = []
        if self.mixing is not None:
            branches.append(self.dropout(self.mixing(self.norm_mhsa(x), padding_mask)))
        if self.convolution_branch is not None:
            near = self.convolution_branch(self.norm_conv(x), padding_mask)
            branches.append(self.dropout(near))
        if self.branch_weights is None:
            merged = torch.cat(branches, dim=-1)
        else:
            far, near = branches
            weight = self.branch_weights(far, near, padding_mask)[:, :1].unsqueeze(-1)
            merged = torch.lerp(near, far, weight)
        return x + self.dropout(self.merge_proj(merged))
