"""SummaryMixing equals its equations."""

import math

import pytest
import torch

from speechbrain_music.nnet.summary_mixing import SummaryMixing


def gelu(value):
    return 0.5 * value * (1 + math.erf(value / math.sqrt(2)))


def grouped_mlp(vector, layers, nhead):
    """One time step through layers of (weight (nhead, in/nhead, out/nhead), bias (out,))."""
    for weight, bias in layers:
        fan_in, fan_out = weight.shape[1:]
        vector = [
            gelu(
                sum(weight[h, i, o].item() * vector[h * fan_in + i] for i in range(fan_in))
                + bias[h * fan_out + o].item()
            )
            for h in range(nhead)
            for o in range(fan_out)
        ]
    return vector


def brute_force(mixing, item, nhead, depth):
    """The equations on a list of time steps, from the parameters in their documented order."""
    parameters = list(mixing.parameters())
    pairs = list(zip(parameters[0::2], parameters[1::2], strict=True))
    f, s, (merge, bias) = pairs[:depth], pairs[depth : 2 * depth], pairs[-1]
    local = [grouped_mlp(x, f, nhead) for x in item]
    summaries = [grouped_mlp(x, s, nhead) for x in item]
    mean = [sum(column) / len(item) for column in zip(*summaries, strict=True)]
    return [
        [
            gelu(sum(w * v for w, v in zip(row, step + mean, strict=True)) + b)
            for row, b in zip(merge.tolist(), bias.tolist(), strict=True)
        ]
        for step in local
    ]


def randomised(*args, **options):
    torch.manual_seed(0)
    mixing = SummaryMixing(*args, **options).double()
    for parameter in mixing.parameters():
        parameter.data.normal_()
    return mixing


@pytest.mark.parametrize("nhead", [1, 4])
@pytest.mark.parametrize("hidden, out_features", [(None, None), ((), 4), ((8, 12), 20)])
def test_equals_equations(nhead, hidden, out_features):
    mixing = randomised(8, nhead, hidden, out_features)
    depth = 1 + len((8,) if hidden is None else hidden)
    assert len(list(mixing.parameters())) == 4 * depth + 2
    x, lengths = torch.randn(2, 5, 8, dtype=torch.float64), [5, 3]
    mask = torch.arange(5) >= torch.tensor(lengths).unsqueeze(1)
    result = mixing(x, mask)
    for row, length in enumerate(lengths):
        expected = brute_force(mixing, x[row, :length].tolist(), nhead, depth)
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(result[row, :length], expected, atol=1e-11, rtol=1e-11)


def test_initial_values():
    torch.manual_seed(0)
    mixing = SummaryMixing(64, 4)
    assert not any(p.any() for name, p in mixing.named_parameters() if name.endswith("bias"))
    weight = mixing.f[0].weight
    assert 0.9 / 4 < weight.abs().max() <= 1 / 4  # 1 / sqrt(16 inputs of a group)


@torch.no_grad()
def test_padding_may_be_nan():
    mixing = randomised(8)
    x = torch.randn(3, 6, 8, dtype=torch.float64)
    mask = torch.arange(6) >= torch.tensor([6, 2, 0]).unsqueeze(1)
    expected = mixing(x, mask)
    poisoned = mixing(x.masked_fill(mask.unsqueeze(-1), math.nan), mask)
    assert torch.equal(poisoned[~mask], expected[~mask])
    # An item that is all padding has a summary of zeros: what is left is f alone.
    frame_weight = mixing.merge.weight[:, :8]
    local = mixing.f(x[2].view(6, 4, 2).transpose(0, 1)).transpose(0, 1).flatten(1)
    alone = torch.nn.functional.gelu(local @ frame_weight.T + mixing.merge.bias)
    torch.testing.assert_close(expected[2], alone)


@torch.no_grad()
def test_summary_dropout_is_drawn_once_per_item():
    mixing = randomised(64, dropout=0.5)
    mixing.merge.weight[:, :64] = 0  # only the summary remains
    out = mixing(torch.randn(1, 7, 64, dtype=torch.float64).expand(2, -1, -1))
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert not torch.allclose(out[0], out[1])
    mixing.merge.weight[:, 64:] = 0
    mixing.merge.weight[:, :64].normal_()  # only f remains
    same = torch.randn(1, 1, 64, dtype=torch.float64).expand(1, 7, -1)
    assert not torch.allclose(mixing(same)[:, 0], mixing(same)[:, 1])


def test_long_mean_in_bfloat16():
    # Summed in bfloat16 a mean over thousands of steps loses its last digits or stands still.
    mixing = SummaryMixing(8)
    s = torch.full((4, 1, 5000, 2), 1.0, dtype=torch.bfloat16)
    for mask in (None, torch.arange(5000).unsqueeze(0) >= 4999):
        mean = mixing._mean(s, mask)
        assert mean.dtype == torch.float32 and (mean == 1).all()


@pytest.mark.parametrize(
    "widths, fault",
    [
        ({"d_model": 10}, "10"),
        ({"d_model": 8, "hidden": (8, 6)}, "6"),
        ({"d_model": 8, "hidden": (0,)}, "0"),
        ({"d_model": 8, "out_features": 9}, "9"),
    ],
)
def test_widths_must_divide(widths, fault):
    with pytest.raises(ValueError, match=rf"width {fault} does not divide by nhead 4.*multiple"):
        SummaryMixing(**widths)
