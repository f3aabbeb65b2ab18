"""A trained encoder on disk: weights as safetensors, everything else as JSON, never code."""

import re
from pathlib import Path

import torch
from torch import nn

from speechbrain_music.models import frontend
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.safe_folder import STATISTICS, SafeFolder, check_keys, on_meta_device
from speechbrain_music.utils.errors import UserError

LAYER = re.compile(r"^encoder\.layers\.(0|[1-9][0-9]{0,5})\.")


class ExportError(UserError):
    """An export that cannot be loaded; the message names the folder, the fault and the remedy.

    Example
    -------
    >>> load_export("nowhere")
    Traceback (most recent call last):
    ...
    speechbrain_music.models.export.ExportError: nowhere is no export: it needs config.json and \
model.safetensors
    """


FILES = SafeFolder("export", "encoder", "export it again", ExportError)


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
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    FILES.write(folder, features, encoder.config, weights, **facts)


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

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> from types import SimpleNamespace
    >>> encoder, quantizer = Encoder(num_layers=1, d_model=16), SimpleNamespace(config={})
    >>> model = SimpleNamespace(encoder=encoder, quantizer=quantizer)
    >>> run = {"model": model, "features": frontend.LogMel(), "system": "mine", "seed": 1}
    >>> with TemporaryDirectory() as folder:
    ...     export_run(folder, run, {"step": 10, "loss": 7.5}, hours=2)
    ...     list(load_export(folder).config["training"])
    ['system', 'seed', 'step', 'held_out_loss', 'quantizer', 'hours']
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

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> wave, encoder = torch.randn(1, 24000), Encoder(num_layers=1, d_model=16)
    >>> with TemporaryDirectory() as folder:
    ...     save_export(folder, encoder, frontend.LogMel())
    ...     loaded = load_export(folder)
    >>> torch.equal(loaded(wave)[0], WaveEncoder(frontend.LogMel(), encoder.eval(), {})(wave)[0])
    True
    """
    folder = Path(folder)
    config = FILES.read_config(folder, _check_encoder)
    shapes, layers = _shapes(config["encoder"]), config["encoder"]["num_layers"]
    weights, statistics = FILES.read_weights(
        folder,
        lambda name: _shape_of(name, shapes, layers),
        _names(shapes, layers),
        f"an encoder of {layers} layers",
    )
    features = frontend.LogMel(config["features"]["normalization"])
    features.normalize.load_state_dict(statistics)
    encoder = on_meta_device(Encoder, **config["encoder"])
    encoder.load_state_dict(
        {name.removeprefix("encoder."): value for name, value in weights.items()}, assign=True
    )
    return WaveEncoder(features, encoder, config).to(device).eval()


def _check_encoder(config):
    known = on_meta_device(Encoder, num_layers=0).config
    check_keys(config, known)
    for key, value in config.items():
        kind = type(known[key])
        if type(value) is not kind and (kind, type(value)) != (float, int):
            raise TypeError(f"{key} is {value!r:.100}: it must be {kind.__name__}")
        if kind in (int, float) and not value >= 0:
            raise ValueError(f"{key} is {value!r:.100}: it must be 0 or more")
    if "num_layers" not in config:
        raise ValueError("num_layers is missing")
    on_meta_device(
        Encoder, **config | {"num_layers": 1}
    )  # how many there are, the weights must show


def _shapes(config):
    """Name -> shape of all that an encoder of one layer and its features have.

    Every layer has the shapes of one: a header is never compared with more than it holds.
    """
    encoder = on_meta_device(Encoder, **config | {"num_layers": 1})
    shapes = {f"encoder.{name}": list(value.shape) for name, value in encoder.state_dict().items()}
    return shapes | dict.fromkeys(STATISTICS, [frontend.BANDS])


def _shape_of(name, shapes, layers):
    layer = LAYER.match(name)
    if layer and int(layer[1]) >= layers:
        return None
    return shapes.get(LAYER.sub("encoder.layers.0.", name))


def _names(shapes, layers):
    for name in shapes:
        for layer in range(layers if LAYER.match(name) else 1):
            yield LAYER.sub(f"encoder.layers.{layer}.", name)
