"""Encoders as frozen sources of features for probes, all under one interface."""

import json
import re
from hashlib import blake2b
from pathlib import Path
from textwrap import shorten

import torch
from hyperpyyaml import load_hyperpyyaml
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.export import WaveEncoder, load_export
from speechbrain_music.models.frontend import BANDS, HOP, LogMel
from speechbrain_music.models.safe_folder import FEATURES, features_config
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.utils.errors import UserError

UNTRAINED_SEEDS = (0, 1, 2)
POOLINGS = {"mean": 1, "mean_std": 2}  # over time -> how many values a hidden value gives
# Log-mel values of music lie between -11.5 (the floor) and 8: what is near enough where there is
# no corpus. With mean 0 and std 1 the front-end would mostly see one large negative constant.
GENERIC_MEAN, GENERIC_STD = -4.0, 3.5
SPECS = (
    "choose the folder of an export, a list of such folders, mel, random:FOLDER (of an export), "
    "random:FILE.yaml (of a pre-training) or hf:NAME_OR_PATH"
)


class FrozenEncoder(nn.Module):
    """From waves to one vector for each layer; a subclass gives `pool(wave, samples)`.

    It stays in eval mode, whatever holds it, and without gradients: features may be kept, under
    `identity`.

    Arguments
    ---------
    name : str
        Short, for tables.
    identity : str
        Hex; equal weights and configuration have equal identities, wherever they come from.
    sample_rate, dim : int
        In Hz, of the waves that `forward` takes; width of a layer's vector.
    layers : tuple of str
        Names of the layers.
    padding_safe : bool
        Whether an item in a padded batch gives what it gives alone; else lengths must be equal.

    Example
    -------
    >>> class Peak(FrozenEncoder):
    ...     def pool(self, wave, samples):
    ...         return wave.amax(dim=1).view(-1, 1, 1)
    >>> peak = Peak("peak", "0f", sample_rate=24000, layers=["peak"], dim=1, padding_safe=False)
    >>> peak.train()(torch.ones(2, 9), torch.tensor([9, 9])).shape, peak.training
    (torch.Size([2, 1, 1]), False)
    """

    def __init__(self, name, identity, sample_rate, layers, dim, padding_safe=True):
        super().__init__()
        self.name, self.identity, self.sample_rate = name, identity, sample_rate
        self.layers, self.dim, self.padding_safe = tuple(layers), dim, padding_safe
        self.train()

    def train(self, mode=True):
        return super().train(False)

    @torch.no_grad()
    def forward(self, wave, samples):
        """Features of whole clips.

        Arguments
        ---------
        wave : torch.Tensor
            (B, N) float32, mono, at `sample_rate`; what stands past an item's length is not read.
        samples : torch.Tensor
            (B,) int64, samples of each item, 1 to N.

        Returns
        -------
        torch.Tensor
            (B, layers, dim) float32: over an item's own frames only.

        Raises
        ------
        ValueError
            If a length is out of range, or if lengths differ where `padding_safe` is False.
        """
        shortest, longest = int(samples.min()), int(samples.max())
        if shortest < 1 or longest > wave.shape[1]:
            raise ValueError(
                f"lengths {shortest} to {longest} for waves of {wave.shape[1]} samples"
            )
        if not self.padding_safe and shortest != longest:
            raise ValueError(
                f"lengths {shortest} to {longest} in one batch of {self.name}, where padding "
                "changes the result: give batches of equal lengths"
            )
        with full_float32(wave.device):
            return self.pool(wave[:, :longest], samples)


class ExportEncoder(FrozenEncoder):
    """Every hidden state of an export, each pooled over time.

    Arguments
    ---------
    model : WaveEncoder
        Is taken over: frozen, and put in eval mode.
    name : str
        Short, for tables.
    pooling : str
        "mean", or "mean_std": means, then standard deviations.

    Example
    -------
    >>> encoder = Encoder(num_layers=2, d_model=16, ffn_units=16)
    >>> frozen = ExportEncoder(WaveEncoder(LogMel(), encoder, {}), "small")
    >>> frozen.layers, frozen(torch.randn(4, 24000), torch.tensor([24000, 960, 7000, 1])).shape
    (('0', '1', '2'), torch.Size([4, 3, 16]))
    """

    def __init__(self, model, name, pooling="mean"):
        config = model.encoder.config
        # The mel's window and filters follow from FEATURES, and their last bit from the machine.
        weights = {k: v for k, v in model.state_dict().items() if not k.startswith("features.mel.")}
        facts = {"features": features_config(model.features), "encoder": config, "pooling": pooling}
        layers = map(str, range(config["num_layers"] + 1))
        dim = config["d_model"] * POOLINGS[pooling]
        super().__init__(name, fingerprint(facts, weights), SAMPLE_RATE, layers, dim)
        self.model = model.eval().requires_grad_(False)
        self.pooling = pooling

    def pool(self, wave, samples):
        _, hidden, tokens = self.model(wave, samples)
        return pool_states(hidden, tokens, self.pooling)


