"""An encoder as an ONNX graph, for programs without torch; needs the extra [onnx]."""

import json
import logging
import warnings
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn

from speechbrain_music.models.frontend import BANDS, STACK
from speechbrain_music.models.safe_folder import FORMAT_VERSION, features_config
from speechbrain_music.utils.atomic import atomic_file
from speechbrain_music.utils.errors import UserError

# SpeechBrain's relative positions are a table that Python makes for one T.
MIXERS = ("SummaryMixing", "RotaryAttention")
TRACED_TOKENS = 24  # the graph holds for any number


class _HiddenStates(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, mel):
        _, hidden, _ = self.encoder(mel.transpose(1, 2))
        return torch.stack(hidden)


def export_onnx(model, path):
    """Write one ONNX file, whole or not at all: from normalised log-mel to all hidden states.

    The graph has one input, `mel`, float32 (1, 128, 4 T), and one output, `hidden`, float32
    (L + 1, 1, T, d_model), for any T from 1 on: the front-end's state, then each block's, the last
    one normalised as in `Encoder.forward`. onnxruntime gives what torch gives, to 1e-4 of the
    largest value. Nothing is padded: one item, of whole tokens of 40 ms.

    With torch, `LogMel` computes the input: `mel, _ = model.features(wave, lengths)`, then
    `mel.transpose(1, 2)`; docs/inference.md says how without. The file's metadata has all that is
    needed to use it alone, each as JSON: "format_version", "features" (sample_rate, n_fft, hop,
    bands, stack, floor), "mean" and "std" (128 each, in nats), "encoder" (its configuration),
    "training" (what its export says).

    `model` is a `WaveEncoder` on any device, and is not changed; a file at `path` is replaced.
    Raises UserError if the mixer is neither SummaryMixing nor RotaryAttention, or [onnx] is not
    installed.
    """
    mixer = model.encoder.config["block"]["mixer"]["class"]
    if mixer not in MIXERS:
        raise UserError(
            f"an encoder with the mixer {mixer} cannot become ONNX: export one with "
            f"{' or '.join(MIXERS)} (brn_sum and cnf_sum have the first)"
        )
    graph = _HiddenStates(deepcopy(model.encoder)).cpu().float().eval()
    tokens = torch.export.Dim("T", min=1)
    try:
        from onnxscript import ir

        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (torch.zeros(1, BANDS, STACK * TRACED_TOKENS),),
                dynamo=True,
                dynamic_shapes={"mel": {2: STACK * tokens}},
                input_names=["mel"],
                output_names=["hidden"],
                verbose=False,
            )
    except ImportError as error:
        remedy = "pip install -e '.[onnx]' in the clone"
        raise UserError(f"an export to ONNX needs more packages ({error}): {remedy}") from None
    hidden = program.model.graph.outputs[0]  # whose T has a name that says nothing
    hidden.shape = ir.Shape([*hidden.shape[:2], "T", hidden.shape[3]])
    normalize = model.features.normalize
    metadata = {
        "format_version": FORMAT_VERSION,
        "features": features_config(model.features),
        "mean": normalize.mean.tolist(),
        "std": normalize.std.tolist(),
        "encoder": model.encoder.config,
        "training": model.config.get("training", {}),
    }
    program.model.metadata_props.update({k: json.dumps(v) for k, v in metadata.items()})
    with atomic_file(path, "wb") as file:
        file.write(program.model_proto.SerializeToString())


@contextmanager
def _quiet():
    """Silence the exporter, which reports what it skips, such as packages that are not needed."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
