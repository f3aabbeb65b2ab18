"""Structured pruning: the outputs, the choice of units, widths, ONNX."""

from functools import partial
from itertools import product

import onnxruntime
import pytest
import torch
from torch import nn

from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.compression import compress
from speechbrain_music.models.encoder import BLOCKS, MIXERS, Encoder, make_encoder
from speechbrain_music.models.export import WaveEncoder, load_export, save_export
from speechbrain_music.models.frontend import ConvFrontEnd, LogMel
from speechbrain_music.models.onnx import export_onnx
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.utils.errors import UserError

SIZES = {"num_layers": 2, "d_model": 64, "kernel_size": 5, "frontend_channels": 4}


def make(block="branchformer", mixer="summary", **sizes):
    torch.manual_seed(0)
    encoder = make_encoder(block, mixer, **SIZES | {"ffn_units": 180} | sizes).eval()
    with torch.no_grad():  # biases that are 0 or 1 would hide a unit that is taken for another
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return encoder


def prune(encoder, share):
    return compress(WaveEncoder(LogMel(), encoder, {}), f"prune:{share}")


class NormOfSome(nn.Module):
    """The norm of a gate over some of its units; the others are 0."""

    def __init__(self, norm, keep):
        super().__init__()
        self.norm, self.keep = norm.norm, keep

    def forward(self, x):
        weight, bias = self.norm.weight[self.keep], self.norm.bias[self.keep]
        found = nn.functional.layer_norm(x[..., self.keep], weight.shape, weight, bias)
        return torch.zeros_like(x).masked_scatter(self.keep.expand_as(x), found)


def rows_in(rows, others):
    """Which rows of a matrix are among those of another."""
    return (rows[:, None] == others[None]).all(-1).any(1)


@torch.no_grad()
def silence(block, pruned):
    """Zeroes, in a block of the original, the units that its pruned form does not have."""
    if isinstance(block, BranchformerLayer):
        branch, narrow = block.convolution_branch, pruned.convolution_branch
        keep, gate = (
            rows_in(of, those)
            for of, those in zip(
                branch.pre_channel_proj.weight.chunk(2),
                narrow.pre_channel_proj.weight.chunk(2),
                strict=True,
            )
        )
        assert torch.equal(keep, gate)
        branch.csgu.norm = NormOfSome(branch.csgu.norm, keep)
        branch.post_channel_proj.weight[:, ~keep] = 0
        kept = [keep]
    else:
        kept = []
        for name in ("ffn_module1", "ffn_module2"):
            ffn, narrow = getattr(block, name)[1].ffn, getattr(pruned, name)[1].ffn
            keep = rows_in(ffn[0].weight, narrow[0].weight)
            ffn[3].weight[:, ~keep] = 0
            kept.append(keep)
    if not isinstance(block.mixer, SummaryMixing):
        return kept
    mixing, narrow, groups = block.mixer, pruned.mixer, block.mixer.nhead
    merge = mixing.merge.weight.view(len(mixing.merge.weight), 2, groups, -1)
    for half, mlp, short in ((0, mixing.f, narrow.f), (1, mixing.s, narrow.s)):
        for group in range(groups):
            inputs = torch.ones(mlp[0].weight.shape[1], dtype=torch.bool)
            for layer, thin in zip(mlp[::2], short[::2], strict=True):
                layer.weight[group, ~inputs] = 0
                inputs = rows_in(layer.weight[group, inputs].T, thin.weight[group].T)
                kept.append(inputs)
            merge[:, half, group, ~inputs] = 0
    return kept


@pytest.mark.parametrize("share", [0.25, 0.5, 0.99])
@pytest.mark.parametrize("block, mixer", list(product(BLOCKS, MIXERS)))
@torch.no_grad()
def test_outputs_are_those_with_units_at_zero(block, mixer, share):
    encoder = make(block, mixer)
    pruned = prune(encoder, share)
    assert not pruned.training and encoder.config == make(block, mixer).config
    inputs = torch.randn(2, 80, 128), torch.tensor([20, 13])
    before = encoder(*inputs)[0]
    for layer, narrow in zip(encoder.layers, pruned.layers, strict=True):
        for keep in silence(layer, narrow):
            assert keep.sum() == max(1, len(keep) - round(len(keep) * share))
    expected, found = encoder(*inputs)[1], pruned(*inputs)[1]
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found[-1], before, atol=1e-3)


