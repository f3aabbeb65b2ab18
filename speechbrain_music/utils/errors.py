"""The one kind of error that is the user's to mend."""

import sys


class UserError(ValueError):
    """Something the user can put right; the message is one sentence: value, allowed, remedy."""


def run(main):
    """Runs a command's `main(argv)`; a `UserError` becomes one line on stderr and exit code 2.

    `--help` prints the docstring of main's module.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(sys.modules[main.__module__].__doc__)
        return
    try:
        main(sys.argv[1:])
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
