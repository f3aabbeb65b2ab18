"""Options of the commands, from options.yaml, and the types of their values."""

import argparse
from pathlib import Path

import yaml

with open(Path(__file__).with_suffix(".yaml"), encoding="utf-8") as file:
    OPTIONS = yaml.safe_load(file)  # command -> its options


def add_options(parser, command):
    """Add the options of a command to its parser."""
    for names, option in OPTIONS[command].items():
        option = option | {"type": TYPES[option["type"]]} if "type" in option else option
        parser.add_argument(*names.split(), **option)


def _checked(convert, is_right, wanted):
    """Return a type of argparse whose error is a sentence."""

    def read(text):
        try:
            if is_right(value := convert(text)):
                return value
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"{text!r:.50} is not {wanted}")

    return read


def _layers(text):
    numbers = text if text == "all" else [int(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


_seconds = _checked(
    float, lambda s: s >= 0 and abs(25 * s - round(25 * s)) < 1e-6, "a multiple of 0.04 s"
)
TYPES = {
    "path": Path,
    "layers": _checked(
        _layers, lambda _: True, "a layer: give a number, several as 0,6,12, or all"
    ),
    "count": _checked(int, lambda n: n > 0, "a whole number above 0"),
    "seconds": _seconds,
    "chunk": lambda text: None if text == "none" else _seconds(text),
}
