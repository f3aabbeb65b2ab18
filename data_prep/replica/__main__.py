"""Composed, rendered music with true labels, in place of a data set.

python -m speechbrain_music.data_prep.replica gtzan --out data/replica/gtzan --scale 0.1
python -m speechbrain_music.data_prep.replica corpus --hours 2 --out DIR
python -m speechbrain_music.data_prep.replica card DIR

A data set's name makes its tree: folders, names, formats, tables and splits as published.
`corpus` makes music to pre-train on, `card` a page with pictures of it.
"""

import argparse
import logging
import sys
from pathlib import Path

from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.trees import NAMES, make_replica
from speechbrain_music.utils.errors import run_recipe


def main(argv):
    """The command line.

    Arguments
    ---------
    argv : list of str
        What follows the module's name.

    Raises
    ------
    UserError
        As `make_corpus`, `make_replica` and `write_card`.

    Example
    -------
    >>> from speechbrain_music.utils.errors import UserError
    >>> try:
    ...     main(["gtzan", "--out", "nowhere", "--scale", "2"])
    ... except UserError as error:
    ...     print(error)
    scale is 2.0; it must be above 0 and at most 1.
    >>> out = getfixture("tmp_path") / "replica"
    >>> main(["music4all", "--out", str(out), "--scale", "0.0001", "--annotations_only"])
    >>> sorted(path.name for path in out.iterdir())
    ['audios', 'id_information.csv', 'replica.json']
    """
    parser = argparse.ArgumentParser(prog="python -m speechbrain_music.data_prep.replica")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("corpus", *NAMES):
        command = commands.add_parser(name)
        command.add_argument("--out", required=True, help="its folder")
        command.add_argument("--seed", type=int, default=0, help="others of the kind (default: 0)")
        command.add_argument("--workers", type=int, help="processes (default: one a core)")
        if name == "corpus":
            command.add_argument("--hours", type=float, default=2.0, help="at least (default: 2)")
            command.add_argument("--soundfont", help="an SF2 file (default: TimGM6mb)")
            command.add_argument(
                "--held_out", action="store_true", help="play what others never play, too"
            )
        else:
            command.add_argument(
                "--scale", type=float, default=0.1, help="of the published counts (default: 0.1)"
            )
            command.add_argument("--annotations_only", action="store_true", help="no audio")
    card = commands.add_parser("card", help="a page with pictures of a corpus")
    card.add_argument("folder", help="what `corpus` made")
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    command = options.pop("command")
    if command == "card":
        from speechbrain_music.data_prep.replica.card import write_card  # draws: matplotlib

        print(write_card(**options))
    elif command == "corpus":
        bank = options.pop("soundfont")
        bank = str(Path(bank).resolve()) if bank else None
        plan = CorpusPlan(options.pop("seed"), held_out=options.pop("held_out"), soundfont=bank)
        make_corpus(plan=plan, **options)
    else:
        make_replica(command, **options)


if __name__ == "__main__":
    run_recipe(main)