@torch.no_grad()
def test_hidden_layers_of_mixing(tmp_path):
    """Of several hidden layers each loses its share; the export has their widths."""
    config = make().config
    config["block"]["mixer"] |= {"hidden": [32, 48], "out_features": 40, "nhead": 2}
    encoder = Encoder.from_config(config).eval()
    pruned = prune(encoder, 0.25)
    block = pruned.config["block"]
    assert block["mixer"]["hidden"] == [24, 36] and block["mixer"]["out_features"] == 30
    assert block["ffn_units"] == 136  # of 90 pairs 68 are left
    for layer, narrow in zip(encoder.layers, pruned.layers, strict=True):
        silence(layer, narrow)
    mel = torch.randn(1, 40, 128)
    torch.testing.assert_close(pruned(mel)[0], encoder(mel)[0], rtol=1e-5, atol=1e-5)
    save_export(tmp_path / "pruned", pruned, LogMel())
    assert load_export(tmp_path / "pruned").encoder.config == pruned.config


@pytest.mark.parametrize("block", BLOCKS)
@torch.no_grad()
def test_the_weakest_unit_is_removed(block):
    """Weak in the weights that come in and go out, whatever its bias is."""
    encoder, weak = make(block, ffn_units=20), 3
    layer = encoder.layers[1]
    if block == "branchformer":
        branch = layer.convolution_branch
        first, last = branch.pre_channel_proj, branch.post_channel_proj
        first.weight.view(2, 10, 64)[:, weak] *= 1e-3
        branch.csgu.conv.conv.weight[weak] *= 1e-3
    else:
        first, last = layer.ffn_module2[1].ffn[0], layer.ffn_module2[1].ffn[3]
        first.weight[weak] *= 1e-3
    last.weight[:, weak] *= 1e-3
    last.weight[:, 5] *= 1e-3  # of a unit whose inputs are strong
    first.bias[weak] = 100
    expected = [unit for unit in range(last.weight.shape[1]) if unit != weak]
    narrow = prune(encoder, 0.001).layers[1]  # at least one
    if block == "branchformer":
        found = narrow.convolution_branch.post_channel_proj.weight
    else:
        found = narrow.ffn_module2[1].ffn[3].weight
    assert torch.equal(found, last.weight[:, expected])


@torch.no_grad()
def test_a_pruned_encoder_trains_and_becomes_onnx(tmp_path):
    model = WaveEncoder(LogMel(), prune(make(), 0.5), {}).eval()
    export_onnx(model, tmp_path / "model.onnx", "mel")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    mel = torch.randn(1, 40, 128)
    (found,) = session.run(["hidden"], {"mel": mel.transpose(1, 2).numpy()})
    expected = torch.stack(model.encoder(mel)[1])
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    with torch.enable_grad():
        model.encoder(mel)[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


class OwnMixer(nn.Linear):
    """A mixer of one's own, which stays as it is."""

    def __init__(self, d_model: int):
        super().__init__(d_model, d_model)

    def forward(self, x, padding_mask=None):
        return super().forward(x)


@torch.no_grad()
def test_a_mixer_of_ones_own_stays():
    frontend = partial(ConvFrontEnd, 32, 2)
    block = partial(BranchformerLayer, 32, partial(OwnMixer, 32), ffn_units=40, kernel_size=5)
    encoder = Encoder(frontend, block, num_layers=1, d_model=32)
    pruned = prune(encoder, 0.5)
    assert pruned.config["block"]["ffn_units"] == 20
    mixer, expected = pruned.layers[0].mixer, encoder.layers[0].mixer
    assert type(mixer) is OwnMixer and torch.equal(mixer.weight, expected.weight)


class OwnBlock(BranchformerLayer):
    """A block that may be anything inside."""


def test_blocks_of_ones_own_are_refused():
    encoder = make(num_layers=1)
    encoder.layers[0].__class__ = OwnBlock
    with pytest.raises(UserError, match="prune knows no OwnBlock: choose another method"):
        prune(encoder, 0.5)
