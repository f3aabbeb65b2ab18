"""Atomic files and folders: whole, or not there.

Standard library only: every part of the project may import this.
"""

import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

from speechbrain_music.utils.errors import UserError


@contextmanager
def atomic_file(path, mode="w", **open_options):
    """Opens a temporary file in the same folder, renamed to `path` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp")  # overwrites the rest of a killed process
    try:
        with open(staging, mode, **open_options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(staging, path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def write_together(files):
    """Writes text files (path -> text): all are written before the first is renamed into place.

    They appear in this order, so a file that says that all is there comes last.
    """
    with ExitStack() as stack:
        for path, text in reversed(files.items()):  # the stack is unwound backwards
            file = stack.enter_context(atomic_file(path, encoding="utf-8", newline=""))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def atomic_folder(path, names):
    """Yields an empty temporary folder, which replaces `path` if the block succeeds.

    Only a folder without other entries than `names` is replaced. Raises UserError for a file, a
    link, or a folder that holds anything else.
    """
    path = Path(path)
    if path.name in ("", ".."):
        raise UserError(f"{path} is no name of a new folder: choose one")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(f"{path} is a file or a link: choose a new folder")
    others = sorted(set(os.listdir(path)) - set(names)) if path.exists() else []
    if others:
        raise UserError(
            f"{path} holds other files ({others[0]}), which would be lost: choose a new folder"
        )
    staging = path.with_name(f".{path.name}.tmp")
    replaced = path.with_name(f".{path.name}.old")
    # Leftovers of a process that was killed here; between the two renames below, the only whole
    # folder is the old one.
    if replaced.exists() and not path.exists():
        os.replace(replaced, path)
    for leftover in (staging, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        sync_folder(staging)
        if path.exists():
            os.replace(path, replaced)
        os.replace(staging, path)
        sync_entries(path.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if replaced.exists() and not path.exists():
            os.replace(replaced, path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def sync_folder(folder):
    """Flushes all files below a folder, and the folder itself, to disk."""
    for file in Path(folder).rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    sync_entries(folder)


def sync_entries(folder):
    """Flushes a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
