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

from speechbrain_music.data_prep import merge
from speechbrain_music.data_prep.data_set import prepare_items
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.utils.errors import run_command


def main(argv=None):
    """Run a preparation: 0 if all went well, 2 after one line of error on stderr."""
    prog, form = "python -m speechbrain_music.data_prep", argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=form)
    names = parser.add_subparsers(required=True, metavar="NAME")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", required=True, type=Path, help="folder for the manifests")
    shared = {"parents": [common], "formatter_class": form}
    for name, data_set in DATA_SETS.items():
        source = (
            f"Source: {data_set.reference}{data_set.home_page and ', ' + data_set.home_page}\n"
            f"Licence: {data_set.licence}\nCite:\n{textwrap.indent(data_set.bibtex, '    ')}"
        )
        about = data_set.description + ("" if data_set.own else f"\n{source}")
        title = about.splitlines()[0]
        command = names.add_parser(name, help=title, description=about, **shared)
        command.set_defaults(prepare=data_set.prepare)
        command.add_argument("data_folder", metavar="FOLDER", help="the folder of the data")
        _add_options(command, data_set)

    title = merge.__doc__.splitlines()[0]
    command = names.add_parser("merge", help=title, description=merge.__doc__, **shared)
    command.set_defaults(prepare=merge.merge)
    command.add_argument(
        "corpora",
        nargs="+",
        help="FOLDER, FOLDER=WEIGHT or FOLDER=SHARE%%, as a preparation wrote it",
    )
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    prepare = options.pop("prepare")
    return run_command(lambda: prepare(**options) and None)


def _add_options(command, data_set):
    """Add a data set's options, with the type and default of the parameter that takes them."""
    functions = (prepare_items, data_set.read)
    defaults = {k: v.default for f in functions for k, v in inspect.signature(f).parameters.items()}
    defaults["valid_share"] = data_set.valid_share
    for name, text in data_set.options.items():
        default = defaults[name]
        if not isinstance(text, str):
            text = " or ".join(text)
        if default is False:
            command.add_argument(f"--{name}", action="store_true", help=text)
        elif default in (None, inspect.Parameter.empty):
            several = "+" if name == "labels" else None
            required = default is not None
            command.add_argument(f"--{name}", required=required, nargs=several, help=text)
        else:
            text = f"{text} (default: {default})"
            command.add_argument(f"--{name}", type=type(default), default=default, help=text)


if __name__ == "__main__":
    sys.exit(main())
