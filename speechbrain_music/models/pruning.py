"""Structured pruning of a trained encoder: in each block the weakest hidden units are removed."""

import torch

from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.parts import BLOCKS
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.utils.errors import UserError


def prune(encoder, share):
    """Return a narrower copy of an encoder, without this share (0 to 1) of its hidden units.

    Units are removed from the hidden layers of feed-forward modules; from a cgMLP in pairs, a value
    and its gate; and from the hidden and output layers of SummaryMixing, as many of each group.
    d_model, attention, whose heads have d_model / nhead values, and other mixers stay as they are.
    In every layer the same share is removed: the units whose weights, those that come in and those
    that go out, have the least L2 norm together. This is the criterion of groups of coupled weights
    of Fang et al., "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900; it needs no data.

    The outputs are those of the original with these units at 0. The norm of a cgMLP's gate is over
    the units that are left.

    Raises UserError for blocks of another class, and for a share that removes nothing.
    """
    block = encoder.layers[0]
    if type(block) not in BLOCKS.values():
        names = " and ".join(known.__name__ for known in BLOCKS.values())
        raise UserError(
            f"the blocks are {type(block).__name__}, prune knows {names}: choose another method"
        )
    kept = {}
    for layer in encoder.layers:
        kept |= _kept_by_block(layer, share)
        if isinstance(layer.mixer, SummaryMixing):
            kept |= _kept_by_mixing(layer.mixer, share)
    if all(mask.all() for mask in kept.values()):
        raise UserError(f"prune:{share:g} removes none of the few hidden units: raise the share")
    config = encoder.config
    config["block"]["ffn_units"] = int(kept[_first_layer(block).bias].sum())
    if isinstance(block.mixer, SummaryMixing):
        *hidden, out = [int(kept[layer.bias].sum()) for layer in block.mixer.f[::2]]
        config["block"]["mixer"] |= {"hidden": hidden, "out_features": out}
    with torch.device("meta"):
        pruned = Encoder.from_config(config, {type(module) for module in encoder.modules()})
    weights, empty = {}, pruned.state_dict()
    for name, value in encoder.state_dict(keep_vars=True).items():
        mask = kept.get(value, torch.ones((), dtype=torch.bool)).expand_as(value)
        weights[name] = value.detach()[mask].view_as(empty[name])
    pruned.load_state_dict(weights, assign=True)
    return pruned.train(encoder.training)


def _first_layer(block):
    if isinstance(block, BranchformerLayer):
        return block.convolution_branch.pre_channel_proj
    return block.ffn_module1[1].ffn[0]


# Masks of parameters, True for what is kept; they broadcast to the parameter.


def _kept_by_block(block, share):
    """Masks of the cgMLP of a Branchformer block, or of a Conformer's feed-forward modules."""
    if not isinstance(block, BranchformerLayer):
        kept = {}
        for module in (block.ffn_module1, block.ffn_module2):
            first, last = module[1].ffn[0], module[1].ffn[3]
            keep = _strongest(_squares(first.weight, 1) + _squares(last.weight, 0), share)
            kept |= {first.weight: keep[:, None], first.bias: keep, last.weight: keep}
        return kept
    branch = block.convolution_branch
    first, last = branch.pre_channel_proj, branch.post_channel_proj
    norm, conv = branch.csgu.norm.norm, branch.csgu.conv.conv
    values_and_gates = _squares(first.weight, 1).view(2, -1).sum(0)
    squares = values_and_gates + _squares(conv.weight, (1, 2)) + _squares(last.weight, 0)
    keep = _strongest(squares, share)
    pairs = keep.repeat(2)
    kept = {first.weight: pairs[:, None], first.bias: pairs, last.weight: keep}
    kept |= {norm.weight: keep, norm.bias: keep, conv.bias: keep}
    return kept | {conv.weight: keep[:, None, None]}


def _kept_by_mixing(mixing, share):
    """Masks of the layers of f and s, (groups, in, out), and of the merge of their outputs."""
    kept, outputs = {}, []
    for mlp, merge in zip((mixing.f, mixing.s), mixing.merge.weight.chunk(2, dim=1), strict=True):
        layers, kept_inputs = mlp[::2], torch.ones(1, 1, 1, dtype=torch.bool)
        by_group = merge.T.unflatten(0, (mixing.nhead, -1))  # (groups, in, out), too
        following = [*(layer.weight for layer in layers[1:]), by_group]
        for layer, after in zip(layers, following, strict=True):
            keep = _strongest(_squares(layer.weight, 1) + _squares(after, 2), share)
            kept |= {layer.weight: kept_inputs & keep[:, None], layer.bias: keep.flatten()}
            kept_inputs = keep[:, :, None]
        outputs.append(keep.flatten())
    return kept | {mixing.merge.weight: torch.cat(outputs)}


def _squares(weight, dims):
    return weight.detach().square().sum(dims)


def _strongest(squares, share):
    """(..., units) squared norms to a mask without the share of the least, but for one unit."""
    left = max(1, round(squares.shape[-1] * (1 - share)))
    return torch.zeros_like(squares, dtype=torch.bool).scatter(-1, squares.topk(left).indices, True)
