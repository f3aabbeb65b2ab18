"""A folder of weights (safetensors) and plain values (JSON): reading it runs no code.

Exports of encoders and trained quantizers are such folders. Each holds the log-mel features that
its model was trained on.
"""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models import frontend
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.nnet.normalization import BandNormalization
from speechbrain_music.utils.atomic import atomic_folder
from speechbrain_music.utils.errors import UserError, did_you_mean

FORMAT_VERSION = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
RUN_YAML, RUN_RESULT = "hyperparams.yaml", "export"  # in the folder of a pre-training run
CARD = "README.md"  # a model card, which may be with them
# In a file, of a weight in memory. bfloat16 is computed in float32.
DTYPES = {torch.float32: ("F32", "BF16"), torch.int8: ("I8",)}
# Larger files are not ours: an export of 12 layers has a config of 2 KB and a header of 36 KB.
MAX_CONFIG, MAX_HEADER = 2**20, 2**24
STATISTICS = ("features.normalize.mean", "features.normalize.std")
FEATURES = {
    "sample_rate": SAMPLE_RATE,
    "n_fft": frontend.N_FFT,
    "hop": frontend.HOP,
    "bands": frontend.BANDS,
    "stack": frontend.STACK,
    "floor": frontend.FLOOR,
}


class ExportError(UserError):
    """A folder that cannot be loaded; the message names it, the fault and the remedy."""


def features_config(features):
    """All that the values of a `LogMel` depend on except its statistics, as plain values."""
    return FEATURES | {"normalization": features.normalize.kind}


def check_keys(given, known):
    """Raises ValueError for the first key of `given` that is not in `known`."""
    for key in given:
        if key not in known:
            raise ValueError(f"{key:.100} is unknown: there are {', '.join(known)}")


def write_folder(folder, features, part, config, weights, **metadata):
    """Writes both files, whole or not at all; a folder with other contents is replaced.

    `part` is "encoder" or "quantizer", the key of config.json for `config`. The statistics of the
    `LogMel` are added to the weights; `metadata` becomes config.json's "training".
    """
    statistics = (features.normalize.mean, features.normalize.std)
    weights = weights | dict(zip(STATISTICS, statistics, strict=True))
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    model = {"features": features_config(features), part: config}
    described = {
        "format_version": FORMAT_VERSION,
        **model,
        "training": metadata,
        "weights": fingerprint(model, weights),
    }
    files = {
        WEIGHTS: save(weights),  # save_file hides it from other users
        CONFIG: (json.dumps(described, indent=2) + "\n").encode(),
    }
    paths = [Path(folder, name) for name in files]
    if {path.name: path.read_bytes() for path in paths if path.is_file()} == files:
        return
    if Path(folder).is_dir() and any(Path(folder).iterdir()) and not _is_ours(paths[1], part):
        raise ExportError(f"{folder} holds files that are no {part}'s: choose a new folder")
    with atomic_folder(folder, {*files, CARD}) as staging:
        for name, contents in files.items():
            (staging / name).write_bytes(contents)
        if Path(folder, CARD).is_file():
            shutil.copy(Path(folder, CARD), staging)


def _is_ours(path, part):
    """Whether config.json is one that `write_folder` has written, or the rest of one."""
    try:
        found = set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError):
        return False
    except (ValueError, RecursionError):  # no JSON at all; other names are checked by the caller
        return set(os.listdir(path.parent)) <= {WEIGHTS, CONFIG, CARD}
    return len(found & {"format_version", "features", part, "training"}) > 1


