"""Kinds of values that an option may have: what fits, the words for it, how its text is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from ruamel.yaml import YAML, YAMLError

BEYOND = 2**31  # a count, at most


def yaml_value(text):
    """A YAML 1.2 value; what is no scalar or list stays text."""
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):  # a date such as 2020-13-45
        return text
    return text if isinstance(value, dict) else value


def given(text):
    """The same on a command line, where nothing but null and ~ is None."""
    value = yaml_value(text)
    return text if value is None and text.strip().lower() not in ("null", "~") else value


class Kind(NamedTuple):
    """Values that an option may have: a test, words after "it must be", a parser of its text."""

    fits: Callable
    allowed: str
    parse: Callable = given


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    """Not isfinite, which cannot take a whole number that no float holds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def whole_number(low, high=None):
    """Whole numbers from `low` on, or to `high`."""
    allowed = f"of {low} or more" if high is None else f"from {low} to {high}"
    high = BEYOND if high is None else high
    return Kind(lambda x: _is_int(x) and low <= x <= high, f"a whole number {allowed}")


def number(low, high):
    """Numbers from `low` to `high`; see `positive` for those above 0."""
    return Kind(lambda x: _is_number(x) and low <= x <= high, f"from {low:g} to {high:g}")


def positive_to(high):
    """Numbers above 0, at most `high`."""
    return Kind(lambda x: _is_number(x) and 0 < x <= high, f"above 0, at most {high:g}")


whole = whole_number(1)
natural = whole_number(0)
# Of a model: a larger one is a slip, and building it takes all memory, or forever.
size = whole_number(1, 2**16)
workers = whole_number(0, 64)
seed = whole_number(0, 2**32 - 1)
positive = Kind(lambda x: _is_number(x) and x > 0, "above 0")
not_negative = Kind(lambda x: _is_number(x) and x >= 0, "0 or more")
learning_rate = positive_to(1000)
share = Kind(lambda x: _is_number(x) and 0 < x < 1, "between 0 and 1")
dropout = Kind(lambda x: _is_number(x) and 0 <= x < 1, "at least 0 and less than 1")
boolean = Kind(lambda x: isinstance(x, bool), "true or false")
# Text is taken as it is: a folder may be named 007, true or [live].
text = Kind(lambda x: isinstance(x, str), "text", str)
path = Kind(lambda x: isinstance(x, (str, Path)) and str(x) != "", "a path", str)


def built(fits, what):
    """An object that the yaml builds; on a command line its class can be exchanged."""
    return Kind(fits, f"{what} that the yaml builds", None)


module = built(lambda x: isinstance(x, torch.nn.Module), "a torch module")
factory = built(callable, "a class or function")
yaml_object = built(lambda x: x is not None and not isinstance(x, (str, float, int)), "an object")
task = built(lambda x: hasattr(x, "metrics"), "a task (of speechbrain_music.metrics.tasks)")
mapping = built(lambda x: isinstance(x, dict), "a mapping")


def choice(*values):
    """One of some values."""
    return Kind(lambda x: any(x is v or x == v and type(x) is type(v) for v in values),
                f"{', '.join(map(str, values[:-1]))} or {values[-1]}")  # fmt: skip


def optional(kind):
    """What `kind` allows, or null; a path or text on the command line is never null."""
    return Kind(lambda x: x is None or kind.fits(x), f"{kind.allowed}, or null", kind.parse)


def list_of(kind):
    """A list of one or more values of a kind."""
    return Kind(
        lambda x: isinstance(x, list) and len(x) > 0 and all(map(kind.fits, x)),
        f"a list, and each value {kind.allowed}",
    )


def _text_or_list(given):
    try:
        values = json.loads(given)
    except ValueError:
        return given
    return values if isinstance(values, list) else given


texts = Kind(
    lambda x: path.fits(x) or list_of(path).fits(x),
    'text, or a list of texts such as ["a", "b"]',
    _text_or_list,
)


def _device_exists(name):
    try:
        return torch.empty(0, device=name).device.type in ("cpu", "cuda", "mps")
    except (RuntimeError, AssertionError, TypeError, ImportError):
        return False


device = Kind(_device_exists, "cpu, or a GPU that torch finds here, such as cuda:0", str)


def read(file):
    """Section -> option -> `Kind`, from a yaml of such sections; see `named`."""
    sections = YAML(typ="safe", pure=True).load(Path(file))
    return {section: named(options) for section, options in sections.items()}


def named(options):
    """Option -> `Kind`, by their names here.

    A kind is its name, `{name: [argument, ...]}`, or `{optional: kind}`, `{list_of: kind}`.
    """
    return {option: _named(kind) for option, kind in options.items()}


def _named(kind):
    if isinstance(kind, str):
        return globals()[kind]
    [(name, arguments)] = kind.items()
    plain = isinstance(arguments, list)
    return globals()[name](*(arguments if plain else [_named(arguments)]))
