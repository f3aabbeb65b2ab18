"""Ways to damage a folder of safetensors and JSON."""

import json
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechbrain_music.utils.errors import UserError


def in_config(change):
    """Apply a function to `config.json`'s dict, of the folder that is passed next."""

    def spoil(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return spoil


def in_weights(change):
    """Apply a function to the dict of weights, of the folder that is passed next; drop the hash."""

    def spoil(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        in_config(lambda config: config.pop("weights", None))(folder)

    return spoil


def truncate(name, share):
    """Cut a file to a share of its bytes."""

    def spoil(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return spoil


def as_pickle(folder):
    """Write weights that would create a file `owned` if they were unpickled."""

    class Hostile:
        def __reduce__(self):
            return open, (str(folder / "owned"), "w")

    (folder / "model.safetensors").write_bytes(pickle.dumps({"encoder": Hostile()}))


def with_header(header, size=None):
    """Write weights of nothing but a header, which may claim another size."""

    def spoil(folder):
        text = json.dumps(header).encode()
        size_field = (size or len(text)).to_bytes(8, "little")
        (folder / "model.safetensors").write_bytes(size_field + text)

    return spoil


def in_text(data):
    """Write a configuration of these bytes."""
    return lambda folder: (folder / "config.json").write_bytes(data)


def faults(part, weight):
    """Map faults of a folder of this part, with this weight, to how to make one and the error."""
    mean, std = "features.normalize.mean", "features.normalize.std"
    weights, config = "model.safetensors cannot be read", "config.json is damaged"
    return {
        "no weights": (lambda f: (f / "model.safetensors").unlink(), "it needs config.json and"),
        "no config": (lambda f: (f / "config.json").unlink(), "it needs config.json and"),
        "cut config": (truncate("config.json", 0.5), config),
        "config is a list": (in_text(b"[1]"), config),
        "config is binary": (in_text(b"\xff\xfe\x00"), config),
        "deep config": (in_text(b"[" * 10**5), config),
        "long config": (in_text(b'{"encoder": "' + b"a" * 2**21 + b'"}'), config),
        "long number": (in_text(b'{"encoder": ' + b"9" * 10**5 + b"}"), config),
        "no part": (in_config(lambda c: c.pop(part)), config),
        "other format": (in_config(lambda c: c.update(format_version=1)), "format 1, this version"),
        "other features": (in_config(lambda c: c["features"].update(hop=480)), "'hop': 480"),
        "unknown normalization": (
            in_config(lambda c: c["features"].update(normalization="os.system")),
            "normalization is 'os.system': choose band",
        ),
        "code of its own": (in_config(lambda c: c.update(auto_map={})), "auto_map is unknown"),
        "unknown key": (in_config(lambda c: c[part].update(hidden=3)), "hidden is unknown"),
        "header longer than it is": (with_header({}, 2**20), weights),
        "absurd header": (with_header({}, 2**60), "header too large"),
        "cut weights": (truncate("model.safetensors", 0.5), weights),
        "empty weights": (truncate("model.safetensors", 0), weights),
        "pickle": (as_pickle, weights),
        "extra weight": (
            in_weights(lambda w: w.update(extra=torch.ones(1))),
            'Unexpected key(s) in state_dict: "extra"',
        ),
        "missing weight": (
            in_weights(lambda w: w.pop(weight)),
            f'Missing key(s) in state_dict: "{weight}"',
        ),
        "missing statistics": (
            in_weights(lambda w: w.pop(std)),
            f'Missing key(s) in state_dict: "{std}"',
        ),
        "other shape": (in_weights(lambda w: w.update({weight: torch.ones(4)})), weight),
        "other type": (
            in_weights(lambda w: w.update({weight: w[weight].half()})),
            "torch.float16, not torch.float32",
        ),
        "non-finite weight": (in_weights(lambda w: w[weight].fill_(torch.nan)), "non-finite"),
        "non-finite mean": (in_weights(lambda w: w[mean].fill_(torch.inf)), "non-finite"),
        "std of zero": (in_weights(lambda w: w[std].zero_()), "feature std"),
    }


def refused(load, folder, words):
    """Check that loading fails with one sentence, little memory, and no code of the folder run."""
    with pytest.raises(UserError) as caught, little_memory():
        load(folder)
    message = str(caught.value)
    assert str(folder) in message and words in message and "\n" not in message
    assert len(message) < len(str(folder)) + 700
    assert not (folder / "owned").exists()


@contextmanager
def little_memory(more=2**29):
    """Let an allocation of more than half a GB fail at once."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
