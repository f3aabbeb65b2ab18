"""Compression of a trained encoder: int8 or bfloat16 weights, fewer blocks, fewer hidden units."""

import re
from copy import deepcopy

import torch

from speechbrain_music.models.pruning import prune
from speechbrain_music.utils.errors import UserError


def compress(model, method):
    """Return a compressed copy of the encoder of a `WaveEncoder`, for `save_export`.

    `method` is "int8" (weights of linear layers, see `nnet.int8`), "bf16" (all weights, which are
    loaded as float32), "layers:K" (the front-end and the first K blocks: hidden states as before,
    but for the last one, which goes through the final normalisation) or "prune:SHARE" (see
    `pruning.prune`). Raises UserError for another method, a K that is not from 1 to the blocks less
    one, a SHARE that is not between 0 and 1, or a model that is compressed already.
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
        return prune(encoder, float(share[1]))
    kept, blocks = re.fullmatch(r"layers:(\d{1,9})", method), len(encoder.layers)
    if not kept or not 1 <= int(kept[1]) < blocks:
        raise UserError(
            f"method is {method!r:.50}: choose int8, bf16, layers:K with K from 1 to less than the "
            f"{blocks} blocks of the encoder, or prune:SHARE with SHARE between 0 and 1"
        )
    encoder.layers = encoder.layers[: int(kept[1])]
    return encoder
