"""Work that hangs, for a pool of processes that must survive it."""

from pathlib import Path


def hang_once(attempt, folder, name):
    """Leaves a file, on the second attempt only."""
    while attempt == 0 and name == "stuck":
        pass
    Path(folder, f"{name}_{attempt}").touch()


def hang(attempt):
    """Never ends."""
    while True:
        pass
