"""A trained encoder on disk: weights as safetensors, everything else as JSON, never code."""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models import frontend
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.utils.atomic import atomic_folder
from speechbrain_music.utils.errors import UserError

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
KEYS = ("format_version", "features", "encoder", "training")  # of a configuration
DTYPE = "F32"
LAYER = re.compile(r"^encoder\.layers\.(0|[1-9][0-9]{0,5})\.")
# What is larger is not ours: one of 12 layers has a configuration of 1 KB and a header of 36 KB.
MAX_CONFIG, MAX_HEADER = 2**20, 2**24
FEATURES = {
    "sample_rate": SAMPLE_RATE,
    "n_fft": frontend.N_FFT,
    "hop": frontend.HOP,
    "bands": frontend.BANDS,
    "stack": frontend.STACK,
    "floor": frontend.FLOOR,
}


class ExportError(UserError):
    """An export that cannot be loaded; the message names the folder, the fault and the remedy."""


class WaveEncoder(nn.Module):
    """Log-mel features and an encoder in one: from a wave to hidden states.

    Arguments
    ---------
    features : LogMel
        With the statistics of the corpus that the encoder was trained on.
    encoder : Encoder
        The encoder.
    config : dict
        What `config.json` says.

    Example
    -------
    >>> model = WaveEncoder(frontend.LogMel(), Encoder(num_layers=1, d_model=32), {})
    >>> out, hidden, lengths = model.eval()(torch.randn(1, 24000))
    >>> out.shape  # one second is 25 tokens
    torch.Size([1, 25, 32])
    """

    def __init__(self, features, encoder, config):
        super().__init__()
        self.features = features
        self.encoder = encoder
        self.config = config

    def forward(self, wave, lengths=None):
        """Encodes (B, N) samples at 24 kHz; see `Encoder.forward` for what is returned.

        `lengths` is (B,) int64 samples; None means that nothing is padded.
        """
        if lengths is None:
            lengths = torch.full((len(wave),), wave.shape[1], device=wave.device)
        return self.encoder(*self.features(wave, lengths))


