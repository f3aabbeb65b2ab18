"""Errors that the user can fix, printed as one line."""

import difflib
import errno
import gc
import os
import re
import sys
from importlib import import_module

# What the help of each recipe ends in.
COMMON = """Any top-level key of the yaml is an option. Without --data_folder most recipes compose
music once and use it. README.md beside the recipe describes it.
"""


class UserError(ValueError):
    """An error that the user can fix; the message is one sentence: value, allowed, remedy."""


def escaped(text):
    """Text of any origin for a terminal: control characters and surrogates become escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def did_you_mean(path, otherwise, pattern="*"):
    """A hint for a path that is missing: the nearest name in its folder, or `otherwise`."""
    near = difflib.get_close_matches(path.name, (p.name for p in path.parent.glob(pattern)), n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else otherwise


def run_command(command):
    """Runs `command()`; returns an exit code.

    What the command returns (0 for None), 2 after one line on stderr for a `UserError` or an
    error of the disk, 130 if it is interrupted. Other errors go through.
    """
    try:
        return command() or 0
    except UserError as error:
        fault = error
    except KeyboardInterrupt:
        print("interrupted: run the same command to continue", file=sys.stderr)
        return 130
    except (ConnectionError, TimeoutError):  # of no disk
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fault = f"the disk is full ({error}): free some space"
        else:
            what = f"{error.filename or 'a file'} cannot be read or written"
            fault = f"{what} ({error.strerror or error}): check the disk and the permissions"
        fault += " and run the same command again"
    print("error:", escaped(" ".join(str(fault).split())), file=sys.stderr)
    return 2


def run_recipe(main):
    """Runs a recipe's `main(argv)` as `run_command` does, and exits unless it succeeds.

    `--help` prints the docstring of main's module, `COMMON`, and the options of a yaml on the
    command line. Under torchrun the error is recorded for its summary.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(sys.modules[main.__module__].__doc__, COMMON, sep="\n")
        yamls = [name for name in sys.argv[1:] if name.endswith(".yaml") and os.path.isfile(name)]
        for yaml in yamls:
            with open(yaml, encoding="utf-8", errors="replace") as file:
                options = [line for line in file if re.match(r"[a-z]\w*: *(!ref|[^!\s])", line)]
            print(f"Options, with their values in {yaml}:\n\n  --{'  --'.join(options)}")
        return
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        # Imported only under torchrun: this module must stay light.
        elastic = import_module("torch.distributed.elastic.multiprocessing.errors")
        main = elastic.record(main)
    if code := run_command(lambda: main(sys.argv[1:]) and None):
        sys.exit(code)
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_initialized():
        # If gloo's threads outlive the interpreter, they may abort a run that has ended well.
        distributed.destroy_process_group()
        gc.collect()  # a Brain, which refers to itself, holds the group
