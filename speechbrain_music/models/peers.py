"""MuQ, OMAR-RQ, MusicFM and MERT as frozen encoders; the packages are imported where needed."""

import logging
import re
import sys
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from types import ModuleType

import huggingface_hub
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from speechbrain_music.models.frozen_encoder import FrozenEncoder, fingerprint
from speechbrain_music.models.hugging_face import HuggingFaceEncoder
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

LICENCES = {"muq": "CC BY-NC 4.0", "omar_rq": "CC BY-NC-SA 4.0", "musicfm": "its clone's"}
TRUST = "which may do anything: allow it with --trust_remote_code True if you trust its authors"
# Weights of which hidden states depend: of MuQ and MusicFM, and of OMAR-RQ.
USED = re.compile(r"(model\.)?(conv|conformer\.(layers|layer_norm))\.|(net|embedding_layer)\.")
MEL = {"sample_rate": 24000, "frame_rate": 25, "shortest": 1025}  # it reflects 1024 samples


class PeerEncoder(FrozenEncoder):
    """Every hidden state of a model that takes a raw wave, by its authors' package; in float32.

    Layer 0 is the input of the first layer, in OMAR-RQ its output. Short waves are padded to one
    frame. `kind` is one of `LICENCES`; other arguments, and errors, are those of `make_encoders`.
    """

    def __init__(self, kind, path, trust_remote_code=False, pooling="mean"):
        spec = f"{kind}:{path}"
        load = {"muq": _load_muq, "omar_rq": _load_omar_rq, "musicfm": _load_musicfm}[kind]
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():  # packages set seeds
                model, hidden_states, stored, config, sizes = load(spec, path, trust_remote_code)
                found = model.load_state_dict(stored, strict=False)
                if missing := list(filter(USED.match, found.missing_keys)):
                    raise UserError(f"{spec} lacks {missing[0]}, a weight: download it again")
                model = model.float().eval().requires_grad_(False)
                shortest = sizes.pop("shortest")
                states = hidden_states(torch.zeros(1, shortest))
        except UserError:
            raise
        except Exception as error:  # of files and code that are not ours
            text = shorten(f"{type(error).__name__}: {error}", 200)
            remedy = "check the name, the files and the network, or pass the folder of a download"
            if isinstance(error, ImportError | AttributeError | LookupError):
                remedy = f"install the versions that it needs, pip install -e '.[{kind}]'"
            if isinstance(error, UnpicklingError):
                remedy = "take weights without pickled objects, which may run code"
            raise UserError(f"{spec} cannot be loaded ({text}): {remedy}") from error
        weights = {key: value for key, value in model.state_dict().items() if USED.match(key)}
        identity = fingerprint({kind: config, "pooling": pooling}, weights)
        sizes |= {"layers": map(str, range(len(states))), "width": states[0].shape[2]}
        # Convolutions and attention read the padding.
        super().__init__(identity=identity, pooling=pooling, padding_safe=False, **sizes)
        self.model, self.hidden_states, self.shortest = model, hidden_states, shortest
        logger.warning(f"{self.name}: the licence of the weights is {LICENCES[kind]}")

    def states(self, wave, samples):
        """The hidden states of (B, N) waves, each (B, T, d), and (B,) frames."""
        hidden = self.hidden_states(F.pad(wave, (0, max(0, self.shortest - wave.shape[1]))))
        return hidden, torch.full((len(wave),), hidden[0].shape[1], device=wave.device)


# Each gives a model, its function of (B, N) waves to L states (B, T, d), the stored weights, the
# configuration, and name, sample_rate, frame_rate and the fewest samples that make a frame.
def _load_muq(spec, path, trust):
    muq = import_module("muq")
    folder, name = _fetch(spec, path, "config.json", "model.safetensors")
    model, stored = muq.MuQ.from_pretrained(str(folder)), load_file(folder / "model.safetensors")
    sizes = MEL | {"name": name, "frame_rate": model.config.label_rate}
    return model, lambda wave: model(wave).hidden_states, stored, vars(model.config), sizes


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
    window, layers = getattr(model.input_rep, "win_len", 0), range(len(model.net.layers))
    shortest = max((model.patch_size[1] - 1) * model.hop_length, window // 2) + 1
    sizes = {"name": name, "sample_rate": model.sr, "frame_rate": model.eps, "shortest": shortest}
    return model, lambda x: model.extract_embeddings(x, layers), stored, gin.config_str(), sizes


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
    sizes = MEL | {"name": f"musicfm-{name}"}
    return model, lambda wave: model.get_predictions(wave)[1], stored, model.stat, sizes


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


def make_mert(size, trust_remote_code=False, pooling="mean"):
    """Return MERT v1, of "95M" or "330M", with the commit in its name."""
    encoder = HuggingFaceEncoder(f"m-a-p/MERT-v1-{size}", trust_remote_code, pooling)
    cached = huggingface_hub.try_to_load_from_cache(f"m-a-p/MERT-v1-{size}", "config.json")
    encoder.name = f"mert-{size}" + (f"-{Path(cached).parent.name:.7}" if cached else "")
    logger.warning(f"{encoder.name}: the licence of the weights is CC BY-NC 4.0")
    return encoder
