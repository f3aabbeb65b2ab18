"""Models of other projects as frozen encoders: of `transformers`, MERT, MuQ, OMAR-RQ, MusicFM.

Their packages are optional extras and are imported only where they are used.
"""

import logging
import math
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from types import ModuleType
from typing import NamedTuple

import huggingface_hub
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from speechbrain_music.models.frozen_encoder import FrozenEncoder, fingerprint
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

LICENCES = dict.fromkeys(("mert", "muq"), "CC BY-NC 4.0")
LICENCES |= {"omar_rq": "CC BY-NC-SA 4.0", "musicfm": "its clone's"}
TRUST = "which may do anything: allow it with --trust_remote_code True if you trust its authors"
# Weights of which hidden states depend: of MuQ, MusicFM and OMAR-RQ; and of `transformers`, where
# one stands in for masked steps in training only, is missing in many checkpoints, and then random.
USED = re.compile(r"(model\.)?(conv|conformer\.(layers|layer_norm))\.|(net|embedding_layer)\.")
USED_HF = re.compile(r"(?!.*masked_spec_embed$)")
# Of a configuration: where a model comes from and how it was stored, not what it computes.
PROVENANCE = {"transformers_version", "architectures", "auto_map", "dtype", "torch_dtype"}
SIZES = ("num_hidden_layers", "hidden_size", "conv_kernel", "conv_stride")


class Loaded(NamedTuple):
    """A model of another project."""

    model: torch.nn.Module
    states: Callable  # (B, N) waves to L hidden states (B, T, d)
    missing: list  # names of weights that its files lack
    config: dict  # on which the hidden states depend, besides the weights
    name: str
    used: re.Pattern = USED  # of names of weights
    sample_rate: int = 24000
    frame_rate: float = 25
    shortest: int = 1025  # samples that make a frame; mel spectrograms reflect 1024
    normalize: bool = False  # waves to zero mean and unit variance


class PeerEncoder(FrozenEncoder):
    """Every hidden state of a model that takes a raw wave, by its authors' package; in float32.

    Layer 0 is the input of the first layer, in OMAR-RQ its output. Short waves are padded to one
    frame. `kind` is one of `LOADERS`; other arguments, and errors, are those of `make_encoders`.
    """

    padding_safe = False  # convolutions, norms and attention read the padding

    def __init__(self, kind, path, trust_remote_code=False, pooling="mean"):
        spec = f"{kind}:{path}"
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():  # packages set seeds
                loaded = LOADERS[kind](spec, str(path), trust_remote_code)
                missing = sorted(filter(loaded.used.match, loaded.missing))
                if missing:
                    fault = f"{len(missing)} of its weights ({shorten(', '.join(missing), 200)})"
                    raise UserError(f"{spec} lacks {fault}: take a checkpoint of the whole model")
                model = loaded.model.float().eval().requires_grad_(False)
                states = loaded.states(torch.zeros(1, loaded.shortest))
        except UserError:
            raise
        except Exception as error:  # of files and code that are not ours
            raise UserError(f"{spec} {_fault(error, kind, trust_remote_code)}") from error
        weights = {k: value for k, value in model.state_dict().items() if loaded.used.match(k)}
        super().__init__(
            name=loaded.name,
            identity=fingerprint(loaded.config | {"pooling": pooling}, weights),
            sample_rate=loaded.sample_rate,
            layers=map(str, range(len(states))),
            width=states[0].shape[2],
            frame_rate=loaded.frame_rate,
            pooling=pooling,
        )
        self.model, self.hidden_states = model, loaded.states
        self.shortest, self.normalize = loaded.shortest, loaded.normalize
        if kind in LICENCES:
            logger.warning(f"{self.name}: the licence of the weights is {LICENCES[kind]}")

    def states(self, wave, samples):
        """The hidden states of (B, N) waves, each (B, T, d), and (B,) frames."""
        if self.normalize:  # as Wav2Vec2FeatureExtractor does
            variance, mean = torch.var_mean(wave, 1, correction=0, keepdim=True)
            wave = (wave - mean) / (variance + 1e-7).sqrt()
        hidden = self.hidden_states(F.pad(wave, (0, max(0, self.shortest - wave.shape[1]))))
        return hidden, torch.full((len(wave),), hidden[0].shape[1], device=wave.device)


