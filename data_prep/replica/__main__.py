"""Compose a corpus or a data set's replica.

python -m speechbrain_music.data_prep.replica corpus --hours 2 --out DIR
python -m speechbrain_music.data_prep.replica gtzan --out data/replica/gtzan --scale 0.1

`corpus` makes music to pre-train on; a data set's name makes a replica: folders, names, formats,
tables and splits as published. The same command continues an interrupted one.
"""

import argparse
import logging
import sys

from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.trees import NAMES, make_replica
from speechbrain_music.utils.errors import run_command


def main(argv):
    """Run the command line; `argv` is what follows the module's name."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_music.data_prep.replica",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("corpus", *NAMES):
        command = commands.add_parser(name)
        command.add_argument("--out", required=True, help="output folder")
        command.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
        command.add_argument("--workers", type=int, help="processes (default: one per core)")
        if name == "corpus":
            command.add_argument("--hours", type=float, default=2.0, help="at least (default: 2)")
            held_out = "also play the programs that training corpora never play"
            command.add_argument("--held_out", action="store_true", help=held_out)
        else:
            scale = "share of the published counts (default: 0.1)"
            command.add_argument("--scale", type=float, default=0.1, help=scale)
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    command = options.pop("command")
    if command == "corpus":
        plan = CorpusPlan(options.pop("seed"), held_out=options.pop("held_out"))
        make_corpus(plan=plan, **options)
    else:
        make_replica(command, **options)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
