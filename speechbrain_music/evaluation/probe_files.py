"""Trained heads of frame tasks on disk, and their predictions for audio files."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save

from speechbrain_music.dataio.audio import audio_info
from speechbrain_music.evaluation.frame_features import FrameCache, plan_tracks
from speechbrain_music.evaluation.frames import predict_track
from speechbrain_music.evaluation.protocol import OPTIONS
from speechbrain_music.metrics.frame_tasks import BeatTracking, ChordRecognition, StructureAnalysis
from speechbrain_music.models.frozen import make_encoders
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.models.peers import LOADERS
from speechbrain_music.nnet.frame_heads import FrameHead
from speechbrain_music.utils.atomic import atomic_file
from speechbrain_music.utils.errors import UserError

TASKS = {task.__name__: task for task in (BeatTracking, ChordRecognition, StructureAnalysis)}
CONTEXT = ("chunk_seconds", "overlap_seconds")  # options of the extraction


class Probe(NamedTuple):
    """A trained head with all that a prediction needs."""

    task: object  # FrameTask
    encoder: object  # FrozenEncoder
    head: FrameHead
    layers: list  # names of the hidden states that the head takes
    context: dict  # chunk_seconds, overlap_seconds


def save_probe(path, task, head, cache, hparams):
    """Writes a head as one safetensors file; what else a prediction needs is in its header."""
    spec = hparams["encoder"]
    spec = spec if isinstance(spec, str) else spec[0]  # of several encoders the first
    described = {
        "task": {"name": type(task).__name__} | task.config,
        "head": {"kind": head.kind, "up": head.up, "down": head.down},
        "encoder": str(Path(spec).absolute()) if Path(spec).is_dir() else spec,
        "identity": cache.encoder.identity,
        "layers": cache.layers,
        **{key: hparams[key] for key in CONTEXT},
    }
    weights = {name: value.cpu().contiguous() for name, value in head.state_dict().items()}
    described["weights"] = fingerprint(described, weights)
    with atomic_file(path, "wb") as file:
        file.write(save(weights, {"probe": json.dumps(described)}))


def load_probe(path, encoder=None, trust_remote_code=False):
    """Reads what `save_probe` wrote, and the encoder that it was trained on; no code runs from it.

    encoder: as the recipes' --encoder, in place of the one that the file names, which is not
    fetched from a hub unasked. Raises UserError for another file, and for another encoder.
    """
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            described = json.loads((file.metadata() or {})["probe"])
        if described.pop("weights") != fingerprint(described, weights):
            raise ValueError("its weights are not those that were saved")
        options = dict(described["task"])
        task = TASKS[options.pop("name")](**options)
        mean, std = (weights[f"standardize.{name}"] for name in ("mean", "std"))
        hidden = len(weights["hidden.bias"])
        shape = {"mean": mean, "std": std, "outputs": task.outputs, "hidden": hidden}
        with torch.device("meta"):  # takes no memory, whatever sizes the file claims
            head = FrameHead(**described["head"], **shape)
        head.load_state_dict(weights, assign=True)
        spec, identity, layers = (described[key] for key in ("encoder", "identity", "layers"))
        context = {key: described[key] for key in CONTEXT}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a file of anyone may raise anything
        raise UserError(
            f"{path} is no trained probe ({error!s:.200}): pass a probe_*.safetensors of a recipe "
            "of beats, chords or structure"
        ) from error
    if encoder is None and str(spec).partition(":")[0] in LOADERS:
        raise UserError(f"{path} is for {spec}: pass that as --encoder to load it")
    frozen = make_encoders(encoder or spec, trust_remote_code)[0]
    if frozen.identity != identity:
        raise UserError(
            f"{path} was trained on another encoder than {frozen.name}: pass --encoder with that "
            "one, or train a probe on this one"
        )
    fits = [OPTIONS[key].fits(value) for key, value in context.items()]
    fits += [x.dtype == torch.float32 and bool(x.isfinite().all()) for x in weights.values()]
    fits += [type(step) is int and step > 0 for step in (head.up, head.down)]
    if not all(fits) or (
        mean.shape != (len(set(layers)), frozen.frame_width)
        or task.rate != frozen.frame_rate * head.up / head.down
    ):
        raise UserError(f"{path} is damaged, or not of {frozen.name}: train the probe again")
    return Probe(task, frozen, head.eval(), layers, context)


def predict_file(probe, path, device="cpu", batch_size=4):
    """The annotation of an audio file, Beats or LabelledIntervals; AudioError if it is none."""
    info = audio_info(path)
    track = {"ID": Path(path).name, "wav": str(path), "start": 0, "stop": info.frames}
    table = plan_tracks(pd.DataFrame([track | {"duration": info.seconds}]), **probe.context)
    with TemporaryDirectory() as folder:
        cache = FrameCache(folder, probe.encoder, table, probe.layers).open()
        cache.extract(batch_size, device=device, bar=False)
        values, readable, reasons = cache.load()
        if not readable.all():
            raise UserError(next(iter(reasons.values())))
        frames = torch.from_numpy(values.astype("float32"))
    try:
        return predict_track(probe.head.to(device), probe.task, frames, device)
    except Exception as error:  # of a file of anyone
        raise UserError(f"the probe predicts nothing for {path} ({error!s:.200})") from error
