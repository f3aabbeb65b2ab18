"""An encoder as an ONNX graph, for programs without torch; needs the extra [onnx]."""

import json
import logging
import warnings
from copy import deepcopy

import torch
from torch import nn

from speechbrain_music.models.frontend import BANDS, SAMPLES_PER_TOKEN, STACK, TOKEN_RATE
from speechbrain_music.models.frozen_encoder import pool_states
from speechbrain_music.models.parts import MIXERS
from speechbrain_music.models.safe_folder import FORMAT_VERSION, features_config
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

TRACED_TOKENS = 24  # the graph holds for any number


class _Graph(nn.Module):
    def __init__(self, model, layers, pool):
        super().__init__()
        self.model, self.layers, self.pool = model, layers, pool

    def forward(self, x):
        if x.ndim == 2:
            # `token_count` without negative numbers, whose division ONNX rounds towards 0.
            tokens = (x.shape[1] + SAMPLES_PER_TOKEN - 1) // SAMPLES_PER_TOKEN
            wave = nn.functional.pad(x, (0, tokens * SAMPLES_PER_TOKEN - x.shape[1]))
            mel = self.model.features.normalize(self.model.features.transform(wave))
        else:
            mel = x.transpose(1, 2)
        _, hidden, _ = self.model.encoder(mel)
        hidden = [hidden[layer] for layer in self.layers]
        if self.pool == "none":
            return torch.stack(hidden)
        tokens = torch.full((mel.shape[0],), mel.shape[1] // STACK, device=mel.device)
        return pool_states(hidden, tokens, self.pool)


def export_onnx(model, path, source="wave", layers=None, pool="none"):
    """Write one ONNX file, whole or not at all: from a wave, or log-mel, to hidden states.

    The graph has one input, float32: `wave` (B, N), mono at 24 kHz, for any B and N from 1 on, or
    with `source` "mel" `mel` (B, 128, 4 T), normalised log-mel. Nothing is padded but the last
    token of 40 ms. Its output is `hidden`, float32 (L, B, T, d_model), T = ceil(N / 960), or with
    the `pool` "mean" or "mean_std" `embedding` (B, L, d_model or twice that). `layers` are a
    list of those from 0, the front-end's; None: all. onnxruntime gives what torch gives, to 1e-4 of
    the largest value.

    For "mel", `LogMel` computes the input: `mel, _ = model.features(wave, lengths)`, then
    `mel.transpose(1, 2)`; docs/inference.md says how without torch. The file's metadata has all
    that is needed to use it alone, each as JSON: "format_version", "input", "layers", "pool",
    "tokens" (seconds from one to the next, and of the first), "features" (sample_rate, n_fft, hop,
    bands, stack, floor), "mean" and "std" (128 each, in nats), "encoder" (its configuration),
    "training" (what its export says).

    `model` is a `WaveEncoder` on any device, and is not changed; a file at `path` is replaced.
    Raises UserError if the mixer is not one of this package, the weights are int8, or [onnx] is not
    installed.
    """
    mixer = (model.encoder.config["block"].get("mixer") or {}).get("class")
    if mixer not in (known := [mixer_class.__name__ for mixer_class in MIXERS.values()]):
        raise UserError(
            f"an encoder with the mixer {mixer} cannot become ONNX: use {', '.join(known)}"
        )
    if model.encoder.int8:
        raise UserError(
            "an encoder with int8 weights cannot become ONNX, its products are torch's: export the "
            "original, and quantize that file by onnxruntime.quantization"
        )
    layers = list(range(len(model.encoder.layers) + 1) if layers is None else layers)
    batch, length = torch.export.Dim("B"), torch.export.Dim("T" if source == "mel" else "N", min=1)
    if source == "mel":
        example, dynamic = torch.zeros(2, BANDS, STACK * TRACED_TOKENS), {2: STACK * length}
    else:
        example, dynamic = torch.zeros(2, SAMPLES_PER_TOKEN * TRACED_TOKENS), {1: length}
    graph = _Graph(deepcopy(model), layers, pool).cpu().float().eval()
    try:
        from onnxscript import ir

        # The exporter reports what it skips, such as packages that are not needed.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: batch} | dynamic,),
                input_names=[source],
                output_names=["hidden" if pool == "none" else "embedding"],
                opset_version=20,
                verbose=False,
            )
    except ImportError as error:
        remedy = "pip install -e '.[onnx]' in the clone"
        raise UserError(f"an export to ONNX needs more packages ({error}): {remedy}") from None
    output = program.model.graph.outputs[0]  # whose T has a name that says nothing
    sizes = [len(layers), "B", "T"] if pool == "none" else ["B", len(layers)]
    output.shape = ir.Shape([*sizes, output.shape[-1]])
    normalize = model.features.normalize
    metadata = {
        "format_version": FORMAT_VERSION,
        "input": source,
        "layers": layers,
        "pool": pool,
        "tokens": {"seconds": 1 / TOKEN_RATE, "first": 0.0},
        "features": features_config(model.features),
        "mean": normalize.mean.tolist(),
        "std": normalize.std.tolist(),
        "encoder": model.encoder.config,
        "training": model.config.get("training", {}),
    }
    program.model.metadata_props.update({k: json.dumps(v) for k, v in metadata.items()})
    write_together({path: program.model_proto.SerializeToString()})
