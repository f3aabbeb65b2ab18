"""Embeddings of music, what is near to what, exports, and a check-up.

`sbmusic COMMAND --help` says more. Exit codes: 0, all went well; 1, doctor found something broken;
2, one line on stderr says what to mend; 130, interrupted.
"""

import argparse
import os
import sys
from functools import partial

from speechbrain_music import __version__
from speechbrain_music.inference.cli import doctor, embed, export, info, prepare, push, similar
from speechbrain_music.utils.errors import print_error, run_command

COMMANDS = (prepare, embed, similar, info, export, push, doctor)


def main(argv=None):
    """Runs `sbmusic`.

    Arguments
    ---------
    argv : list of str, optional
        The command and its options; those of this process if not given.

    Returns
    -------
    int
        The exit code, see this file's head.

    Example
    -------
    >>> main(["info", "nowhere/export"])
    2
    """
    parser = argparse.ArgumentParser(
        prog="sbmusic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"sbmusic {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.__doc__.splitlines()[0],
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return run_command(partial(args.run, args))
    except BrokenPipeError:  # what read the output, `head` perhaps, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return print_error(
            f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error}): "
            "check the disk, its room and its permissions, then give the same command again"
        )
