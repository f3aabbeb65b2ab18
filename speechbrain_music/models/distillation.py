"""Distillation: a teacher, a student, and maps from one's hidden states to the other's."""

from copy import deepcopy

from torch import nn

from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.export import WaveEncoder, load_export
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.utils.errors import UserError


def load_teacher(folder):
    """The `ExportEncoder` of a folder, or "shipped". UserError as of `load_export`."""
    if folder is None:
        raise UserError("teacher is not set: pass --teacher with the folder of an export")
    return ExportEncoder(load_export(folder), str(folder))


def make_student(folder, features, encoder):
    """The `WaveEncoder` to train: that of an export, or of new parts if the folder is None.

    The encoder of an export takes `gradient_checkpointing` from the new one.
    Raises UserError for int8 weights, and as `load_export`.
    """
    if folder is None:
        return WaveEncoder(features, encoder, {})
    model = load_export(folder)
    if model.encoder.int8:
        raise UserError(f"student {folder} has int8 weights: pass the original of this encoder")
    model.encoder.gradient_checkpointing = encoder.gradient_checkpointing
    return model


def make_transplant(teacher):
    """A copy of an `ExportEncoder`'s model, with new SummaryMixing in place of its attention.

    Only the mixers require gradients. Raises UserError for an encoder of another mixer, or of int8.
    """
    config = teacher.model.encoder.config
    block, mixer = config["block"], config["block"].get("mixer") or {}
    is_attention = mixer.get("class") in ("RelativeAttention", "RotaryAttention")
    if not is_attention or teacher.model.encoder.int8:
        raise UserError(
            f"{teacher.name} has no self-attention to replace: pass the export of a brn_att or "
            "cnf_att encoder, not of int8 weights"
        )
    mixer = {key: mixer[key] for key in ("d_model", "nhead", "dropout")}
    mixer["class"] = SummaryMixing.__name__
    encoder = Encoder.from_config(config | {"block": block | {"mixer": mixer}})
    weights = teacher.model.encoder.state_dict()
    copied = {name: value for name, value in weights.items() if ".mixer." not in name}
    encoder.load_state_dict(copied, strict=False)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name not in copied)
    return WaveEncoder(deepcopy(teacher.model.features), encoder, {})


class LayerHeads(nn.Module):
    """From hidden states of a student to predictions of some of a teacher's.

    `layers` count from 0, the teacher's front-end; each is predicted by a linear map of the
    student's output. If the widths are equal, the maps begin as the identity: the student may be
    the teacher without some of its weights. None: all layers but the front-end, each predicted by
    the student's own, normalised.

    Raises UserError for a layer that the teacher does not have.
    """

    def __init__(self, encoder, teacher, layers=None):
        super().__init__()
        d_model, last = encoder.config["d_model"], len(teacher.layers) - 1
        if layers and max(layers) > last:
            raise UserError(f"teacher_layers is {layers}: {teacher.name} has layers 0 to {last}")
        self.layers = sorted(set(layers or range(1, last + 1)))
        self.maps = nn.ModuleList(nn.Linear(d_model, teacher.width) for _ in self.layers if layers)
        for head in self.maps if d_model == teacher.width else ():
            nn.init.eye_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, hidden):
        """A list of (B, T, d_model) to one of (B, T, d), an entry for each of `layers`."""
        if self.maps:
            return [head(hidden[-1]) for head in self.maps]
        return [nn.functional.layer_norm(hidden[n], hidden[n].shape[-1:]) for n in self.layers]
