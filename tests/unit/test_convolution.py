"""depthwise_conv equals Conv1d, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from speechbrain_music.nnet import convolution


@pytest.mark.parametrize("flat", (1, 2))
@pytest.mark.parametrize("padding", (0, 2))
def test_image_equals_conv1d(flat, padding):
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 9, 6), (6, 1, 5), (6,))
    )
    expected = F.conv1d(x.transpose(1, 2), weight, bias, padding=padding, groups=6).transpose(1, 2)
    found = convolution._as_image(x, weight, bias, padding, flat)
    assert torch.allclose(found, expected, atol=1e-12)
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(out, (x, weight, bias), upstream) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("padding_mode", ("zeros", "reflect"))
@pytest.mark.parametrize("half", (False, True))
def test_gpu_branch_cuts_edges(padding_mode, half, monkeypatch):
    x, weight, bias = torch.randn(2, 40, 6), torch.randn(6, 1, 5), torch.randn(6)
    mask = torch.arange(40) >= torch.tensor([[40], [33]])
    expected = convolution.depthwise_conv(x, weight, bias, mask, padding_mode)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: half)
    found = convolution.depthwise_conv(x, weight, bias, mask, padding_mode)
    assert torch.allclose(found[~mask], expected[~mask], atol=1e-5)
