"""Parts of an encoder as plain values (a class's name and its arguments), and back.

A part is a class, or a `functools.partial` of it, as HyperPyYAML's `!name:` makes it. Shipped
classes are written by their bare name. Any other class is written by its full name and is used
only if the caller passes that class: nothing is imported because a file names it.
"""

import inspect
import math
import pkgutil
from collections.abc import Callable
from functools import partial
from typing import get_type_hints

from speechbrain_music.models.attention import RelativeAttention
from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.frontend import ConvFrontEnd
from speechbrain_music.nnet.attention import RotaryAttention
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.utils.errors import UserError

# Blocks and mixers by the names that `make_encoder` takes.
BLOCKS = {"branchformer": BranchformerLayer, "conformer": ConformerLayer}
MIXERS = {"summary": SummaryMixing, "attention": RelativeAttention, "rope": RotaryAttention}
OWN_PARTS = (ConvFrontEnd, *BLOCKS.values(), *MIXERS.values())
CLASS = "class"  # the key of a part's name
MAX_VALUES = 16  # of a list: widths of hidden layers


def _name(part_class):
    if part_class in OWN_PARTS:
        return part_class.__name__
    return f"{part_class.__module__}.{part_class.__qualname__}"


def part_config(part):
    """A part as a dict: "class", and all arguments with their defaults, nested parts included.

    A `lookahead` of None is left out: fingerprints of encoders are older than that argument. Raises
    TypeError if an argument is neither a plain value nor a part.
    """
    part = part if isinstance(part, partial) else partial(part)
    part_class = part.func
    bound = inspect.signature(part_class).bind(*part.args, **part.keywords)
    bound.apply_defaults()
    return {CLASS: _name(part_class)} | {
        key: _plain(value, f"{key} of {_name(part_class)}")
        for key, value in bound.arguments.items()
        if (key, value) != ("lookahead", None)
    }


def _plain(value, what):
    if isinstance(value, (partial, type)):
        return part_config(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, what) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{what} is a {type(value).__name__}: an export holds plain values only")


def build_part(config, classes=()):
    """The part that `part_config` described, as a `functools.partial`; nothing is constructed.

    `config` may be of anyone; `classes` are those outside this package that may be used. Raises
    TypeError or ValueError for another class, an unknown or missing argument, or a value that the
    argument cannot have.
    """
    if not isinstance(config, dict) or not isinstance(config.get(CLASS), str):
        raise TypeError(f"{config!r:.100} names no {CLASS}")
    name = config[CLASS]
    known = {_name(part_class): part_class for part_class in (*OWN_PARTS, *classes)}
    if name not in known:
        raise ValueError(
            f"{CLASS} {name!r:.200} is not of this package: pass that class if you trust its code "
            "(classes=[...] in Python, --classes of sbmusic, --encoder_classes of a recipe)"
        )
    part_class, given = known[name], {k: v for k, v in config.items() if k != CLASS}
    hints = get_type_hints(part_class.__init__)
    inspect.signature(part_class).bind(**given)
    values = {}
    for key, value in given.items():
        if isinstance(value, dict):
            value = build_part(value, classes)
        elif isinstance(value, list):
            value = tuple(value[: MAX_VALUES + 1])
        if key in hints and not _fits(value, hints[key]):
            raise TypeError(f"{key} of {name} is {config[key]!r:.100}: it must be {hints[key]}")
        values[key] = value
    return partial(part_class, **values)


def _fits(value, hint):
    kinds = getattr(hint, "__args__", None) or (hint,)
    if value is None:
        return type(None) in kinds
    if isinstance(value, partial):
        return Callable in kinds
    if isinstance(value, tuple):
        return tuple in kinds and len(value) <= MAX_VALUES and all(_fits(v, int) for v in value)
    if type(value) is int:
        return bool({int, float} & set(kinds)) and value >= 0
    if type(value) is float:
        return float in kinds and math.isfinite(value) and value >= 0
    return type(value) in kinds


def import_class(name):
    """A class by its full name, as "my_package.mixers.MyMixer". Its module's code runs.

    Raises UserError if there is none.
    """
    try:
        found = pkgutil.resolve_name(str(name))
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"the class {name!r} cannot be imported ({error}): write package.module.Class, and "
            "install the package or add its folder to PYTHONPATH"
        ) from None
    if not isinstance(found, type):
        raise UserError(f"{name!r} is no class: write package.module.Class")
    return found
