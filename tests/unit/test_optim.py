"""Clipping, schedule and parameter groups."""

import copy
import math

import pytest
import torch
from torch import nn

from speechbrain_music.brains.base import scale_and_clip
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.ssl import TokenHead
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
from speechbrain_music.optim.groups import decay_groups
from speechbrain_music.optim.schedules import warmup_cosine


def with_gradients(size):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 50, 7)]
    for parameter in parameters:
        parameter.grad = size * torch.randn_like(parameter)
    return [*parameters, nn.Parameter(torch.zeros(2))]  # one has no gradient


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1 / 160, 1.0, 8.0])
def test_scales_then_clips_common_norm(size, scale):
    ours, expected = with_gradients(size), with_gradients(size)
    for parameter in expected[:-1]:
        parameter.grad.mul_(scale)
    norm = nn.utils.clip_grad_norm_(expected, 1.0).item()
    assert scale_and_clip(iter(ours), scale, 1.0) == pytest.approx(norm, rel=1e-6)
    for mine, theirs in zip(ours[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert ours[-1].grad is None
    ours[1].grad[7] = math.nan
    assert not math.isfinite(scale_and_clip(ours, scale, 1.0))


@pytest.mark.parametrize("warmup, total, floor", [(10, 100, 0.0), (0, 50, 0.1), (1, 2, 0.0)])
def test_warmup_cosine_is_monotonic(warmup, total, floor):
    rates = [warmup_cosine(step, warmup, total, floor) for step in range(total + 20)]
    top = max(0, warmup - 1)
    assert rates[top] == 1 and all(0 <= floor <= rate <= 1 for rate in rates[top:])
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[0] > 0
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[total:] == [floor] * 20
    if warmup > 1:
        slope = max(1 / warmup, math.pi / 2 / (total - warmup))
        assert max(abs(b - a) for a, b in zip(rates, rates[1:], strict=False)) <= slope + 1e-12
        middle = (warmup + total) // 2
        assert rates[middle] == pytest.approx((1 + floor) / 2)
    assert [warmup_cosine(step, 10, 5) for step in range(5)] == [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("block", ["branchformer", "conformer"])
def test_biases_and_norms_are_not_decayed(block):
    encoder = make_encoder(block, "attention", 2, 16, 2, 16, frontend_channels=2)
    head = TokenHead(16, RandomProjectionQuantizer(512, codebook_size=8))
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    frozen = head.weight.requires_grad_(False)
    decayed, plain = decay_groups(model, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    ids = sorted(id(p) for p in decayed["params"] + plain["params"])
    assert ids == sorted(id(p) for p in model.parameters() if p is not frozen)
    names = {id(p): name for name, p in model.named_parameters()}
    inert = {
        id(p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if "bias" in name or isinstance(module, nn.LayerNorm)
    }
    assert {names[id(p)] for p in plain["params"]} == {names[i] for i in inert}


def test_decay_changes_matrices_only():
    layer = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    nn.init.ones_(layer[0].bias)
    before = copy.deepcopy(layer.state_dict())
    optimizer = torch.optim.AdamW(decay_groups(layer, 0.5), lr=0.1)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = [name for name, value in layer.state_dict().items() if (value != before[name]).any()]
    assert moved == ["0.weight"]
