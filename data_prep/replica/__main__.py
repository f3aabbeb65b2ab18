"""Composed, rendered music with true labels, in place of a data set.

python -m speechbrain_music.data_prep.replica corpus --hours 2 --out DIR
python -m speechbrain_music.data_prep.replica card DIR
"""

import argparse
import logging
import sys
from pathlib import Path

from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.utils.errors import run


def main(argv):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m speechbrain_music.data_prep.replica")
    commands = parser.add_subparsers(dest="command", required=True)
    corpus = commands.add_parser("corpus", help="music to pre-train on")
    corpus.add_argument("--out", required=True, help="its folder")
    corpus.add_argument("--hours", type=float, default=2.0, help="at least (default: 2)")
    corpus.add_argument("--seed", type=int, default=0, help="another corpus (default: 0)")
    corpus.add_argument("--soundfont", help="an SF2 file (default: pretty_midi's TimGM6mb)")
    corpus.add_argument("--workers", type=int, help="processes (default: one a core)")
    corpus.add_argument(
        "--held_out", action="store_true", help="play the programs too that others never play"
    )
    card = commands.add_parser("card", help="a page with pictures of a corpus")
    card.add_argument("folder", help="what `corpus` made")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if args.command == "corpus":
        soundfont = str(Path(args.soundfont).resolve()) if args.soundfont else None
        plan = CorpusPlan(args.seed, held_out=args.held_out, soundfont=soundfont)
        make_corpus(args.out, args.hours, plan, args.workers)
    else:
        from speechbrain_music.data_prep.replica.card import write_card  # draws: matplotlib

        print(write_card(args.folder))


if __name__ == "__main__":
    run(main)
