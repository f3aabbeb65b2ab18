"""A trained encoder on disk: weights as safetensors, everything else as JSON, never code."""

import re
from functools import partial
from pathlib import Path

import torch
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.parts import import_class
from speechbrain_music.models.safe_folder import (
    ExportError,
    check_keys,
    read_folder,
    state_shapes,
    weights_of,
    write_folder,
)

SHIPPED = Path(__file__).parent / "shipped"  # the export of a small encoder; README.md is its card
PREFIX = "encoder."
FIRST_LAYER = re.compile(r"^layers\.0\.")
SIZES = ("num_layers", "d_model", "frame_rate")


class WaveEncoder(nn.Module):
    """A `LogMel` and an `Encoder` in one: from a wave to hidden states.

    `features` have the statistics of the corpus that the encoder was trained on; `config` is the
    dict of `config.json`.

    Example
    -------
    >>> from speechbrain_music.models.encoder import make_encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> model = WaveEncoder(LogMel(), make_encoder(num_layers=1, d_model=32), {})
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


def save_export(folder, encoder, features, **metadata):
    """Writes `model.safetensors` and `config.json`, whole or not at all.

    The folder is made, or the export in it replaced. `features` are the `LogMel` with the corpus's
    statistics; `metadata` are plain values to keep with the weights (steps, corpora, seed ...).

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> from speechbrain_music.models.encoder import make_encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> with TemporaryDirectory() as folder:
    ...     save_export(folder, make_encoder(num_layers=1, d_model=32), LogMel(), steps=10)
    ...     load_export(folder).config["training"]
    {'steps': 10}
    """
    weights = {f"{PREFIX}{name}": value for name, value in encoder.state_dict().items()}
    write_folder(folder, features, "encoder", encoder.config, weights, **metadata)


def export_run(folder, run, meta, **metadata):
    """Exports the encoder of a pre-training run, as it is now.

    `run` has the yaml's encoder, features, tokenizer, system and seed; `meta` is the loaded
    checkpoint's (step, loss); `metadata` are further plain values.
    """
    save_export(
        folder,
        run["encoder"],
        run["features"],
        system=run["system"],
        seed=run["seed"],
        step=meta["step"],
        held_out_loss=meta["loss"],
        quantizer=run["tokenizer"].config,
        **metadata,
    )


def load_export(folder, device="cpu", classes=()):
    """Reads an export; no code runs from it, and memory is taken only for what the file holds.

    Returns a `WaveEncoder` in eval mode. `folder` is what `save_export` wrote, of anyone; `classes`
    (types, or full names to import) are those outside this package that it may use, such as a token
    mixer of one's own.

    Raises ExportError if a file is missing or damaged, of another format version, made with other
    features, names a class that is neither shipped nor passed, if names, shapes or types of weights
    do not fit the configuration, if a value is not finite, a std of the features not above 0, or if
    a test tone gives hidden states that are not finite.
    """
    classes = [import_class(name) if isinstance(name, str) else name for name in classes]
    shapes = partial(encoder_shapes, prefix=PREFIX, classes=classes)
    config, weights, features = read_folder(folder, "encoder", shapes)
    encoder = encoder_from_weights(config["encoder"], weights, PREFIX, classes)
    model = WaveEncoder(features, encoder, config).eval()
    _check_output(model, folder)
    return model.to(device)


def encoder_shapes(config, tensors, prefix, classes=()):
    """`state_shapes` of an encoder, of a file of anyone with so many tensors.

    ValueError, TypeError and others say what is wrong with the configuration.
    """
    one, layers = _one_layer(config, classes), config["num_layers"]
    shapes = state_shapes(one)
    per_layer = [name for name in shapes if FIRST_LAYER.match(name)]
    if layers * len(per_layer) > tensors:  # before as many layers are made
        raise ValueError(f"num_layers is {layers}, the file has {tensors} tensors")
    of_layers = {name: shapes.pop(name) for name in per_layer}
    for layer in range(layers):
        for name, shape in of_layers.items():
            shapes[FIRST_LAYER.sub(f"layers.{layer}.", name)] = shape
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def encoder_from_weights(config, weights, prefix, classes=()):
    """The encoder with those of the weights whose names begin with a prefix."""
    with torch.device("meta"):  # its weights take no memory
        encoder = Encoder.from_config(config, classes)
    encoder.load_state_dict(weights_of(weights, prefix), assign=True)
    return encoder


def _check_output(model, folder):
    """Refuse a model that gives no finite hidden states of a second of a tone."""
    tone = 0.1 * torch.sin(torch.arange(SAMPLE_RATE) / 9)[None]
    try:
        with torch.no_grad():
            hidden = model(tone)[1]
        fault = "" if all(state.isfinite().all() for state in hidden) else "they are not finite"
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        fault = str(error).partition("\n")[0]
    if fault:
        raise ExportError(
            f"{folder} gives no hidden states of a test tone ({fault:.200}): export it again"
        )


def _one_layer(config, classes):
    """An encoder of this configuration with one layer, whose weights take no memory."""
    check_keys(config, ("frontend", "block", *SIZES, "int8"))
    for key in SIZES:
        if key not in config:
            raise ValueError(f"{key} is missing")
        if type(config[key]) is not int or config[key] < 0:
            raise ValueError(f"{key} is {config[key]!r:.100}: it must be a whole number")
    with torch.device("meta"):
        return Encoder.from_config(config | {"num_layers": 1}, classes)
