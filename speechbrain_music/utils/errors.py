"""The one kind of error that is the user's to mend."""

import errno
import os
import sys
from contextlib import contextmanager
from importlib import import_module


class UserError(ValueError):
    """Something the user can put right; the message is one sentence: value, allowed, remedy.

    Example
    -------
    >>> def main():
    ...     raise UserError("batch_size is 0: it must be 1 or more")
    >>> run_command(main)  # the sentence, and no traceback, on stderr
    2
    """


def print_error(error):
    """Prints an error as one line on stderr; returns the exit code, 2.

    Example
    -------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     print_error(ValueError("lr is 0:\\n  it must be above 0"))
    error: lr is 0: it must be above 0
    2
    """
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


@contextmanager
def _full_disk_told():
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"a disk is full ({error}): make room, run the same command again"
        ) from None


def run_command(command):
    """Runs `command()`; returns an exit code.

    What the command returns (0 for None), 2 after one line on stderr for a `UserError` or a full
    disk, 130 if it is interrupted. Other errors go through.

    Example
    -------
    >>> def fill():
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    >>> run_command(lambda: None), run_command(lambda: 1), run_command(fill)
    (0, 1, 2)
    """
    try:
        with _full_disk_told():
            return command() or 0
    except UserError as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def run_recipe(main):
    """Runs a recipe's `main(argv)`; a `UserError` becomes one line on stderr and exit code 2.

    So does a full disk. `--help` prints the docstring of main's module. What a process of several
    dies of is handed to torchrun, whose last lines tell it.

    Example
    -------
    >>> def main(argv):
    ...     raise UserError("lr is 0: it must be above 0")
    >>> run_recipe(main)
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(sys.modules[main.__module__].__doc__)
        return
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        # Where torchrun is, torch is; elsewhere this module loads nothing.
        elastic = import_module("torch.distributed.elastic.multiprocessing.errors")
        main = elastic.record(main)
    try:
        with _full_disk_told():
            main(sys.argv[1:])
    except UserError as error:
        sys.exit(print_error(error))
