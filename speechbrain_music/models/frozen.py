"""Frozen encoders: exports, mel statistics, untrained encoders, models of Hugging Face."""

from pathlib import Path

import torch
import torch.nn.functional as F

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.encoder import DTYPES
from speechbrain_music.models.export import NAMED, WaveEncoder, load_export
from speechbrain_music.models.frontend import BANDS, HOP, STACK, TOKEN_RATE, LogMel
from speechbrain_music.models.frozen_encoder import POOLINGS, FrozenEncoder, fingerprint
from speechbrain_music.models.peers import LOADERS, PeerEncoder
from speechbrain_music.models.safe_folder import FEATURES, features_config
from speechbrain_music.utils.errors import UserError

UNTRAINED_SEEDS = (0, 1, 2)
SPECS = (
    "choose the folder of an export, a list of such folders, shipped, mel, random:FOLDER (of an "
    "export), bfloat16:FOLDER or float16:FOLDER (in half precision), hf:NAME_OR_PATH, mert:95M, "
    "mert:330M, muq:NAME, omar_rq:NAME or musicfm:FOLDER"
)


class ExportEncoder(FrozenEncoder):
    """Every hidden state of a `WaveEncoder`, which is frozen in place.

    `name` is for tables; `pooling` is "mean", or "mean_std": means, then standard deviations.
    """

    def __init__(self, model, name, pooling="mean"):
        config = model.encoder.config
        # The mel's window and filters follow from FEATURES, and their last bit from the machine.
        weights = {k: v for k, v in model.state_dict().items() if not k.startswith("features.mel.")}
        described = {"features": features_config(model.features), "encoder": config}
        identity = fingerprint(described | {"pooling": pooling}, weights)
        layers = map(str, range(config["num_layers"] + 1))
        size = config["d_model"], TOKEN_RATE
        super().__init__(name, identity, SAMPLE_RATE, layers, *size, pooling)
        self.model = model.eval().requires_grad_(False)

    def states(self, wave, samples):
        """The hidden states of (B, N) waves, each (B, T, d), and (B,) tokens."""
        _, hidden, tokens = self.model(wave, samples)
        return hidden, tokens


class MelEncoder(FrozenEncoder):
    """Baseline without an encoder: mean, then population standard deviation, of each log-mel band.

    Frames are those centred on the item's samples, ceil(samples / 240). By the frame, it is what
    encoders get: four frames of 10 ms in one of 40 ms.
    """

    def __init__(self):
        identity = fingerprint({"mel": 1, "features": FEATURES}, {})
        super().__init__("mel", identity, SAMPLE_RATE, ("mel",), BANDS, TOKEN_RATE, "mean_std")
        self.frame_width = STACK * BANDS
        self.features = LogMel()

    def states(self, wave, samples):
        """Log-mel frames, (B, T, 128) float64, and (B,) of each item."""
        return [self.features.raw(wave, samples)[0].double()], -(-samples // HOP)

    def frames(self, wave, samples):
        """Stacks of frames, (B, T, 1, 512), and (B,) of each item."""
        mel, counts = super().frames(wave, samples)
        mel = F.pad(mel.squeeze(2), (0, 0, 0, -mel.shape[1] % STACK))
        return mel.unflatten(1, (-1, STACK)).flatten(2).unsqueeze(2), -(-counts // STACK)


def untrained(model, seed, pooling="mean"):
    """Return an `ExportEncoder` with the model's configuration and statistics but new weights.

    It is on the CPU; neither the model nor the global random state changes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds GPUs too
        encoder = model.encoder.untrained()
    features = LogMel(model.features.normalize.kind)
    features.normalize.load_state_dict(model.features.normalize.state_dict())
    return ExportEncoder(WaveEncoder(features, encoder, {}), "random", pooling)


def make_encoders(spec, trust_remote_code=False, pooling="mean", classes=()):
    """Make the encoders that `--encoder` names.

    `spec` is the folder of an export; a list of such folders; "shipped" (the small encoder that
    this package ships); "mel"; "random:FOLDER" (untrained, with the configuration and the band
    statistics of an export); "bfloat16:FOLDER" or "float16:FOLDER", an export in half precision,
    also in a list; or a public model of `SPECS`. With `trust_remote_code` it may bring
    code of its own and, of `transformers`, pickled weights. `pooling` of hidden states over time is
    "mean" or "mean_std"; mel statistics are always both. `classes` are full names of classes
    outside this package that exports may use.

    Returns a list of `FrozenEncoder` on the CPU; several are seeds of one system (three for
    "random:"), to be averaged. Raises UserError for another spec, exports that are not seeds of one
    system, or what cannot be loaded.
    """
    if pooling not in POOLINGS:
        raise UserError(f"pooling is {pooling!r}: choose {' or '.join(POOLINGS)}")
    if isinstance(spec, (list, tuple)) and spec:
        return _seeds_of_one_system([_from_export(folder, pooling, classes) for folder in spec])
    if isinstance(spec, (str, Path)):
        kind, _, rest = str(spec).partition(":")
        if str(spec) == "mel":
            return [MelEncoder()]
        if spec in NAMED:
            return [ExportEncoder(load_export(spec), str(spec), pooling)]
        if kind == "random" and rest:
            model = load_export(rest, classes=classes)
            return [untrained(model, seed, pooling) for seed in UNTRAINED_SEEDS]
        if kind in LOADERS and rest:
            return [PeerEncoder(kind, rest, trust_remote_code, pooling)]
        if Path(spec).exists() or "/" in str(spec) or kind in DTYPES and rest:
            return [_from_export(spec, pooling, classes)]
    raise UserError(f"encoder is {spec!r}: {SPECS}")


def name_specs(texts):
    """Map names to specs, from NAME=SPEC or SPEC alone on a command line; commas separate seeds."""
    specs = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        if "/" in name or Path(text).exists():  # a path with "="
            equals = ""
        spec = spec if equals else text
        parts = [spec] if Path(spec).exists() else spec.split(",")
        name = name if equals else Path(text.partition(":")[0]).name
        if name in specs or not name:
            raise UserError(f"two encoders are named {name!r}: write NAME=ENCODER")
        specs[name] = parts if len(parts) > 1 else parts[0]
    return specs


def _from_export(folder, pooling, classes):
    if not isinstance(folder, (str, Path)):
        raise UserError(f"encoder has {folder!r} in its list: a list holds folders of exports")
    kind, _, rest = str(folder).partition(":")
    dtype, folder = (kind, rest) if kind in DTYPES and rest else ("float32", folder)
    model = load_export(folder, classes=classes)
    model.encoder.compute_in(dtype)
    name, training = Path(folder).resolve().name, model.config.get("training")
    if isinstance(training, dict) and {"system", "seed"} <= training.keys():
        name = f"{training['system']}-{training['seed']}"
    return ExportEncoder(model, f"{dtype}-{name}" if folder == rest else name, pooling)


def _seeds_of_one_system(encoders):
    first = encoders[0]
    for encoder in encoders[1:]:
        if (encoder.layers, encoder.dim) != (first.layers, first.dim):
            raise UserError(
                f"{first.name} has {len(first.layers)} layers of {first.dim} and {encoder.name} "
                f"{len(encoder.layers)} of {encoder.dim}: a list holds seeds of one system"
            )
    if len({encoder.identity for encoder in encoders}) < len(encoders):
        raise UserError("the list of encoders holds one twice: name each seed's export once")
    return encoders
