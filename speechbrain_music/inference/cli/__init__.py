"""Embeddings of music, similar tracks, predictions of trained probes, and exports.

`sbmusic COMMAND --help` lists a command's options. Exit codes: 0, success; 2, an error that
the user can fix, in one line on stderr; 130, interrupted.
"""

import argparse
import io
import os
import sys
from importlib import import_module
from pathlib import Path

import yaml

from speechbrain_music import __version__
from speechbrain_music.utils.arguments import FORM, add_options, read_options
from speechbrain_music.utils.errors import run_command

OPTIONS = read_options(Path(__file__).parent)  # command -> its options
COMMANDS = yaml.safe_load(Path(__file__).with_name("commands.yaml").read_text(encoding="utf-8"))


def main(argv=None):
    """Run `sbmusic` and return the exit code; `argv` is that of this process by default."""
    parser = argparse.ArgumentParser(prog="sbmusic", description=__doc__, formatter_class=FORM)
    parser.add_argument("--version", action="version", version=f"sbmusic {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, text in COMMANDS.items():
        help_line = text.partition("\n")[0]
        command = commands.add_parser(name, help=help_line, description=text, formatter_class=FORM)
        add_options(command, OPTIONS[name])
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that a locale cannot show
    module = f"{__name__}.{args.command}"
    try:  # the module is imported only now: `sbmusic --help` does not load torch
        return run_command(lambda: import_module(module).run(args))
    except BrokenPipeError:  # the program that read the output, `head` perhaps, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
