"""Self-attention with rotary positions: the strong quadratic baseline."""

import torch
from torch import nn
from torch.nn import functional as F


def rotate(x, base=10000.0):
    """Rotary position embedding (Su et al., arXiv 2104.09864) of (B, heads, T, features)."""
    steps, features = x.shape[-2:]
    dtype = torch.promote_types(x.dtype, torch.float32)  # angles up to T do not fit bfloat16
    inverse = base ** (torch.arange(0, features, 2, device=x.device, dtype=dtype) / -features)
    angle = torch.outer(torch.arange(steps, device=x.device, dtype=dtype), inverse)
    cosine, sine = angle.cos(), angle.sin()
    first, second = x.to(dtype).chunk(2, dim=-1)
    rotated = (first * cosine - second * sine, second * cosine + first * sine)
    return torch.cat(rotated, dim=-1).to(x.dtype)


class RotaryAttention(nn.Module):
    """Multi-head self-attention by torch's scaled dot product, scale 1 / sqrt(d_model / nhead).

    `dropout` is on the attention weights. Raises ValueError unless d_model / nhead is an even
    whole number.

    Example
    -------
    >>> RotaryAttention(64)(torch.randn(2, 10, 64)).shape
    torch.Size([2, 10, 64])
    """

    def __init__(self, d_model: int, nhead: int = 4, dropout: float = 0.0):
        super().__init__()
        if nhead < 1 or d_model % (2 * nhead):
            raise ValueError(
                f"d_model {d_model} does not divide into {nhead} heads of even width: "
                f"take a multiple of {2 * nhead}"
            )
        self.nhead = nhead
        self.dropout = dropout
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj.weight)

    def forward(self, x, padding_mask=None):
        """(B, T, d_model) and an optional (B, T) mask, True = padding, to (B, T, d_model)."""
        batch, steps, width = x.shape
        heads = self.in_proj(x).view(batch, steps, 3, self.nhead, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        keep = None
        if padding_mask is not None:
            # An item that is all padding attends to all of it: finite, and unused.
            keep = ~padding_mask | padding_mask.all(dim=1, keepdim=True)
            keep = keep[:, None, None, :]
        out = F.scaled_dot_product_attention(
            rotate(query),
            rotate(key),
            value,
            attn_mask=keep,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(out.transpose(1, 2).reshape(batch, steps, width))
