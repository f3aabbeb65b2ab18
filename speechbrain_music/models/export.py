"""A trained encoder on disk: weights as safetensors, everything else as JSON, never code."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models import frontend
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.utils.atomic import atomic_folder
from speechbrain_music.utils.errors import UserError

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
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


def load_export(folder, device="cpu"):
    """Reads an export; no code runs from it.

    Arguments
    ---------
    folder : path
        What `save_export` wrote.
    device : str
        Where the model is put.

    Returns
    -------
    WaveEncoder
        In eval mode.

    Raises
    ------
    ExportError
        If a file is missing or damaged, of another format version, made with other features, or
        if names or shapes of weights do not fit the configuration.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{folder / WEIGHTS} cannot be read ({error}): export it again") from None
    try:
        encoder = Encoder(**config["encoder"])
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # sizes of 0, below 0
        raise ExportError(f"{folder / CONFIG} describes no encoder ({error})") from None
    model = WaveEncoder(frontend.LogMel(), encoder, config)
    fixed = {k: v for k, v in model.state_dict().items() if k.startswith("features.mel.")}
    try:
        model.load_state_dict(weights | fixed)
    except RuntimeError as error:
        fault = " ".join(str(error).split())
        raise ExportError(f"the weights in {folder} do not fit its {CONFIG}: {fault}") from None
    return model.to(device).eval()


def _read_config(folder):
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ExportError(f"{folder} is no export: it needs {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        version, features, _ = config["format_version"], config["features"], config["encoder"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{folder / CONFIG} is damaged ({error!r}): export it again") from None
    if version != FORMAT_VERSION:
        raise ExportError(
            f"{folder} has export format {version}, this version reads {FORMAT_VERSION}: "
            "install the matching version of speechbrain_music"
        )
    if features != FEATURES:
        raise ExportError(f"{folder} was made with features {features}, this version: {FEATURES}")
    return config
