"""Ways to damage a folder of safetensors and JSON."""

import json
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def change_config(folder, change):
    """Apply a function to `config.json`'s dict."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder, change):
    """Apply a function to the dict of weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


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


def in_config(change):
    """`change_config`, to be called with a folder."""
    return lambda folder: change_config(folder, change)


def in_weights(change):
    """`change_weights`, to be called with a folder."""
    return lambda folder: change_weights(folder, change)


def with_header(header, size=None):
    """Write weights of nothing but a header, which may claim another size."""

    def spoil(folder):
        text = json.dumps(header).encode()
        size_field = (size or len(text)).to_bytes(8, "little")
        (folder / "model.safetensors").write_bytes(size_field + text)

    return spoil


def in_text(text):
    """Write a configuration of that text."""
    return lambda folder: (folder / "config.json").write_text(text)


MEAN, STD = "features.normalize.mean", "features.normalize.std"
FAULTS = {  # of any such folder -> how to have it, words of the error
    "cut config": (truncate("config.json", 0.5), "config.json is damaged"),
    "empty config": (truncate("config.json", 0), "config.json is damaged"),
    "config is a list": (lambda f: (f / "config.json").write_text("[1]"), "is damaged"),
    "config is binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "other format": (in_config(lambda c: c.update(format_version=1)), "format 1, this version"),
    "other features": (in_config(lambda c: c["features"].update(hop=480)), "'hop': 480"),
    "unknown normalization": (
        in_config(lambda c: c["features"].update(normalization="os.system")),
        "normalization is 'os.system': choose band",
    ),
    "features are a list": (in_config(lambda c: c.update(features=[1])), "config.json is damaged"),
    "deep config": (in_text("[" * 10**5), "is damaged"),
    "long config": (in_text('{"encoder": "' + "a" * 2**21 + '"}'), "is damaged"),
    "long number": (in_text('{"encoder": ' + "9" * 10**5 + "}"), "is damaged"),
    "header longer than it is": (with_header({}, 2**20), "model.safetensors cannot be read"),
    "absurd header": (with_header({}, 2**60), f"a header of {2**60} bytes"),
    "cut weights": (truncate("model.safetensors", 0.5), "model.safetensors cannot be read"),
    "empty weights": (truncate("model.safetensors", 0), "model.safetensors cannot be read"),
    "pickle": (as_pickle, "model.safetensors cannot be read"),
    "missing statistics": (in_weights(lambda w: w.pop(STD)), STD),
    "mean that is no number": (in_weights(lambda w: w[MEAN].fill_(torch.inf)), "non-finite"),
    "std of zero": (in_weights(lambda w: w[STD].zero_()), "feature std"),
}


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
