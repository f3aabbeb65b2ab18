"""The command line of all preparations.

python -m speechbrain_music.data_prep gtzan /data/GTZAN --out manifests/gtzan
python -m speechbrain_music.data_prep gtzan --help    # the expected tree, source, licence, options
"""

import argparse
import inspect
import logging
import sys
import textwrap
from pathlib import Path

from speechbrain_music.data_prep import folder, labelled_folder, merge
from speechbrain_music.data_prep.data_set import ALLOW_MISSING, prepare_items
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.utils.errors import run_command


def main(argv=None):
    """Run a preparation: 0 if all went well, 2 after one line of error on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_music.data_prep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = parser.add_subparsers(required=True, metavar="NAME")
    for name, data_set in DATA_SETS.items():
        source = [
            f"Source: {data_set.reference}{data_set.home_page and ', ' + data_set.home_page}",
            f"Licence: {data_set.licence}",
            f"Cite:\n{textwrap.indent(data_set.bibtex, '    ')}",
        ]
        command = _add(names, name, inspect.getmodule(data_set.read), "\n".join(source))
        _add_options(command, data_set.options, prepare_items, data_set.read)
        command.set_defaults(prepare=data_set.prepare)

    command = _add(names, "folder", folder)
    _add_options(
        command,
        {"valid_share": "share of the files to hold out", "seed": "chooses these files"},
        folder.prepare_folder,
    )
    command.set_defaults(prepare=folder.prepare_folder)

    command = _add(names, "labelled_folder", labelled_folder)
    command.add_argument("--labels", nargs="+", required=True, help="columns of the table")
    options = {"table": "the CSV file in the folder"} | ALLOW_MISSING
    _add_options(command, options, labelled_folder.prepare_labelled_folder)
    command.set_defaults(prepare=labelled_folder.prepare_labelled_folder)

    command = _add(names, "merge", merge, data_folder=False)
    command.add_argument(
        "corpora", nargs="+", help="FOLDER or FOLDER=WEIGHT, where a preparation wrote manifests"
    )
    command.set_defaults(
        prepare=lambda corpora, out: merge.merge(merge.parse_weights(corpora), out)
    )
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    prepare = options.pop("prepare")
    return run_command(lambda: prepare(**options) and None)


def _add(names, name, module, source="", data_folder=True):
    command = names.add_parser(
        name,
        help=module.__doc__.splitlines()[0],
        description=f"{module.__doc__}\n{source}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if data_folder:
        command.add_argument("data_folder", metavar="FOLDER", help="the folder of the data")
    command.add_argument("--out", required=True, type=Path, help="folder for the manifests")
    return command


def _add_options(command, options, *functions):
    """Add options with their help; type and default are those of the functions' parameters."""
    parameters = {k: v for f in functions for k, v in inspect.signature(f).parameters.items()}
    for name, text in options.items():
        default = parameters[name].default
        if default is False:
            command.add_argument(f"--{name}", action="store_true", help=text)
        elif default is inspect.Parameter.empty:
            command.add_argument(f"--{name}", required=True, help=text)
        elif default is None:
            command.add_argument(f"--{name}", help=text)
        else:
            text = f"{text} (default: {default})"
            command.add_argument(f"--{name}", type=type(default), default=default, help=text)
