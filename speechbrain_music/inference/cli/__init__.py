"""Embeddings of music, similar tracks and exports.

`sbmusic COMMAND --help` lists a command's options. Exit codes: 0, success; 2, an error that
the user can fix, in one line on stderr; 130, interrupted.
"""

import argparse
import io
import os
import sys
from functools import partial
from pathlib import Path

from speechbrain_music import __version__
from speechbrain_music.inference.cli import card, compress, embed, export, info, predict, similar
from speechbrain_music.utils.arguments import FORM, add_options, read_options
from speechbrain_music.utils.errors import run_command

OPTIONS = read_options(Path(__file__).parent)  # command -> its options
COMMANDS = (embed, similar, predict, info, export, compress, card)


def main(argv=None):
    """Run `sbmusic` and return the exit code; `argv` is that of this process by default."""
    parser = argparse.ArgumentParser(prog="sbmusic", description=__doc__, formatter_class=FORM)
    parser.add_argument("--version", action="version", version=f"sbmusic {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(
            name,
            help=module.__doc__.splitlines()[0],
            description=module.__doc__,
            formatter_class=FORM,
        )
        add_options(command, OPTIONS[name])
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that a locale cannot show
    try:
        return run_command(partial(args.run, args))
    except BrokenPipeError:  # the program that read the output, `head` perhaps, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
