"""Weights as safetensors and all else as JSON: a folder that holds no code, from whomever it is."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models import frontend
from speechbrain_music.nnet.normalization import BandNormalization
from speechbrain_music.utils.atomic import atomic_folder

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
DTYPE = "F32"
# What is larger is not ours: one of 12 layers has a configuration of 1 KB and a header of 36 KB.
MAX_CONFIG, MAX_HEADER = 2**20, 2**24
STATISTICS = tuple(f"features.normalize.{name}" for name in ("mean", "std"))
FEATURES = {
    "sample_rate": SAMPLE_RATE,
    "n_fft": frontend.N_FFT,
    "hop": frontend.HOP,
    "bands": frontend.BANDS,
    "stack": frontend.STACK,
    "floor": frontend.FLOOR,
}


def features_config(features):
    """All that the values of a `LogMel` depend on, but its statistics, as plain values.

    Example
    -------
    >>> features_config(frontend.LogMel("instance"))["normalization"]
    'instance'
    """
    return FEATURES | {"normalization": features.normalize.kind}


def on_meta_device(make, *args, **config):
    """A module whose weights have shapes, and take no memory.

    Example
    -------
    >>> on_meta_device(torch.nn.Linear, 10**6, 10**6).weight.shape
    torch.Size([1000000, 1000000])
    """
    with torch.device("meta"):
        return make(*args, **config)


def check_keys(given, known):
    """Raises ValueError for the first key of `given` that is not in `known`.

    Example
    -------
    >>> check_keys({"width": 3}, ("depth", "height"))
    Traceback (most recent call last):
    ...
    ValueError: width is unknown: there are depth, height
    """
    for key in given:
        if key not in known:
            raise ValueError(f"{key:.100} is unknown: there are {', '.join(known)}")


class SafeFolder(NamedTuple):
    """How one kind of thing is kept, with the log-mel features it was trained on.

    Attributes
    ----------
    what, part, remedy : str
        What the folder is called in messages, what the configuration describes (a key of it), and
        what to do if the folder is damaged.
    error : type
        A `UserError`, raised for all that is wrong; its message is one sentence.

    Example
    -------
    >>> from speechbrain_music.utils.errors import UserError
    >>> files = SafeFolder("thing", "size", "make it again", UserError)
    >>> folder = getfixture("tmp_path") / "thing"
    >>> files.write(folder, frontend.LogMel(), {"n": 3}, {"w": torch.ones(3)}, step=7)
    >>> files.read_config(folder, check=lambda size: None)["size"]
    {'n': 3}
    >>> needed = {"w": [4]} | dict.fromkeys(STATISTICS, [128])
    >>> try:
    ...     files.read_weights(folder, needed.get, needed, "a thing")
    ... except UserError as error:
    ...     print(str(error).partition("do not fit its ")[2])
    config.json: w is F32 of shape [3], not F32 of [4]
    """

    what: str
    part: str
    remedy: str
    error: type

    def write(self, folder, features, config, weights, **facts):
        """Writes both files, whole or not at all; a folder that is there already is replaced.

        Arguments
        ---------
        folder : path
            Is made.
        features : LogMel
            With the corpus's statistics.
        config : dict
            Plain values, of the `part`.
        weights : dict
            Name -> tensor; the features' statistics are added.
        **facts
            Plain values to keep beside them.
        """
        described = {
            "format_version": FORMAT_VERSION,
            "features": features_config(features),
            self.part: config,
            "training": facts,
        }
        statistics = (features.normalize.mean, features.normalize.std)
        weights = weights | dict(zip(STATISTICS, statistics, strict=True))
        weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        with atomic_folder(folder) as staging:
            (staging / WEIGHTS).write_bytes(save(weights))  # save_file hides it from other users
            text = json.dumps(described, indent=2) + "\n"
            (staging / CONFIG).write_text(text, encoding="utf-8")

    def read_config(self, folder, check):
        """The configuration, after `check(part)`, which raises for what the part cannot be."""
        path, keys = Path(folder, CONFIG), ("format_version", "features", self.part, "training")
        if not path.is_file() or not Path(folder, WEIGHTS).is_file():
            raise self.error(f"{folder} is no {self.what}: it needs {CONFIG} and {WEIGHTS}")
        try:
            with open(path, encoding="utf-8") as file:
                config = json.loads(file.read(MAX_CONFIG))
            version, features, part = (config[key] for key in keys[:3])
            config["features"] = features = {"normalization": "band"} | features  # once the only
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise self.error(f"{path} is damaged ({error!r:.200}): {self.remedy}") from None
        if version != FORMAT_VERSION:
            raise self.error(
                f"{folder} has {self.what} format {version!r:.100}, this version reads "
                f"{FORMAT_VERSION}: install the matching version of speechbrain_music"
            )
        if features != FEATURES | {"normalization": features["normalization"]}:
            raise self.error(
                f"{folder} was made with features {features!r:.200}, this version: {FEATURES}"
            )
        try:
            check_keys(config, keys)
            BandNormalization(1, features["normalization"])
            check(part)
        except (AttributeError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            fault = str(error).partition("\n")[0]  # torch adds its stack
            raise self.error(f"{path} describes no {self.part} ({fault:.300})") from None
        return config

    def read_weights(self, folder, shape_of, names, owner):
        """All weights, of which no more memory is taken than the file holds.

        Arguments
        ---------
        folder : path
            Whose configuration was read.
        shape_of : callable
            Name -> the shape it must have, a list; None if there is no such weight.
        names : iterable of str
            All that must be there.
        owner : str
            Whose weights they are, for messages.

        Returns
        -------
        weights : dict
            Name -> tensor, without the statistics.
        statistics : dict
            "mean" and "std" of the features, (128,) each.
        """
        path = Path(folder, WEIGHTS)
        try:
            with open(path, "rb") as file:
                header = int.from_bytes(file.read(8), "little")
            if header > MAX_HEADER:
                raise SafetensorError(f"a header of {header} bytes, at most {MAX_HEADER} are read")
            with safe_open(path, "pt") as file:
                fault = _misfit(file, shape_of, names, owner)
                if fault:
                    raise self.error(f"the weights in {folder} do not fit its {CONFIG}: {fault}")
                # Copies: what is given out is mapped, and would change with the file.
                weights = {name: file.get_tensor(name).clone() for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise self.error(f"{path} cannot be read ({error!s:.300}): {self.remedy}") from None
        for name, value in weights.items():
            if not value.isfinite().all():
                raise self.error(f"{path} has values in {name} that are not finite: {self.remedy}")
        mean, std = (weights.pop(name) for name in STATISTICS)
        if not (std > 0).all():
            raise self.error(f"{path} has a std of the features that is not above 0: {self.remedy}")
        return weights, {"mean": mean, "std": std}


def _misfit(file, shape_of, names, owner):
    """The first thing in which a file's header differs from what is needed; None if nothing does.

    Never more is looked at than the header holds.
    """
    found = set(file.keys())
    for name in found:
        shape = shape_of(name)
        if shape is None:
            return f"{name:.200} is not in {owner}"
        part = file.get_slice(name)
        if part.get_shape() != shape or part.get_dtype() != DTYPE:
            return (
                f"{name} is {part.get_dtype()} of shape {part.get_shape()}, not {DTYPE} of {shape}"
            )
    for name in names:
        if name not in found:
            return f"{name} is missing"
    return None
