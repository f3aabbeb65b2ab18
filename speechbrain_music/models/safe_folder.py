"""A folder of weights (safetensors) and plain values (JSON): reading it runs no code.

Exports of encoders and trained quantizers are such folders. Each holds the log-mel features that
its model was trained on.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models import frontend
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, did_you_mean

FORMAT_VERSION = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
RUN_YAML, RUN_RESULT = "hyperparams.yaml", "export"  # in the folder of a pre-training run
MAX_CONFIG = 2**20  # bytes; that of an export of 12 layers has 2 KB
FEATURES = {
    "sample_rate": SAMPLE_RATE,
    "n_fft": frontend.N_FFT,
    "hop": frontend.HOP,
    "bands": frontend.BANDS,
    "stack": frontend.STACK,
    "floor": frontend.FLOOR,
}


def features_config(features):
    """All that the values of a `LogMel` depend on except its statistics, as plain values."""
    return FEATURES | {"normalization": features.normalize.kind}


def check_keys(given, known):
    """Raises ValueError for the first key of `given` that is not in `known`."""
    for key in given:
        if key not in known:
            raise ValueError(f"{key:.100} is unknown: there are {', '.join(known)}")


def check_whole(name, value, highest):
    """Raises ValueError for what is no whole number from 0 to `highest`."""
    if type(value) is not int or not 0 <= value <= highest:
        raise ValueError(f"{name} is {value!r:.100}: it must be a whole number from 0 to {highest}")


def write_folder(folder, features, part, config, modules, **metadata):
    """Writes both files, or none; other files of the folder stay as they are.

    `part` is "encoder" or "quantizer", the key of config.json for `config`. The weights are those
    of `modules`, a dict by name, and the statistics of the `LogMel`; `metadata` becomes
    config.json's "training".
    """
    weights = _joined(modules, features).state_dict()
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    model = {"features": features_config(features), part: config}
    described = {
        "format_version": FORMAT_VERSION,
        **model,
        "training": metadata,
        "weights": fingerprint(model, weights),
    }
    files = {
        Path(folder, CONFIG): (json.dumps(described, indent=2) + "\n").encode(),
        Path(folder, WEIGHTS): save(weights),  # save_file hides it from other users
    }
    if {path: path.read_bytes() for path in files if path.is_file()} == files:
        return
    if any(path.exists() for path in files) and not _is_ours(Path(folder, CONFIG)):
        raise UserError(f"{folder} holds files that are no {part}'s: choose a new folder")
    write_together(files)


def _is_ours(path):
    """Whether config.json is one that `write_folder` has written, or the rest of one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return False
    except (ValueError, RecursionError):  # no JSON at all
        return True
    return isinstance(found, dict) and "format_version" in found


def read_folder(folder, part, build):
    """Reads a folder of anyone; memory is taken only for what its file holds.

    `build` makes the modules, a dict by name, from the part's config, on the device "meta"; what it
    raises says why the config is wrong. Returns config.json's dict, the modules with their weights
    and a `LogMel` with the features' statistics. Raises UserError for everything else than a
    whole folder of this format.
    """
    folder = Path(folder)
    path, weights_path = folder / CONFIG, folder / WEIGHTS
    remedy = "export it again" if part == "encoder" else "train it again"
    if not path.is_file() or not weights_path.is_file():
        what, inside = ("export", RUN_RESULT) if part == "encoder" else (f"trained {part}", part)
        fault = f"it needs {CONFIG} and {WEIGHTS}"
        if (folder / inside).is_dir():
            fault = f"it is the folder of a run: pass {folder / inside}"
        elif part == "encoder" and (folder / RUN_YAML).is_file():
            fault = f"it is the folder of a run: make one with `sbmusic export {folder}`"
        elif not folder.exists():
            fault = f"it does not exist: {did_you_mean(folder, 'check the path')}"
        raise UserError(f"{folder} is no {what}, {fault}")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.loads(file.read(MAX_CONFIG))
        version, features, described, _ = (
            config[key] for key in ("format_version", "features", part, "training")
        )
        normalization = features["normalization"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error!r:.200}): {remedy}") from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{folder} has format {version!r:.100}, this version reads {FORMAT_VERSION}: install "
            "the matching version of speechbrain_music"
        )
    if features != FEATURES | {"normalization": normalization}:
        raise UserError(f"{folder} was made with features {features!r:.200}, not {FEATURES}")
    try:
        check_keys(config, ("format_version", "features", part, "training", "weights"))
        log_mel, modules = frontend.LogMel(normalization), build(described)
    except (ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        fault = str(error).partition("\n")[0]  # torch adds its stack
        raise UserError(f"{path} describes no {part} ({fault:.300})") from None
    joined, fits_not = _joined(modules, log_mel), f"the weights in {folder} do not fit its {CONFIG}"
    try:  # copies: mapped tensors would change with the file
        weights = {name: value.clone() for name, value in load_file(weights_path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights_path} cannot be read ({error!s:.300}): {remedy}") from None
    # bfloat16 is computed in float32.
    values = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in weights.items()}
    wanted = {name: value.dtype for name, value in joined.state_dict().items()}
    try:
        joined.load_state_dict(values, assign=True)
    except RuntimeError as error:
        fault = " ".join(str(error).split()).partition(": ")[2]
        raise UserError(f"{fits_not}: {fault:.300}") from None
    for name, value in values.items():
        if value.dtype != wanted[name]:
            raise UserError(f"{fits_not}: {name} is {weights[name].dtype}, not {wanted[name]}")
        if not value.isfinite().all():
            raise UserError(f"{weights_path} has non-finite values in {name}: {remedy}")
    if not (log_mel.normalize.std > 0).all():
        raise UserError(f"{weights_path} has a feature std that is not above 0: {remedy}")
    model = {"features": features, part: described}
    # Older ones have no hash, or one of the weights alone.
    if config.get("weights") not in (None, *(fingerprint(c, weights) for c in ({}, model))):
        raise UserError(
            f"{weights_path} is not the file that {CONFIG} was written with, is damaged, or was "
            f"being replaced: run the same command again, or {remedy}"
        )
    return config, modules, log_mel


def _joined(modules, features):
    """All that the weights are of, as one module: the modules, and the features' statistics."""
    return nn.ModuleDict(modules | {"features": nn.ModuleDict({"normalize": features.normalize})})
