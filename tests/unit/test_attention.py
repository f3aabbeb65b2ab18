"""RotaryAttention equals its equations; SpeechBrain's attention can be trained."""

import pytest
import torch

from speechbrain_music.models.attention import RelativeAttention
from speechbrain_music.nnet.attention import RotaryAttention, rotate


def test_equals_direct_computation():
    torch.manual_seed(0)
    attention = RotaryAttention(16, nhead=2).double()
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    query, key, value = (
        part.view(2, 7, 2, 8).transpose(1, 2) for part in attention.in_proj(x).chunk(3, dim=-1)
    )
    query, key = rotate(query), rotate(key)
    scores = query @ key.transpose(-1, -2) / 8**0.5  # 1 / sqrt(width of a head)
    mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(2, 7, 16)
    assert torch.allclose(attention(x), attention.out_proj(mixed), atol=1e-12)


def test_rotary_product_depends_on_signed_distance():
    torch.manual_seed(0)
    query, key = torch.randn(2, 8, dtype=torch.float64)
    rows = [rotate(vector.expand(1, 1, 12, 8))[0, 0] for vector in (query, key)]
    products = rows[0] @ rows[1].T  # (place of query, place of key)
    for distance in range(-11, 12):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-12)
    assert not torch.isclose(products[0, 3], products[3, 0])
    assert torch.isclose(products[0, 0], query @ key)


def test_relative_attention_refuses_an_odd_width():
    with pytest.raises(ValueError, match="d_model 9 must be even and a multiple of 3, nhead"):
        RelativeAttention(9, 3)


def test_relative_attention_is_trained_after_inference_mode():
    attention, x = RelativeAttention(8, 2), torch.randn(1, 61, 8)
    with torch.inference_mode():
        before = attention(x)
    after = attention(x)
    after.sum().backward()
    assert torch.equal(before, after) and attention.in_proj_weight.grad.any()
