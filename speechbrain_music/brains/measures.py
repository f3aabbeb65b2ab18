"""What is measured of a finished pre-training run, to compare runs by.

Each takes the run's folder, `model` (the `WaveEncoder` that it exported) and `tracks` (a manifest
of held-out music), as far as it needs them, and gives figures by name.

Example
-------
>>> from speechbrain_music.models.encoder import Encoder
>>> from speechbrain_music.models.export import WaveEncoder
>>> from speechbrain_music.models.frontend import LogMel
>>> config = {"training": {"quantizer": {"codebook_size": 64, "num_codebooks": 1}}}
>>> model = WaveEncoder(LogMel(), Encoder(num_layers=1, d_model=32), config)
>>> sizes = MEASURES["parameters"]("results/mine", model=model)
>>> sizes["whole"] - sizes["encoder"]  # two heads: to 64 tokens, to 512 mel values
19008
"""

import json
from pathlib import Path

import torch

from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment
from speechbrain_music.models.branchformer import BranchWeights
from speechbrain_music.models.frontend import BANDS, STACK, TOKEN_RATE
from speechbrain_music.reporting.run_log import read_rows
from speechbrain_music.utils.processes import FINISHED

HEARD_TRACKS, HEARD = 20, 10 * SAMPLE_RATE  # samples of each: held-out, for weights of branches


def _parameters(run, model, **_):
    """Of one block, of the encoder, and of the whole model with its two heads."""
    block, encoder = (
        sum(p.numel() for p in part.parameters())
        for part in (model.encoder.layers[0], model.encoder)
    )
    quantizer, width = model.config["training"]["quantizer"], model.encoder.config["d_model"]
    outputs = quantizer["codebook_size"] * quantizer["num_codebooks"] + STACK * BANDS
    return {"block": block, "encoder": encoder, "whole": encoder + (width + 1) * outputs}


def _speed(run, **_):
    """Seconds of audio trained on in a second, the median over the log's rows."""
    rates = torch.tensor([row["tokens_per_second"] for row in read_rows(run, "train")])
    return {"x real time": float(rates.median()) / TOKEN_RATE}


def _memory(run, **_):
    """The most that the run's process has held, decoded tracks among it, in MiB."""
    return {"peak MiB": json.loads((Path(run) / FINISHED).read_text())["peak_mib"]}


def _held_out(run, model, **_):
    """On held-out tracks, at the step that was exported.

    Cross-entropies in nats; "under unigram" is how far the model's lies under that of the tokens'
    frequencies, which alone can be compared where tokens differ.
    """
    step = model.config["training"]["step"]
    row = next(row for row in read_rows(run, "valid") if row["step"] == step)
    return {
        "under unigram": row["cross_entropy_unigram"] - row["cross_entropy"],
        "accuracy": row["accuracy"],
        "mel error": row["mel_mse"],
    }


def _codebook(run, **_):
    """How a run's tokens spread over held-out tracks."""
    row = read_rows(run, "valid")[-1]
    return {key.replace("_", " "): row[key] for key in ("codes_used", "perplexity", "collisions")}


@torch.no_grad()
def _branch_weights(run, model, tracks):
    """The global branch's weight by layer, where branches are averaged, over held-out music."""
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, BranchWeights):
            heard = found.setdefault(name.split(".")[2], [])
            listen = module.register_forward_hook
            hooks.append(listen(lambda _, __, out, heard=heard: heard.append(out[:, 0])))
    if not hooks:
        return {}
    for path in tracks["wav"].head(HEARD_TRACKS):
        wave = read_segment(path, length=HEARD)
        model(torch.from_numpy(wave).unsqueeze(0))
    for hook in hooks:
        hook.remove()
    weights = {layer: float(torch.cat(heard).mean()) for layer, heard in found.items()}
    return {f"global, layer {layer}": weight for layer, weight in weights.items()}


MEASURES = {
    "parameters": _parameters,
    "speed": _speed,
    "memory": _memory,
    "held_out": _held_out,
    "codebook": _codebook,
    "branch_weights": _branch_weights,
}
