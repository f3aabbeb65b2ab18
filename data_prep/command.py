"""The command lines of preparations."""

import argparse
import logging
import sys
from pathlib import Path

from speechbrain_music.utils import errors


def make_parser(module, doc, allow_missing=False, valid_share=None, several=None):
    """The command line of the module of this name.

    Arguments
    ---------
    module, doc : str
        Its name and its docstring.
    allow_missing : bool
        Whether counts are asserted, so that there is an option not to.
    valid_share : float, optional
        The share that is held out if the options do not say otherwise; None has no such options.
    several : str, optional
        What several folders are called; None takes one, the `data_folder`.

    Returns
    -------
    argparse.ArgumentParser

    Example
    -------
    >>> parser = make_parser("mine", "My music.", valid_share=0.1)
    >>> vars(parser.parse_args(["/my/music", "--out", "manifests"]))
    {'data_folder': '/my/music', 'out': PosixPath('manifests'), 'valid_share': 0.1, 'seed': 0}
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m speechbrain_music.data_prep.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if several:
        parser.add_argument(several, nargs="+", help="FOLDER or FOLDER=WEIGHT")
    else:
        parser.add_argument("data_folder", help="where the data are")
    parser.add_argument("--out", required=True, type=Path, help="folder for the manifests")
    if allow_missing:
        parser.add_argument(
            "--allow_missing", action="store_true", help="report other counts, do not refuse them"
        )
    if valid_share is not None:
        share, seed = f"held out (default: {valid_share})", "chooses the held-out (default: 0)"
        parser.add_argument("--valid_share", type=float, default=valid_share, help=share)
        parser.add_argument("--seed", type=int, default=0, help=seed)
    return parser


def answer(prepare, parser, argv):
    """Runs a preparation with a parser's options: 0 if all went well, 2 after one line of error.

    Example
    -------
    >>> parser = make_parser("mine", "My music.")
    >>> answer(lambda data_folder, out: {"files": 9}, parser, ["/my/music", "--out", "manifests"])
    0
    """
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

    def command():
        prepare(**options)  # what it returns is a report, no exit code

    return errors.answer(command)