def read_folder(folder, part, expected_shapes):
    """Reads a folder of anyone; memory is taken only for what its file holds.

    `expected_shapes` maps the part's config and the number of tensors in the file to the
    `state_shapes` of all weights; what it raises says why the config is wrong. Returns
    config.json's dict, the part's weights and a `LogMel` with the features' statistics. Raises
    ExportError for everything else than a whole folder of this format.
    """
    folder = Path(folder)
    path, weights_path = folder / CONFIG, folder / WEIGHTS
    remedy = "export it again" if part == "encoder" else "train it again"
    if not path.is_file() or not weights_path.is_file():
        what = "export" if part == "encoder" else f"trained {part}"
        inside = folder / (RUN_RESULT if part == "encoder" else part)
        if inside.is_dir():
            raise ExportError(f"{folder} is the folder of a run, not an export: pass {inside}")
        if part == "encoder" and (folder / RUN_YAML).is_file():
            raise ExportError(
                f"{folder} is the folder of a run, not an export: make one with "
                f"`sbmusic export {folder}`"
            )
        if not folder.exists():
            siblings = os.listdir(folder.parent) if folder.parent.is_dir() else []
            hint = did_you_mean(folder, siblings, "check the path")
            raise ExportError(f"{folder} is no {what}, it does not exist: {hint}")
        raise ExportError(f"{folder} is no {what}: it needs {CONFIG} and {WEIGHTS}")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.loads(file.read(MAX_CONFIG))
        version, features, described, _ = (
            config[key] for key in ("format_version", "features", part, "training")
        )
        normalization = features["normalization"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ExportError(f"{path} is damaged ({error!r:.200}): {remedy}") from None
    if version != FORMAT_VERSION:
        raise ExportError(
            f"{folder} has format {version!r:.100}, this version reads {FORMAT_VERSION}: install "
            "the matching version of speechbrain_music"
        )
    if features != FEATURES | {"normalization": normalization}:
        raise ExportError(f"{folder} was made with features {features!r:.200}, not {FEATURES}")
    try:
        with open(weights_path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > MAX_HEADER:
            raise SafetensorError(f"a header of {header} bytes, at most {MAX_HEADER} are read")
        with safe_open(weights_path, "pt") as file:
            found = set(file.keys())
            try:
                check_keys(config, ("format_version", "features", part, "training", "weights"))
                BandNormalization(1, normalization)
                shapes = expected_shapes(described, len(found))
            except (ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError) as error:
                fault = str(error).partition("\n")[0]  # torch adds its stack
                raise ExportError(f"{path} describes no {part} ({fault:.300})") from None
            shapes |= dict.fromkeys(STATISTICS, (["F32"], [frontend.BANDS]))
            fault = _misfit(file, found, shapes)
            if fault:
                raise ExportError(f"the weights in {folder} do not fit its {CONFIG}: {fault}")
            # Copies: mapped tensors would change with the file.
            weights = {name: file.get_tensor(name).clone() for name in found}
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{weights_path} cannot be read ({error!s:.300}): {remedy}") from None
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ExportError(f"{weights_path} has non-finite values in {name}: {remedy}")
    if not (weights[STATISTICS[1]] > 0).all():
        raise ExportError(f"{weights_path} has a feature std that is not above 0: {remedy}")
    model = {"features": features, part: described}
    # Older ones have no hash, or one of the weights alone.
    if config.get("weights") not in (None, *(fingerprint(c, weights) for c in ({}, model))):
        raise ExportError(
            f"{weights_path} is not the file that {CONFIG} was written with, is damaged, or was "
            f"being replaced: run the same command again, or {remedy}"
        )
    weights = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in weights.items()}
    mean, std = (weights.pop(name) for name in STATISTICS)
    log_mel = frontend.LogMel(normalization)
    log_mel.normalize.load_state_dict({"mean": mean, "std": std})
    return config, weights, log_mel


def _misfit(file, found, shapes):
    """The first difference between a file's header and the `state_shapes` wanted, or None."""
    for name in sorted(found | shapes.keys()):
        if name not in shapes:
            return f"{name:.200} is unknown"
        if name not in found:
            return f"{name} is missing"
        part, (dtypes, shape) = file.get_slice(name), shapes[name]
        if part.get_shape() != shape or part.get_dtype() not in dtypes:
            given = f"{part.get_dtype()} of shape {part.get_shape()}"
            return f"{name} is {given}, not {' or '.join(dtypes)} of {shape}"
    return None


def weights_of(weights, prefix):
    """Those of the weights whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def state_shapes(module):
    """Name -> types that a file may have, and shape as a list, of a module's state dict."""
    state = module.state_dict()
    return {name: (DTYPES[value.dtype], list(value.shape)) for name, value in state.items()}
