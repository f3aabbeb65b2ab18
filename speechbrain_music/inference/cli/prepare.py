"""Manifests of a data set or of any folder of music; merged corpora.

sbmusic prepare gtzan /data/GTZAN --out manifests/gtzan
sbmusic prepare gtzan --help    # the expected tree, source, licence, options

The same as python -m speechbrain_music.data_prep.
"""

import argparse


def add_arguments(parser):
    """Take all further arguments for `data_prep.cli`, which is imported only when it runs."""
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="NAME ...",
        help="a data set, folder, labelled_folder or merge, and its arguments",
    )


def run(args):
    """Prepare; see `sbmusic prepare NAME --help`."""
    from speechbrain_music.data_prep import cli

    return cli.main(args.arguments or ["--help"])
