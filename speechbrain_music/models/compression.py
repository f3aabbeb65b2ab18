"""Compression of a trained encoder: int8 or bfloat16 weights, or its first blocks alone."""

import re
from copy import deepcopy

import torch

from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.utils.errors import UserError


def compress(model, method):
    """Return a compressed copy of the encoder of a `WaveEncoder`, for `save_export`.

    `method` is "int8" (weights of linear layers, see `nnet.int8`), "bf16" (all weights, which are
    loaded as float32) or "layers:K" (the front-end and the first K blocks: hidden states as before,
    but for the last one, which goes through the final normalisation). Raises UserError for another
    method, a K that is not from 1 to the blocks less one, or a model that is compressed already.

    Example
    -------
    >>> from speechbrain_music.models.export import SHIPPED, load_export
    >>> encoder = compress(load_export(SHIPPED), "layers:2")
    >>> len(encoder.layers)
    2
    """
    if found := describe_compression(model):
        raise UserError(
            f"the encoder is compressed already ({found}): compress the original, of that "
            "fingerprint, instead"
        )
    encoder, kept = deepcopy(model.encoder), re.fullmatch(r"layers:(\d{1,9})", method)
    if method == "int8":
        return encoder.quantize()
    if method == "bf16":
        return encoder.to(torch.bfloat16)
    most = len(encoder.layers) - 1
    if not kept or not 1 <= int(kept[1]) <= most:
        choice = "layers:1" if most == 1 else f"layers:K with K from 1 to {most}"
        raise UserError(
            f"method is {method!r:.50}: choose int8, bf16" + (f" or {choice}" if most > 0 else "")
        )
    return encoder.truncate(int(kept[1]))


def compression_metadata(model, method, command):
    """What an export of a compressed encoder says: that of the original, and what was done."""
    identity = ExportEncoder(model, "").identity
    done = {"method": method, "command": command, "source": identity}
    return model.config.get("training", {}) | {"compression": done}


def describe_compression(model):
    """What was done to a `WaveEncoder`, as a text; empty for one that is not compressed."""
    try:
        done = model.config["training"]["compression"]
        return "{method}, by `{command}`, of the fingerprint {source}".format(**done)
    except (LookupError, TypeError):
        return model.encoder.quantization or ""
