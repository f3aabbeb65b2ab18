"""The three ways in which a block looks over all of time, behind one signature.

A mixing module maps x (B, T, d_model) and an optional (B, T) padding mask (True = padding) to
(B, T, d_model).
"""

from functools import lru_cache

from speechbrain.nnet.attention import RelPosEncXL, RelPosMHAXL
from torch import nn

from speechbrain_music.nnet.attention import RotaryAttention
from speechbrain_music.nnet.summary_mixing import SummaryMixing


@lru_cache(maxsize=4)  # the layers of an encoder share it
def _positions(width, steps, device):
    return RelPosEncXL(width).to(device).make_pe(steps)


class RelativeAttention(RelPosMHAXL):
    """SpeechBrain's RelPosMHAXL as it is, with its sinusoids made here: the paper's baseline.

    Known of it in SpeechBrain 1.1.2, and kept: it cannot tell past from future and scales by
    1 / sqrt(d_model). Its softmax is float32, so it does not run in float64.

    Arguments
    ---------
    d_model, nhead, dropout
        Width, heads, dropout on the attention weights.

    Raises
    ------
    ValueError
        If d_model does not divide by nhead.

    Example
    -------
    >>> import torch
    >>> RelativeAttention(64)(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(self, d_model, nhead=4, dropout=0.0):
        if d_model % nhead:
            raise ValueError(
                f"d_model {d_model} does not divide by nhead {nhead}: take a multiple of {nhead}"
            )
        super().__init__(embed_dim=d_model, num_heads=nhead, dropout=dropout)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        positions = _positions(self.embed_dim, x.shape[1], x.device).to(x.dtype)
        return super().forward(
            x, x, x, positions, key_padding_mask=padding_mask, return_attn_weights=False
        )


MIXINGS = {"summary": SummaryMixing, "attention": RelativeAttention, "rope": RotaryAttention}


def make_mixing(mixing, d_model, nhead, dropout=0.0):
    """A mixing module from its name; a ready module is returned as it is.

    Raises
    ------
    ValueError
        If the name is not one of summary, attention, rope.

    Example
    -------
    >>> type(make_mixing("summary", d_model=64, nhead=4)).__name__
    'SummaryMixing'
    """
    if isinstance(mixing, nn.Module):
        return mixing
    if mixing not in MIXINGS:
        raise ValueError(f"mixing is {mixing!r}: choose {', '.join(MIXINGS)}, or pass a module")
    return MIXINGS[mixing](d_model, nhead=nhead, dropout=dropout)
