"""SpeechBrain's relative-position self-attention as a token mixer: the paper's baseline.

A token mixer maps x (B, T, d_model) and an optional (B, T) padding mask (True = padding) to
(B, T, d_model). The others are `nnet.summary_mixing.SummaryMixing` and
`nnet.attention.RotaryAttention`.
"""

import math
from contextlib import nullcontext
from functools import lru_cache

import torch
from speechbrain.nnet.attention import RelPosMHAXL
from torch.nn import functional as F


def _positions(width, steps, device):
    """What SpeechBrain's RelPosEncXL makes, (1, 2 T - 1, width), for any T of an ONNX graph."""
    with torch.inference_mode(False):  # what it makes could not be trained through
        even = torch.arange(0, width, 2, device=device, dtype=torch.float32)
        distance = torch.arange(1 - steps, steps, device=device).abs().float()
        angle = torch.outer(distance, torch.exp(even * (-math.log(10000.0) / width)))
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).unsqueeze(0)


_cached_positions = lru_cache(maxsize=4)(_positions)  # the layers of an encoder share it


class RelativeAttention(RelPosMHAXL):
    """SpeechBrain's RelPosMHAXL as it is, with its sinusoids made here.

    Properties of it in SpeechBrain 1.1.2 that are kept: it cannot tell past from future and scales
    by 1 / sqrt(d_model). Its softmax is float32, so it does not run in float64.

    `dropout` is on the attention weights. ValueError if d_model is odd or no multiple of nhead.

    Example
    -------
    >>> RelativeAttention(64)(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(self, d_model: int, nhead: int = 4, dropout: float = 0.0):
        if nhead < 1 or d_model % nhead or d_model % 2:
            raise ValueError(f"d_model {d_model} must be even and a multiple of {nhead}, nhead")
        super().__init__(embed_dim=d_model, num_heads=nhead, dropout=dropout)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        make = _positions if torch.compiler.is_exporting() else _cached_positions
        positions = make(self.embed_dim, x.shape[1], x.device).to(x.dtype)
        # Its softmax gives float32 weights, which a product with half precision does not take.
        half = torch.autocast(x.device.type, x.dtype) if x.dtype.itemsize == 2 else nullcontext()
        with half:
            return super().forward(
                x, x, x, positions, key_padding_mask=padding_mask, return_attn_weights=False
            )

    def rel_shift(self, x):
        """(B, heads, T, 2 T - 1) to (B, heads, T, T), as SpeechBrain, with all sizes given."""
        batch, heads, steps, distances = x.shape
        x = F.pad(x, (1, 0)).view(batch, heads, distances + 1, steps)[:, :, 1:]
        return x.reshape(batch, heads, steps, distances)[..., :steps]
