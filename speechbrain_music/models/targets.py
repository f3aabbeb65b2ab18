"""Trained quantizers as targets of masked prediction.

A trained quantizer is a folder of safetensors and JSON, as an export is: loading it runs no code.
"""

import torch
from torch import nn

from speechbrain_music.models.export import build_encoder, load_export
from speechbrain_music.models.frontend import BANDS, STACK
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.models.safe_folder import check_keys, check_whole, read_folder, write_folder
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.nnet.quantizer import check_width
from speechbrain_music.nnet.residual_quantizer import ResidualQuantizer
from speechbrain_music.utils.errors import UserError

KIND = "rvq"  # of quantizers
QUANTIZER = "quantizer"  # the folder, in that of the run that trained it


class Teacher(nn.Module):
    """A hidden state of a frozen encoder: what the quantizer of iterated targets sees.

    `layer` counts from 0, the front-end; each vector is normalised to mean 0 and variance 1.
    `normalize` is the `BandNormalization` of the features that the encoder was trained on.
    """

    def __init__(self, encoder, layer, normalize):
        super().__init__()
        check_whole("layer", layer, encoder.config["num_layers"])
        self.encoder = encoder.eval().requires_grad_(False)
        self.normalize = normalize
        self.config = {"layer": layer, "encoder": encoder.config}
        self.dim = encoder.config["d_model"]

    def train(self, mode=True):
        """Stays in eval mode: tokens of dropped units would be noise."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x, lengths):
        """(B, T, 512) normalised stacked log-mel and (B,) tokens of each item to (B, T, dim)."""
        with full_float32(x.device):
            beyond = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
            mel = x.float().masked_fill(beyond.unsqueeze(-1), 0.0)
            hidden = self.encoder(mel.reshape(len(x), -1, BANDS), lengths)[1][self.config["layer"]]
            return nn.functional.layer_norm(hidden, hidden.shape[-1:])


def load_layer(source):
    """The `Teacher` that "EXPORT:LAYER" names; None for None. UserError as of `load_export`."""
    if source is None:
        return None
    folder, _, layer = str(source).rpartition(":")
    if not folder or not layer.isdecimal():
        raise UserError(f"features_from is {source!r}: write EXPORT:LAYER, such as my/export:3")
    model = load_export(folder)
    try:
        return Teacher(model.encoder, int(layer), model.features.normalize)
    except ValueError as error:
        raise UserError(f"features_from is {source!r}: {error}") from None


def vector_size(teacher):
    """Values of the vectors that are quantized: 512 of log-mel without a teacher."""
    return STACK * BANDS if teacher is None else teacher.dim


class TrainedTargets(nn.Module):
    """A trained quantizer, frozen, with the statistics of the music it was trained on.

    With a `Teacher` it quantizes that encoder's hidden states, of whole items. Its tokens depend on
    the log-mel alone, not on the statistics by which a model's features are normalised: after
    `follow`, these are undone before the quantizer's own are applied. `mean` and `std` are (128,),
    of the features with which the quantizer was trained.
    """

    def __init__(self, quantizer, mean, std, teacher=None):
        super().__init__()
        self.quantizer, self.teacher = quantizer.requires_grad_(False), teacher
        weights = nn.ModuleDict(_modules(quantizer, teacher)).state_dict()
        weights |= {"mean": mean, "std": std}
        # With a hash of the weights, so that equal configs mean equal tokens.
        self.config = _config(quantizer, teacher)
        self.config["weights"] = fingerprint(self.config, weights)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("scale", torch.ones(STACK * BANDS))
        self.register_buffer("shift", torch.zeros(STACK * BANDS))

    @torch.no_grad()
    def follow(self, normalize):
        """Declares that inputs are normalised by a `BandNormalization`, as it is now."""
        self.scale.copy_((normalize.std / self.std).repeat(STACK))
        self.shift.copy_(((normalize.mean - self.mean) / self.std).repeat(STACK))

    @torch.no_grad()
    def forward(self, x, lengths=None):
        """Tokens as the quantizer gives them, of (B, T, 512) normalised stacked log-mel.

        `lengths` are (B,) tokens of each item, for a teacher.
        """
        check_width(x, len(self.scale))  # a width of 1 would be broadcast
        x = x.float() * self.scale + self.shift
        return self.quantizer(x if self.teacher is None else self.teacher(x, lengths))


def choose_targets(targets, quantizer):
    """The trained quantizer in the folder `targets`, or `quantizer` if that is None.

    Raises what `load_targets` does.
    """
    return quantizer if targets is None else load_targets(targets)


def save_targets(folder, quantizer, features, teacher=None, **metadata):
    """Writes a quantizer and its `LogMel` features as `model.safetensors` and `config.json`.

    With the teacher's weights, if there is one. Both files are written or none; `metadata` are
    plain values to keep with the weights.
    """
    config, modules = _config(quantizer, teacher), _modules(quantizer, teacher)
    write_folder(folder, features, QUANTIZER, config, modules, **metadata)


def _modules(quantizer, teacher):
    return {"quantizer": quantizer} | ({"teacher": teacher.encoder} if teacher else {})


def _config(quantizer, teacher):
    return {"kind": KIND, **quantizer.config} | ({"teacher": teacher.config} if teacher else {})


def load_targets(folder):
    """Reads a trained quantizer as `TrainedTargets`; no code runs from it.

    Raises UserError for the folder of a run, and if a file is missing or damaged, of another
    format version, made with other features, or with weights that do not fit the config.
    """
    config, modules, features = read_folder(folder, QUANTIZER, _build)
    statistics, teacher = features.normalize, None
    if "teacher" in modules:
        layer = config[QUANTIZER]["teacher"]["layer"]
        teacher = Teacher(modules["teacher"], layer, statistics)
    return TrainedTargets(modules["quantizer"], statistics.mean, statistics.std, teacher)


def _build(config):
    """The modules of a configuration of anyone, whose weights take no memory, or an error."""
    if not isinstance(config, dict) or config.get("kind") != KIND:
        raise TypeError(f"it needs the kind {KIND}")
    arguments = {key: value for key, value in config.items() if key not in ("kind", "teacher")}
    size, modules = STACK * BANDS, {}
    if teacher := config.get("teacher"):
        check_keys(teacher, ("layer", "encoder"))
        modules["teacher"] = build_encoder(teacher.get("encoder", {}))
        check_whole("layer", teacher.get("layer"), teacher["encoder"]["num_layers"])
        size = teacher["encoder"]["d_model"]
    if arguments.get("input_dim") != size:
        raise ValueError(f"input_dim is {arguments.get('input_dim')!r:.100}: it must be {size}")
    if not all(type(value) is int and value > 0 for value in arguments.values()):
        raise ValueError(f"{arguments!r:.200} has a size that is no whole number above 0")
    with torch.device("meta"):
        modules["quantizer"] = ResidualQuantizer(**arguments)
    if modules["quantizer"].config != arguments:
        raise ValueError(f"{arguments!r:.200} is not all of {modules['quantizer'].config!r:.200}")
    return modules
