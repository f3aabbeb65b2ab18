"""Conformer block: SpeechBrain's, with a mixing of choice and safe under padding."""

from speechbrain.lobes.models.transformer import Conformer
from speechbrain.nnet.activations import Swish
from speechbrain.nnet.attention import PositionalwiseFeedForward
from speechbrain.nnet.normalization import LayerNorm
from torch import nn
from torch.nn import functional as F

from speechbrain_music.models.mixing import make_mixing
from speechbrain_music.nnet.convolution import depthwise_conv
from speechbrain_music.nnet.dropout import replace_dropout


class ConvolutionModule(Conformer.ConvolutionModule):
    """SpeechBrain's convolution module, with each item's own end as the end of time.

    Example
    -------
    >>> import torch
    >>> ConvolutionModule(64)(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        pointwise = self.bottleneck[0]  # kernel 1: a linear layer, and faster as one
        x = F.linear(self.layer_norm(x), pointwise.weight.squeeze(-1), pointwise.bias)
        x = depthwise_conv(F.glu(x, dim=-1), self.conv.weight, self.conv.bias, padding_mask)
        return self.after_conv(x)


def _feed_forward(d_model, d_ffn, dropout):
    return nn.Sequential(
        nn.LayerNorm(d_model),
        PositionalwiseFeedForward(d_ffn, input_size=d_model, dropout=dropout, activation=Swish),
        nn.Dropout(dropout),
    )


class ConformerLayer(nn.Module):
    """Half a feed-forward, mixing, convolution, half a feed-forward.

    Source: Gulati et al., arXiv 2005.08100, as in SpeechBrain's `ConformerEncoderLayer`, whose
    parameter names it keeps (its `mha_layer` is `mixing` here).

    Arguments
    ---------
    d_model : int
        Width of input and output.
    nhead : int
        Heads or groups of the mixing.
    mixing : str or torch.nn.Module
        "summary", "attention", "rope", or a module of the signature (x, padding_mask).
    d_ffn : int
        Width inside the feed-forward modules.
    kernel_size : int
        Of the depthwise convolution, in tokens.
    dropout : float
        In and after the feed-forward modules, the mixing and the convolution.

    Raises
    ------
    ValueError
        For an unknown mixing, or widths that do not divide by nhead.

    Example
    -------
    >>> import torch
    >>> ConformerLayer(64, d_ffn=128)(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(self, d_model, nhead=4, mixing="summary", d_ffn=2048, kernel_size=31, dropout=0.0):
        super().__init__()
        self.mixing = make_mixing(mixing, d_model, nhead, dropout)
        self.convolution_module = ConvolutionModule(d_model, kernel_size, dropout=dropout)
        self.ffn_module1 = _feed_forward(d_model, d_ffn, dropout)
        self.ffn_module2 = _feed_forward(d_model, d_ffn, dropout)
        self.norm1 = LayerNorm(d_model)
        self.norm2 = LayerNorm(d_model)
        replace_dropout(self)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        x = x + 0.5 * self.ffn_module1(x)
        x = x + self.mixing(self.norm1(x), padding_mask)
        x = x + self.convolution_module(x, padding_mask)
        return self.norm2(x + 0.5 * self.ffn_module2(x))