def _fault(error, kind, trust):
    """What is wrong with a model's files, and the remedy, by the error that they have raised."""
    if not trust and "trust_remote_code" in str(error):
        return f"brings code of its own, {TRUST}"
    if not trust and isinstance(error, OSError) and "safetensors" in str(error):
        return (
            "has no safetensors weights, and pickle files may run code: convert them, or allow "
            "them with --trust_remote_code True if you trust their authors"
        )
    remedy = "check the name, the files and the network, or pass the folder of a download"
    if isinstance(error, ImportError | AttributeError | LookupError):
        extra = "hf" if kind == "mert" else kind
        remedy = f"install the versions that it needs, pip install -e '.[{extra}]'"
    if isinstance(error, UnpicklingError):
        remedy = "take weights without pickled objects, which may run code"
    text = shorten(f"{type(error).__name__}: {error}", 200)
    return f"cannot be loaded ({text}): {remedy}"


# ---- transformers ----


def _load_hf(spec, path, trust):
    """wav2vec 2.0, HuBERT, WavLM ...: a folder or a name on huggingface.co."""
    hf = import_module("transformers")
    config = hf.AutoConfig.from_pretrained(path, trust_remote_code=trust)
    options = {"config": config, "trust_remote_code": trust}
    described = {}
    with suppress(OSError):  # there is no such file
        described, _ = hf.FeatureExtractionMixin.get_feature_extractor_dict(path)
    if "sampling_rate" not in described:  # transformers would take 16 kHz, unexpected
        raise UserError(
            f"{spec} says no sampling_rate in a preprocessor_config.json: add one with the rate "
            "that the model was trained at"
        )
    extractor = hf.AutoFeatureExtractor.from_pretrained(path, **options)
    takes_wave = type(extractor) is hf.Wav2Vec2FeatureExtractor
    if not takes_wave or not all(hasattr(config, size) for size in SIZES):
        raise UserError(f"{spec} takes no raw wave: choose a wav2vec 2.0, HuBERT or MERT")
    model, info = hf.AutoModel.from_pretrained(
        path, use_safetensors=None if trust else True, output_loading_info=True, **options
    )
    config, rate, shortest = model.config, extractor.sampling_rate, 1
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        shortest = (shortest - 1) * stride + kernel
    described = {k: v for k, v in config.to_dict().items() if k not in PROVENANCE and k[0] != "_"}
    described |= {"extractor": [rate, extractor.do_normalize], "last_state": "output"}
    states, name = partial(_hf_states, model), "hf-" + Path(path).name
    sizes = rate, rate / math.prod(config.conv_stride), shortest, extractor.do_normalize
    return Loaded(model, states, info["missing_keys"], described, name, USED_HF, *sizes)


def _hf_states(model, wave):
    """The hidden states of (B, N) waves, each (B, T, D); the last one is the output."""
    recorded = []

    def record(layer, args, kwargs, output):
        if not recorded:  # what the first layer has got
            recorded.append(args[0] if args else kwargs["hidden_states"])
        recorded.append(output[0] if isinstance(output, tuple) else output)

    layers = getattr(getattr(model, "encoder", None), "layers", ())
    hooks = [layer.register_forward_hook(record, with_kwargs=True) for layer in layers]
    try:
        output = model(wave, output_hidden_states=True)
    finally:
        for hook in hooks:
            hook.remove()
    # Since transformers 5, models with code of their own return no hidden states.
    states = list(output.hidden_states or ())
    states = states if len(states) == model.config.num_hidden_layers + 1 else recorded
    # Some versions give the last state before the final LayerNorm, others after it.
    if states[-1].shape == output.last_hidden_state.shape:
        states[-1] = output.last_hidden_state
    return states


def _load_mert(spec, size, trust):
    """MERT v1, with the commit in its name."""
    if size not in ("95M", "330M"):
        raise UserError(f"{spec} is no size of MERT: choose mert:95M or mert:330M")
    path = f"m-a-p/MERT-v1-{size}"
    loaded = _load_hf(spec, path, trust)
    cached = huggingface_hub.try_to_load_from_cache(path, "config.json")
    commit = f"-{Path(cached).parent.name:.7}" if cached else ""
    return loaded._replace(name=f"mert-{size}{commit}")