def save_export(folder, encoder, features, **facts):
    """Writes `model.safetensors` and `config.json`, whole or not at all.

    Arguments
    ---------
    folder : path
        Is made; an export that is there already is replaced.
    encoder : Encoder
        The encoder.
    features : LogMel
        With the corpus's statistics.
    **facts
        Plain values to keep beside the weights (steps, corpora, seed ...).

    Example
    -------
    >>> folder = getfixture("tmp_path") / "export"
    >>> save_export(folder, Encoder(num_layers=1, d_model=32), frontend.LogMel(), steps=10)
    >>> load_export(folder).config["training"]
    {'steps': 10}
    """
    config = {
        "format_version": FORMAT_VERSION,
        "features": FEATURES,
        "encoder": encoder.config,
        "training": facts,
    }
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    weights["features.normalize.mean"] = features.normalize.mean
    weights["features.normalize.std"] = features.normalize.std
    with atomic_folder(folder) as staging:
        weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        (staging / WEIGHTS).write_bytes(save(weights))  # its save_file hides it from other users
        (staging / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_run(folder, run, meta, **facts):
    """Exports the encoder of a pre-training run, as it is now, with what is known of the run.

    Arguments
    ---------
    folder : path
        As `save_export`'s.
    run : dict
        Of the run's yaml: `model`, `features`, `system`, `seed`.
    meta : dict
        Of the checkpoint that is loaded: `step`, and `loss` on held-out tracks.
    **facts
        Further plain values.
    """
    save_export(
        folder,
        run["model"].encoder,
        run["features"],
        system=run["system"],
        seed=run["seed"],
        step=meta["step"],
        held_out_loss=meta["loss"],
        quantizer=run["model"].quantizer.config,
        **facts,
    )


def load_export(folder, device="cpu"):
    """Reads an export; no code runs from it, and memory is taken only for what the file holds.

    Arguments
    ---------
    folder : path
        What `save_export` wrote, from whomever.
    device : str
        Where the model is put.

    Returns
    -------
    WaveEncoder
        In eval mode.

    Raises
    ------
    ExportError
        If a file is missing or damaged, of another format version, made with other features, if
        names, shapes or types of weights do not fit the configuration, if a value is not finite,
        or a std of the features not above 0.
    """
    folder = Path(folder)
    config = _read_config(folder)
    weights = _read_weights(folder, config["encoder"])
    features = frontend.LogMel()
    statistics = {name: weights.pop(f"features.normalize.{name}") for name in ("mean", "std")}
    features.normalize.load_state_dict(statistics)
    encoder = _unfilled(config["encoder"])
    encoder.load_state_dict(
        {name.removeprefix("encoder."): value for name, value in weights.items()}, assign=True
    )
    return WaveEncoder(features, encoder, config).to(device).eval()


def _read_config(folder):
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        raise ExportError(f"{folder} is no export: it needs {CONFIG} and {WEIGHTS}")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.loads(file.read(MAX_CONFIG))
        version, features, encoder = (config[key] for key in KEYS[:3])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ExportError(f"{path} is damaged ({error!r:.200}): export it again") from None
    if version != FORMAT_VERSION:
        raise ExportError(
            f"{folder} has export format {version!r:.100}, this version reads {FORMAT_VERSION}: "
            "install the matching version of speechbrain_music"
        )
    if features != FEATURES:
        raise ExportError(
            f"{folder} was made with features {features!r:.200}, this version: {FEATURES}"
        )
    try:
        _check_keys(config, KEYS)
        _check_encoder(encoder)
    except (AttributeError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        fault = str(error).partition("\n")[0]  # torch adds its stack
        raise ExportError(f"{path} describes no encoder ({fault:.300})") from None
    return config


def _check_encoder(config):
    known = _unfilled({"num_layers": 0}).config
    _check_keys(config, known)
    for key, value in config.items():
        kind = type(known[key])
        if type(value) is not kind and (kind, type(value)) != (float, int):
            raise TypeError(f"{key} is {value!r:.100}: it must be {kind.__name__}")
        if kind in (int, float) and not value >= 0:
            raise ValueError(f"{key} is {value!r:.100}: it must be 0 or more")
    if "num_layers" not in config:
        raise ValueError("num_layers is missing")
    _unfilled(config | {"num_layers": 1})  # how many there are, the weights must show


def _check_keys(given, known):
    for key in given:
        if key not in known:
            raise ValueError(f"{key:.100} is unknown: there are {', '.join(known)}")


def _unfilled(config):
    """An encoder whose weights have shapes, and take no memory."""
    with torch.device("meta"):
        return Encoder(**config)


def _read_weights(folder, config):
    """Name -> tensor, all that an encoder of this configuration and its features have."""
    path = folder / WEIGHTS
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > MAX_HEADER:
            raise SafetensorError(f"a header of {header} bytes, at most {MAX_HEADER} are read")
        with safe_open(path, "pt") as file:
            fault = _misfit(file, config)
            if fault:
                raise ExportError(f"the weights in {folder} do not fit its {CONFIG}: {fault}")
            # Copies: what is given out is mapped, and would change with the file.
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path} cannot be read ({error!s:.300}): export it again") from None
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ExportError(f"{path} has values in {name} that are not finite: export it again")
    if not (weights["features.normalize.std"] > 0).all():
        raise ExportError(f"{path} has a std of the features that is not above 0: export it again")
    return weights


def _misfit(file, config):
    """The first thing in which a file's header differs from what is needed; None if nothing does.

    Every layer has the shapes of one: the header is never compared with more than it holds.
    """
    encoder = _unfilled(config | {"num_layers": 1})
    needed = {f"encoder.{name}": list(value.shape) for name, value in encoder.state_dict().items()}
    needed |= dict.fromkeys(("features.normalize.mean", "features.normalize.std"), [frontend.BANDS])
    layers, found = config["num_layers"], set(file.keys())
    for name in found:
        layer = LAYER.match(name)
        shape = needed.get(LAYER.sub("encoder.layers.0.", name))
        if shape is None or (layer and int(layer[1]) >= layers):
            return f"{name:.200} is not in an encoder of {layers} layers"
        part = file.get_slice(name)
        if part.get_shape() != shape or part.get_dtype() != DTYPE:
            return (
                f"{name} is {part.get_dtype()} of shape {part.get_shape()}, not {DTYPE} of {shape}"
            )
    for name in needed:
        for layer in range(layers if LAYER.match(name) else 1):
            name = LAYER.sub(f"encoder.layers.{layer}.", name)
            if name not in found:
                return f"{name} is missing"
    return None
