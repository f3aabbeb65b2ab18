"""Trained quantizers as targets of masked prediction.

A trained quantizer is a folder of safetensors and JSON, as an export is: loading it runs no code.
"""

from pathlib import Path

import torch
from torch import nn

from speechbrain_music.models.frontend import BANDS, STACK
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.models.safe_folder import (
    ExportError,
    check_keys,
    on_meta_device,
    read_folder,
    state_shapes,
    write_folder,
)
from speechbrain_music.nnet.residual_quantizer import ResidualQuantizer
from speechbrain_music.utils.errors import UserError

KIND = "rvq"  # of quantizers
ARGUMENTS = ("input_dim", "codebook_dim", "codebook_size", "num_codebooks")
PREFIX = "quantizer."
QUANTIZER = "quantizer"  # the folder, in that of the run that trained it


class TargetsError(UserError):
    """Targets that a run cannot use; the message names the folder, the fault and the remedy."""


class TrainedTargets(nn.Module):
    """A trained quantizer, frozen, with the statistics of the music it was trained on.

    Its tokens depend on the log-mel alone, not on the statistics by which a model's features are
    normalised: after `follow`, these are undone before the quantizer's own are applied. `mean` and
    `std` are (128,), of the features with which the quantizer was trained.
    """

    def __init__(self, quantizer, mean, std):
        super().__init__()
        self.quantizer = quantizer.requires_grad_(False)
        weights = quantizer.state_dict() | {"mean": mean, "std": std}
        # With a hash of the weights, so that equal configs mean equal tokens.
        self.config = {"kind": KIND, **quantizer.config}
        self.config["weights"] = fingerprint(self.config, weights)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("scale", torch.ones(STACK * BANDS))
        self.register_buffer("shift", torch.zeros(STACK * BANDS))

    @torch.no_grad()
    def follow(self, normalize):
        """Declares that inputs are normalised by a `BandNormalization`, as it is now.

        Raises TargetsError for "instance", which cannot be undone.
        """
        if normalize.kind == "instance":
            raise TargetsError(
                "normalization is 'instance', from which a trained quantizer cannot recover "
                "the log-mel: choose band, scalar or none, or leave targets out"
            )
        self.scale.copy_((normalize.std / self.std).repeat(STACK))
        self.shift.copy_(((normalize.mean - self.mean) / self.std).repeat(STACK))

    @torch.no_grad()
    def forward(self, x):
        """Tokens as the quantizer gives them, of (B, T, 512) normalised stacked log-mel."""
        if x.shape[-1] == len(self.scale):  # else the quantizer refuses it
            x = x.float() * self.scale + self.shift
        return self.quantizer(x)


def choose_targets(targets, quantizer):
    """The trained quantizer in the folder `targets`, or `quantizer` if that is None.

    Raises TargetsError if there is no such folder, else what `load_targets` does.
    """
    if targets is None:
        return quantizer
    if Path(targets).is_dir():
        return load_targets(targets)
    raise TargetsError(
        f"targets is {targets!r}: pass the folder of a quantizer that recipes/tokenizer has "
        "trained, or leave it out"
    )


def save_targets(folder, quantizer, features, **metadata):
    """Writes a quantizer and its `LogMel` features as `model.safetensors` and `config.json`.

    The folder is written whole or not at all; `metadata` are plain values to keep with the weights.
    """
    weights = {f"{PREFIX}{name}": value for name, value in quantizer.state_dict().items()}
    config = {"kind": KIND, **quantizer.config}
    write_folder(folder, features, QUANTIZER, config, weights, **metadata)


def load_targets(folder):
    """Reads a trained quantizer as `TrainedTargets`; no code runs from it.

    Raises ExportError for the folder of a run, and if a file is missing or damaged, of another
    format version, made with other features, or with weights that do not fit the config.
    """
    folder = Path(folder)

    def expected_shapes(config, _):
        shapes = state_shapes(_without_memory(config))
        return {f"{PREFIX}{name}": shape for name, shape in shapes.items()}

    config, weights, features = read_folder(folder, QUANTIZER, expected_shapes)
    if features.normalize.kind == "instance":
        raise ExportError(f"{folder} was trained on normalization 'instance': train on another")
    quantizer = _without_memory(config[QUANTIZER])
    weights = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    quantizer.load_state_dict(weights, assign=True)
    statistics = features.normalize
    return TrainedTargets(quantizer, statistics.mean, statistics.std)


def _without_memory(config):
    """A quantizer of this configuration whose weights take no memory, or an error."""
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise TypeError(f"it needs the kind {KIND}")
    for name in ARGUMENTS:
        if name not in config:
            raise ValueError(f"{name} is missing")
    if config["input_dim"] != STACK * BANDS:
        raise ValueError(f"input_dim is {config['input_dim']!r:.100}: it must be {STACK * BANDS}")
    quantizer = on_meta_device(ResidualQuantizer, **{name: config[name] for name in ARGUMENTS})
    check_keys(config, {"kind", *quantizer.config})
    if {"kind": KIND, **quantizer.config} != config:
        raise ValueError(f"{config!r:.200} contradicts itself: {quantizer.config}")
    return quantizer
