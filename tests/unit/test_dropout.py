"""Dropout equals torch's, up to the random numbers."""

import pytest
import torch
from torch import nn

from speechbrain_music.nnet.dropout import Dropout, replace_dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_mean_and_independence(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1000, 1000, dtype=torch.float64))
    assert abs((out == 0).double().mean().item() - p) < 0.003
    assert abs(out.mean().item() - 1) < 0.01
    four = (out == 0).double().view(-1, 4)  # values that share one random number
    assert (torch.corrcoef(four.T) - torch.eye(4)).abs().max() < 0.01
    assert (four.mean(dim=0) - p).abs().max() < 0.005


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 7), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shape_dtype_and_gradient(shape, dtype):
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert out.shape == x.shape and out.dtype == dtype
    assert torch.equal(x.grad, out.detach())  # of ones: what was scaled, by what it was scaled


def test_seed_and_eval():
    x, dropout = torch.randn(50), Dropout(0.5)
    outs = [(torch.manual_seed(seed), dropout(x))[1] for seed in (1, 1, 2)]
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    assert dropout.eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x) and not Dropout(1.0)(x).any()


def test_replaces_all_dropout_of_a_module():
    module = nn.Sequential(nn.Sequential(nn.Dropout(0.1)), nn.Dropout(0.2), nn.Dropout1d(0.3))
    replace_dropout(module)
    assert [m.p for m in module.modules() if isinstance(m, Dropout)] == [0.1, 0.2]
