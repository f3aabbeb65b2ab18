"""A trained encoder on disk: weights as safetensors, everything else as JSON, never code."""

from pathlib import Path

import torch
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.parts import import_class
from speechbrain_music.models.safe_folder import check_keys, check_whole, read_folder, write_folder
from speechbrain_music.utils.errors import UserError

SHIPPED = Path(__file__).parent / "shipped"  # the export of a small encoder; README.md is its card
NAMED = {"shipped": SHIPPED}  # exports that options name in place of a folder
SIZES = {"num_layers": 256, "d_model": 2**16, "frame_rate": 50}  # -> the largest, as in a yaml


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
    write_folder(folder, features, "encoder", encoder.config, {"encoder": encoder}, **metadata)


def load_export(folder, device="cpu", classes=()):
    """Reads an export; no code runs from it, and memory is taken only for what the file holds.

    Returns a `WaveEncoder` in eval mode. `folder` is what `save_export` wrote, of anyone, or
    "shipped" (this package's); `classes` (types, or full names to import) are those outside this
    package that it may use, such as a mixer of one's own.

    Raises UserError if a file is missing or damaged, of another format version, made with other
    features, names a class that is neither shipped nor passed, if names, shapes or types of weights
    do not fit the configuration, if a value is not finite, a std of the features not above 0, or if
    a test tone gives hidden states that are not finite.
    """
    classes = [import_class(name) if isinstance(name, str) else name for name in classes]
    folder = NAMED.get(folder, folder)
    config, modules, features = read_folder(
        folder, "encoder", lambda described: {"encoder": build_encoder(described, classes)}
    )
    model = WaveEncoder(features, modules["encoder"], config).eval()
    _check_output(model, folder)
    return model.to(device)


def build_encoder(config, classes=()):
    """The encoder of a configuration of anyone, whose weights take no memory: on "meta".

    ValueError, TypeError and others say what is wrong with the configuration.
    """
    check_keys(config, ("frontend", "block", *SIZES, "int8"))
    for key, highest in SIZES.items():
        check_whole(key, config.get(key), highest)
    with torch.device("meta"):
        return Encoder.from_config(config, classes)


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
        raise UserError(
            f"{folder} gives no hidden states of a test tone ({fault:.200}): export it again"
        )
