"""Options of commands, from an options.yaml, and the types of their values."""

import argparse
import math
from contextlib import suppress
from pathlib import Path

import yaml

FORM = argparse.RawDescriptionHelpFormatter  # a description keeps its lines


def read_options(folder):
    """Command -> its options, from a folder's options.yaml: name -> what `add_argument` takes."""
    return yaml.safe_load(Path(folder, "options.yaml").read_text(encoding="utf-8"))


def add_options(parser, options):
    """Add options to a parser; `type` is a name in `TYPES`."""
    for names, option in options.items():
        option = option | {"type": TYPES[option["type"]]} if "type" in option else option
        parser.add_argument(*names.split(), **option)


def make_parser(script, description, **options):
    """The parser of a script, with the options of its name in the options.yaml beside it."""
    script = Path(script)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=FORM, allow_abbrev=False, **options
    )
    add_options(parser, read_options(script.parent)[script.stem])
    return parser


def _checked(convert, is_right, wanted):
    """Return a type of argparse whose error is a sentence."""

    def read(text):
        with suppress(ValueError, OverflowError):
            if is_right(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r:.50} is not {wanted}")

    return read


def _layers(text):
    named = text == "all" or text[:5] == "best:" and text[5:]
    numbers = text if named else [int(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


_seconds = _checked(
    float, lambda s: s >= 0 and abs(25 * s - round(25 * s)) < 1e-6, "a multiple of 0.04 s"
)
TYPES = {
    "path": Path,
    "whole": int,
    "number": float,
    "layers": _checked(
        _layers, lambda _: True, "a layer: give a number, several as 0,6,12, all, or best:TASK"
    ),
    "count": _checked(int, lambda n: n > 0, "a whole number above 0"),
    "natural": _checked(int, lambda n: n >= 0, "a whole number of 0 or more"),
    "excerpt": _checked(float, lambda s: 0.1 <= s < math.inf, "0.1 or more"),
    "seconds": _seconds,
    "chunk": lambda text: None if text == "none" else _seconds(text),
}
