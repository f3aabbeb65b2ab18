"""Compression of a trained encoder: int8 or bfloat16 weights, fewer blocks, fewer hidden units."""

import re
from copy import deepcopy

import torch

from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.export import build_encoder
from speechbrain_music.models.parts import BLOCKS
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.utils.errors import UserError


def compress(model, method):
    """Return a compressed copy of the encoder of a `WaveEncoder`, for `save_export`.

    `method` is "int8" (weights of linear layers, see `nnet.int8`), "bf16" (all weights, which are
    loaded as float32), "layers:K" (the front-end and the first K blocks: hidden states as before,
    but for the last one, which goes through the final normalisation) or "prune:SHARE" (without that
    share, at least one, of the units of each hidden layer).

    Units are pruned in feed-forward modules; in cgMLPs, a value and its gate together; and in the
    hidden and output layers of SummaryMixing, as many of each group: those whose weights, in and
    out, have the least L2 norm together (the criterion for coupled weights of Fang et al.,
    "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900). The outputs are those of the
    original with these units at 0, but the norm of a cgMLP's gate is over the units that are left.

    Raises UserError for another method, a K that is not from 1 to the blocks less one, a SHARE that
    is not between 0 and 1, blocks that cannot be pruned, or a model that is compressed already.
    """
    training = model.config.get("training")
    if model.encoder.int8 or (isinstance(training, dict) and "compression" in training):
        raise UserError("the encoder is compressed already: compress the original (see its card)")
    encoder = deepcopy(model.encoder)
    if method == "int8":
        return encoder.quantize()
    if method == "bf16":
        return encoder.to(torch.bfloat16)
    share = re.fullmatch(r"prune:(0?\.\d{1,9})", method)
    if share and float(share[1]) > 0:
        return _prune(encoder, float(share[1]))
    kept, blocks = re.fullmatch(r"layers:(\d{1,9})", method), len(encoder.layers)
    if not kept or not 1 <= int(kept[1]) < blocks:
        raise UserError(
            f"method is {method!r:.50}: choose int8, bf16, layers:K with K from 1 to less than the "
            f"{blocks} blocks of the encoder, or prune:SHARE with SHARE between 0 and 1"
        )
    encoder.layers = encoder.layers[: int(kept[1])]
    return encoder


@torch.no_grad()
def _prune(encoder, share):
    """Narrow the layers of an encoder, and return one of their widths with their weights."""
    block = encoder.layers[0]
    if type(block) not in BLOCKS.values():
        raise UserError(f"prune knows no {type(block).__name__}: choose another method")
    for layer in encoder.layers:
        for hidden in _hidden_layers(layer):
            _narrow(*hidden, share)
        if isinstance(layer.mixer, SummaryMixing):
            _narrow_mixing(layer.mixer, share)
    config = encoder.config
    config["block"]["ffn_units"] = len(next(_hidden_layers(block))[0].bias)
    if isinstance(block.mixer, SummaryMixing):
        *hidden, out = [len(layer.bias) for layer in block.mixer.f[::2]]
        config["block"]["mixer"] |= {"hidden": hidden, "out_features": out}
    pruned = build_encoder(config, {type(module) for module in encoder.modules()})
    pruned.load_state_dict(encoder.state_dict(), assign=True)
    return pruned.train(encoder.training)


def _hidden_layers(block):
    """The layer before each hidden layer, the parameters of its units, and the layer after it."""
    if isinstance(block, BranchformerLayer):
        branch = block.convolution_branch
        yield branch.pre_channel_proj, list(branch.csgu.parameters()), branch.post_channel_proj
    else:
        for module in (block.ffn_module1, block.ffn_module2):
            yield module[1].ffn[0], [], module[1].ffn[3]


def _narrow(before, between, after, share):
    parts = before.out_features // after.in_features  # 2 where a unit is a value and its gate
    squares = before.weight.square().sum(1).view(parts, -1).sum(0) + after.weight.square().sum(0)
    squares += sum(kernel.square().sum((1, 2)) for kernel in between if kernel.ndim == 3)
    keep = _strongest(squares, share)
    for parameter in (before.weight, before.bias):
        parameter.data = parameter[keep.repeat(parts)]
    for parameter in between:
        parameter.data = parameter[keep]
    after.weight.data = after.weight[:, keep]


def _narrow_mixing(mixing, share):
    outputs = []
    for mlp, merge in zip((mixing.f, mixing.s), mixing.merge.weight.chunk(2, dim=1), strict=True):
        merge = merge.T.unflatten(0, (mixing.nhead, -1))  # (groups, in, out), as of the layers
        following = [*(layer.weight for layer in mlp[2::2]), merge]
        for layer, after in zip(mlp[::2], following, strict=True):
            keep = _strongest(layer.weight.square().sum(1) + after.square().sum(2), share)
            layer.weight.data = layer.weight.mT[keep].unflatten(0, (mixing.nhead, -1)).mT
            layer.bias.data = layer.bias[keep.flatten()]
            after.data = after[keep].unflatten(0, (mixing.nhead, -1))
        outputs.append(keep.flatten())
    mixing.merge.weight.data = mixing.merge.weight[:, torch.cat(outputs)]


def _strongest(squares, share):
    """(..., units) squared norms to a mask without the share of the least; one unit is left."""
    left = max(1, squares.shape[-1] - max(1, round(squares.shape[-1] * share)))
    return torch.zeros_like(squares, dtype=torch.bool).scatter(-1, squares.topk(left).indices, True)
