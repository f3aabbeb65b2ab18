"""Conformer block: SpeechBrain's, with any token mixer and safe under padding."""

from collections.abc import Callable

from speechbrain.lobes.models.transformer import Conformer
from speechbrain.nnet.activations import Swish
from speechbrain.nnet.attention import PositionalwiseFeedForward
from speechbrain.nnet.normalization import LayerNorm
from torch import nn
from torch.nn import functional as F

from speechbrain_music.nnet.convolution import depthwise_conv, limit_lookahead
from speechbrain_music.nnet.dropout import replace_dropout


class ConvolutionModule(Conformer.ConvolutionModule):
    """SpeechBrain's convolution module, with each item's own end as the end of time."""

    def forward(self, x, padding_mask=None, lookahead=None, past=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        pointwise = self.bottleneck[0]  # kernel 1: a linear layer, and faster as one
        x = F.linear(self.layer_norm(x), pointwise.weight.squeeze(-1), pointwise.bias)
        kernel = self.conv.weight, self.conv.bias
        x = depthwise_conv(F.glu(x, dim=-1), *kernel, padding_mask, "zeros", lookahead, past)
        return self.after_conv(x)


def _feed_forward(d_model, d_ffn, dropout):
    return nn.Sequential(
        nn.LayerNorm(d_model),
        PositionalwiseFeedForward(d_ffn, input_size=d_model, dropout=dropout, activation=Swish),
        nn.Dropout(dropout),
    )


class ConformerLayer(nn.Module):
    """Half a feed-forward, token mixer, convolution, half a feed-forward.

    Source: Gulati et al., arXiv 2005.08100, as in SpeechBrain's `ConformerEncoderLayer`, whose
    parameter names it keeps (its `mha_layer` is `mixer` here).

    Arguments are those of a `BranchformerLayer`; `ffn_units` is the width inside the feed-forward
    modules, and `dropout` in and after them and the convolution.

    Example
    -------
    >>> import torch
    >>> from functools import partial
    >>> from speechbrain_music.nnet.summary_mixing import SummaryMixing
    >>> layer = ConformerLayer(64, partial(SummaryMixing, 64), ffn_units=128)
    >>> layer(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(
        self,
        d_model: int,
        mixer: Callable,
        ffn_units: int = 2048,
        kernel_size: int = 31,
        dropout: float = 0.0,
        lookahead: int | None = None,
    ):
        super().__init__()
        self.lookahead = lookahead
        self.mixer = mixer()
        limit_lookahead(self.mixer, lookahead, kernel_size)
        self.convolution_module = ConvolutionModule(d_model, kernel_size, dropout=dropout)
        self.ffn_module1 = _feed_forward(d_model, ffn_units, dropout)
        self.ffn_module2 = _feed_forward(d_model, ffn_units, dropout)
        self.norm1 = LayerNorm(d_model)
        self.norm2 = LayerNorm(d_model)
        replace_dropout(self)

    def forward(self, x, padding_mask=None, past=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model).

        `past`, a `Past`, is of the stream that x continues.
        """
        stream = {} if past is None else {"past": past}  # a mixer of one's own need not take it
        x = x + 0.5 * self.ffn_module1(x)
        x = x + self.mixer(self.norm1(x), padding_mask, **stream)
        x = x + self.convolution_module(x, padding_mask, self.lookahead, past)
        return self.norm2(x + 0.5 * self.ffn_module2(x))