class MelEncoder(FrozenEncoder):
    """The baseline without an encoder: mean and standard deviation of each log-mel band.

    Frames are those centred on the item's samples, ceil(samples / 240); the deviation is the
    population's, 0 for a single frame.

    Example
    -------
    >>> MelEncoder()(torch.randn(1, 24000), torch.tensor([24000])).shape  # 128 means, then 128 sds
    torch.Size([1, 1, 256])
    """

    def __init__(self):
        identity = fingerprint({"mel": 1, "features": FEATURES}, {})
        super().__init__("mel", identity, SAMPLE_RATE, ("mel",), 2 * BANDS)
        self.features = LogMel()

    def pool(self, wave, samples):
        frames = -(-samples // HOP)
        mel = self.features.raw(wave, samples)[0].double()
        return pool_states([mel], frames, "mean_std").float()


def untrained(model, seed, pooling="mean"):
    """The same encoder with fresh weights: what the architecture alone is worth.

    Arguments
    ---------
    model : WaveEncoder
        Gives configuration and band statistics, and is not changed.
    seed : int
        Of the weights; the global random state stays as it is.
    pooling : str
        As for `ExportEncoder`.

    Returns
    -------
    ExportEncoder
        On the CPU, named "random".

    Example
    -------
    >>> model = WaveEncoder(LogMel(), Encoder(num_layers=1, d_model=16), {})
    >>> untrained(model, 0).identity == untrained(model, 1).identity
    False
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds GPUs too
        encoder = Encoder(**model.encoder.config)
    features = LogMel(model.features.normalize.kind)
    features.normalize.load_state_dict(model.features.normalize.state_dict())
    return ExportEncoder(WaveEncoder(features, encoder, {}), "random", pooling)


def make_encoders(spec, trust_remote_code=False, pooling="mean"):
    """What `--encoder` names.

    Arguments
    ---------
    spec : str | Path | list
        The folder of an export; a list of such folders; "mel"; "random:FOLDER" (untrained, with
        the configuration and the band statistics of an export); "random:FILE.yaml" (untrained,
        the yaml's `encoder`, whose modules are built as the yaml says; every band's mean is then
        -4.0 and its std 3.5, generic values of music); "hf:NAME_OR_PATH" (of `transformers`).
    trust_remote_code : bool
        Whether a model of `transformers` may bring code of its own and pickled weights.
    pooling : str
        Of hidden states over time: "mean" or "mean_std". Mel statistics are always both.

    Returns
    -------
    list of FrozenEncoder
        On the CPU; several are seeds of one system (three for "random:"), to be averaged.

    Raises
    ------
    UserError
        For anything else, exports that are no seeds of one system, and what cannot be loaded.

    Example
    -------
    >>> [encoder.name for encoder in make_encoders("mel")]
    ['mel']
    """
    if pooling not in POOLINGS:
        raise UserError(f"pooling is {pooling!r}: choose {' or '.join(POOLINGS)}")
    if isinstance(spec, (list, tuple)) and spec:
        return _seeds_of_one_system([_from_export(folder, pooling) for folder in spec])
    if isinstance(spec, (str, Path)):
        kind, _, rest = str(spec).partition(":")
        if str(spec) == "mel":
            return [MelEncoder()]
        if kind == "random" and rest:
            model = _from_yaml(Path(rest)) if rest.endswith(".yaml") else load_export(rest)
            return [untrained(model, seed, pooling) for seed in UNTRAINED_SEEDS]
        if kind == "hf" and rest:
            from speechbrain_music.models.hugging_face import HuggingFaceEncoder

            return [HuggingFaceEncoder(rest, trust_remote_code, pooling)]
        if Path(spec).exists():
            return [_from_export(spec, pooling)]
    raise UserError(f"encoder is {spec!r}: {SPECS}")


def name_specs(texts):
    """Names of encoders on a command line: NAME=SPEC, or SPEC, which then gives the name.

    Arguments
    ---------
    texts : list of str
        SPEC is what `make_encoders` takes; exports of several seeds are separated by commas.

    Returns
    -------
    dict
        Name -> spec, a list where there are several exports.

    Raises
    ------
    UserError
        If two have one name, or one has an empty one.

    Example
    -------
    >>> name_specs(["mel", "random:results/a", "mine=results/a,results/b"])
    {'mel': 'mel', 'random': 'random:results/a', 'mine': ['results/a', 'results/b']}
    """
    specs = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        parts = (spec if equals else text).split(",")
        name = name if equals else Path(text.partition(":")[0]).name
        if name in specs or not name:
            raise UserError(f"two encoders are named {name!r}: write NAME=ENCODER")
        specs[name] = parts if len(parts) > 1 else parts[0]
    return specs


def fingerprint(config, weights):
    """Hex hash of a configuration and of every weight's name, type, shape and bytes.

    Example
    -------
    >>> fingerprint({}, {"w": torch.zeros(2)}) == fingerprint({}, {"w": torch.zeros(1, 2)})
    False
    """
    digest = blake2b(json.dumps(config, sort_keys=True, default=str).encode(), digest_size=16)
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def pool_states(hidden, tokens, pooling="mean"):
    """L hidden states (B, T, d) and (B,) tokens to (B, L, d), or (B, L, 2 d) with "mean_std".

    Over an item's own tokens; the deviation is the population's, 0 for a single token.

    Example
    -------
    >>> state = torch.tensor([[[1.0], [3.0], [99.0]]])  # the last token is padding
    >>> pool_states([state], torch.tensor([2]), "mean_std")
    tensor([[[2., 1.]]])
    """
    pooled = []
    for state in hidden:
        state = state if state.dtype == torch.float64 else state.float()
        mean = _mean(state, tokens)
        if pooling == "mean_std":
            variance = _mean((state - mean.unsqueeze(1)).square(), tokens)
            mean = torch.cat([mean, variance.sqrt()], dim=1)
        pooled.append(mean)
    return torch.stack(pooled, 1)


def _mean(x, lengths):
    """(B, T, D) and (B,) steps, at least one, to (B, D)."""
    beyond = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(1)
    return x.masked_fill(beyond.unsqueeze(2), 0.0).sum(1) / lengths.unsqueeze(1)


def _from_export(folder, pooling):
    if not isinstance(folder, (str, Path)):
        raise UserError(f"encoder has {folder!r} in its list: a list holds folders of exports")
    model = load_export(folder)
    name, facts = Path(folder).resolve().name, model.config.get("training")
    if isinstance(facts, dict) and {"system", "seed"} <= facts.keys():
        name = f"{facts['system']}-{facts['seed']}"
    return ExportEncoder(model, name, pooling)


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


def _from_yaml(path):
    """The `encoder` of a pre-training's yaml; none but the keys that it refers to is loaded."""
    try:
        _, *parts = re.split(r"^(\w+)\s*:", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        blocks = dict(zip(parts[::2], parts[1::2], strict=True))
        needed, new = set(), {"encoder"}
        while new:
            needed |= new
            new = {key for name in new for key in re.findall(r"<(\w+)", blocks[name])} - needed
            new &= blocks.keys()  # a comment may hold <anything>
        text = "".join(f"{key}:{block}" for key, block in blocks.items() if key in needed)
        with torch.random.fork_rng(devices=[]):
            encoder = load_hyperpyyaml(text)["encoder"]
    except Exception as error:  # a yaml builds anything, so that it may raise anything
        fault = shorten(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{path} gives no encoder ({fault}): pass a pre-training's yaml") from error
    if not isinstance(encoder, Encoder):
        raise UserError(f"encoder in {path} is a {type(encoder).__name__}: it must be an Encoder")
    features = LogMel()
    generic = torch.ones(BANDS)
    features.normalize.set_statistics(GENERIC_MEAN * generic, GENERIC_STD * generic)
    return WaveEncoder(features, encoder, {})