# ---- packages of their own ----


def _load_muq(spec, path, trust):
    muq = import_module("muq")
    folder, name = _fetch(spec, path, "config.json", "model.safetensors")
    model = muq.MuQ.from_pretrained(str(folder))
    stored = load_file(folder / "model.safetensors")
    missing = model.load_state_dict(stored, strict=False).missing_keys
    config, rate = {"muq": vars(model.config)}, model.config.label_rate
    return Loaded(model, lambda x: model(x).hidden_states, missing, config, name, frame_rate=rate)


def _load_omar_rq(spec, path, trust):
    omar_rq, gin = import_module("omar_rq"), import_module("gin")
    folder, name = _fetch(spec, path, "config.gin", "model.ckpt")
    text = (folder / "config.gin").read_text(encoding="utf-8")
    bindings = gin.config_parser.BindingStatement, gin.config_parser.BlockDeclaration
    statements = gin.config_parser.ConfigParser(text, gin.config.ParserDelegate(True))
    if not trust and not all(isinstance(each, bindings) for each in statements):
        raise UserError(f"{spec} imports code in its config.gin, {TRUST}")
    gin.clear_config()  # of another model
    gin.bind_parameter("build_module.ckpt_path", "")  # must be there, though it is not used
    model = omar_rq.get_model(config_file=folder / "config.gin", load_weights=False)
    stored = torch.load(folder / "model.ckpt", map_location="cpu", weights_only=True)
    missing = model.load_state_dict(stored, strict=False).missing_keys
    config = {"omar_rq": gin.config_str()}
    window, layers = getattr(model.input_rep, "win_len", 0), range(len(model.net.layers))
    shortest = max((model.patch_size[1] - 1) * model.hop_length, window // 2) + 1
    sizes = {"sample_rate": model.sr, "frame_rate": model.eps, "shortest": shortest}
    states = partial(model.extract_embeddings, layers=layers)
    return Loaded(model, states, missing, config, name, **sizes)


def _load_musicfm(spec, path, trust):
    clone = Path(path).absolute()
    files = list(clone.glob("data/pretrained_*.pt"))
    if len(files) != 1 or not (clone / "model" / "musicfm_25hz.py").is_file():
        raise UserError(f"{spec} is no clone of MusicFM with one data/pretrained_NAME.pt: pass one")
    if not trust:
        raise UserError(f"{spec} runs the code of the clone, {TRUST}")
    for module in [module for module in sys.modules if module.split(".")[0] == "musicfm"]:
        del sys.modules[module]  # of another clone
    sys.modules["musicfm"] = ModuleType("musicfm")  # whatever its folder is called
    sys.modules["musicfm"].__path__ = [str(clone)]
    code = import_module("musicfm.model.musicfm_25hz")
    name = files[0].stem.removeprefix("pretrained_")
    model = code.MusicFM25Hz(stat_path=f"{clone}/data/{name}_stats.json", model_path=None)
    stored = torch.load(files[0], map_location="cpu", weights_only=True)["state_dict"]
    stored = {key.removeprefix("model."): value for key, value in stored.items()}
    missing = model.load_state_dict(stored, strict=False).missing_keys
    config, name = {"musicfm": model.stat}, f"musicfm-{name}"
    return Loaded(model, lambda wave: model.get_predictions(wave)[1], missing, config, name)


def _fetch(spec, path, *files):
    """Return the folder of a path or hub name that has the files, and a name with the commit."""
    folder, name = Path(path), f"{spec.partition(':')[0]}-{Path(path).name}"
    if not folder.is_dir():
        if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", path):
            raise UserError(f"{spec} is no folder: pass a model's, or a name on huggingface.co")
        folder = Path(huggingface_hub.snapshot_download(path, allow_patterns=files))
        name += f"-{folder.name[:7]}"
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise UserError(f"{spec} has no {missing[0]}: pass a folder with {' and '.join(files)}")
    return folder, name


# Kind -> its function of the spec, what follows the colon in it, and trust.
LOADERS = {"hf": _load_hf, "mert": _load_mert, "muq": _load_muq, "omar_rq": _load_omar_rq}
LOADERS["musicfm"] = _load_musicfm
