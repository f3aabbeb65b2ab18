"""Random draws: a generator per key, and choices by weight."""

from pathlib import Path

import numpy as np
import yaml

from speechbrain_music.utils.errors import UserError

# First numbers of keys after the seed: one per purpose, so that no two purposes share draws.
ARTIST, TRACK, LENGTH = 0, 1, 2  # of a corpus
STYLE, PIECE, PLAN = 10, 11, 12  # of a replica
FIRST = 0  # last number of the keys of audio: the attempt to draw it, of which there is one


def read_yaml(name):
    """Return the content of a YAML file beside this module."""
    return yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def keyed(*key):
    """Return a numpy Generator that depends on the key alone: a seed, then numbers of 0 or more."""
    if key[0] < 0:
        raise UserError(f"seed is {key[0]}; it must be 0 or more.")
    return np.random.default_rng([1, *key])


def choose(rng, weights):
    """Draw a key of {key: weight} by weight."""
    keys = list(weights)
    total = sum(weights.values())
    return keys[int(rng.choice(len(keys), p=[weights[key] / total for key in keys]))]
