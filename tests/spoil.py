"""Ways to spoil a folder of safetensors and JSON, as a stranger or a bad disk would."""

import json
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file, save_file


def change_config(folder, change):
    """Applies a function to `config.json`'s dict."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder, change):
    """Applies a function to the dict of weights."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def truncate(name, share):
    """Cuts a file to a share of its bytes."""

    def spoil(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return spoil


def as_pickle(folder):
    """Weights that would write a file `owned` if they were unpickled."""

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
    """Writes weights of nothing but a header, which may claim another size."""

    def spoil(folder):
        text = json.dumps(header).encode()
        size_field = (size or len(text)).to_bytes(8, "little")
        (folder / "model.safetensors").write_bytes(size_field + text)

    return spoil


@contextmanager
def little_memory(more=2**29):
    """What asks for more than half a GB more fails at once."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
