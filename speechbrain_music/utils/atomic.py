"""Atomic files and folders: whole, or not there; locks between processes.

Standard library only: every part of the project may import this.
"""

import errno
import fcntl
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from speechbrain_music.utils.errors import UserError

LOCK = ".lock"  # in a folder of output
_held = set()  # descriptors of locks


@contextmanager
def locked_folder(folder, doing="writes to"):
    """Keeps other processes out of an output folder, made here, while the block runs.

    Under torchrun the first process locks for all. The kernel releases the lock of a process that
    ends, however it ends. On a network disk without locks (NFS needs version 4, or lockd) nothing
    is locked. Raises UserError if another process has the lock, which is then said to be `doing`
    ("trains in") the folder, or if the folder cannot be written to.
    """
    lock = Path(folder, LOCK)
    made = [path for path in lock.parents if not path.exists()]
    with ExitStack() as stack:
        try:
            mine = os.environ.get("RANK", "0") != "0" or stack.enter_context(_locked(lock))
        except OSError as error:
            raise UserError(f"{folder} cannot be written to ({error}): choose another") from None
        if not mine:
            raise UserError(f"another process {doing} {folder}: wait for it, or choose another")
        try:
            yield
        finally:
            if os.environ.get("RANK", "0") == "0":
                _remove(lock)
            for path in made:
                with suppress(OSError):  # it is not empty
                    path.rmdir()


@contextmanager
def atomic_file(path, mode="w", **open_options):
    """Opens a temporary file in the same folder, renamed to `path` only if the block succeeds."""
    path = Path(path)
    with _staging(path) as staging:
        with open(staging, mode, **open_options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(staging, path)


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
    found = os.listdir(path) if path.exists() else []
    ours = {*names, *(f".{name}.tmp" for name in names)}  # and what a killed process left
    others = sorted(set(found) - ours)
    if others:
        raise UserError(
            f"{path} holds other files ({others[0]}), which would be lost: choose a new folder"
        )
    with _staging(path, folder=True) as staging:
        with _locked(path.parent, folder=True, wait=True):
            _restore(path)
        yield staging
        sync_folder(staging)
        replace_folder(staging, path)


def replace_folder(folder, path):
    """Renames a folder to `path`; one that is there is renamed aside, then deleted."""
    replaced = _aside(path)
    with _locked(path.parent, folder=True, wait=True):
        shutil.rmtree(replaced, ignore_errors=True)
        try:
            if path.exists():
                os.replace(path, replaced)
            os.replace(folder, path)
            sync_entries(path.parent)
        except BaseException:
            _restore(path)
            raise
        shutil.rmtree(replaced, ignore_errors=True)


def _aside(path):
    return path.with_name(f".{path.name}.old")


def _restore(path):
    # After a kill or a failure between the two renames the only whole folder is the old one.
    if _aside(path).exists() and not path.exists():
        os.replace(_aside(path), path)


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


# ---- temporary names and locks ----


@contextmanager
def _staging(path, folder=False):
    """A temporary file, or empty folder, next to `path`: the first that no living process uses."""
    name = path.name if len(os.fsencode(path.name)) < 240 else path.name[:60]
    for number in ("", *(f".{number}" for number in range(1, 1000))):
        staging = path.with_name(f".{name}{number}.tmp")
        with _locked(staging, folder) as mine:
            if not mine:
                continue
            try:
                for rest in os.scandir(staging) if folder else ():
                    _remove(rest.path)
                yield staging
                return
            except BaseException:
                _remove(staging)
                raise


@contextmanager
def _locked(path, folder=False, wait=False):
    """Locks a file or folder, made if missing; yields False if another process has it."""
    flags = os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    mine = descriptor = None
    while mine is None:
        _close(descriptor)
        os.makedirs(path.parent, exist_ok=True)
        with suppress(FileExistsError, FileNotFoundError):  # another has just made or renamed it
            if folder and not path.exists():
                path.mkdir()
            descriptor = os.open(path, flags, 0o666)
            _held.add(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:  # if it is not busy: a file system without locks
                mine = False if error.errno == errno.EWOULDBLOCK else None
            if mine is None and os.path.samestat(os.fstat(descriptor), path.stat()):
                mine = True
    try:
        yield mine
    finally:
        _close(descriptor)


def _close(*descriptors):
    for descriptor in _held.intersection(descriptors):
        _held.remove(descriptor)
        os.close(descriptor)


# A forked child, such as a worker of a DataLoader, would keep the locks of its killed parent.
os.register_at_fork(after_in_child=lambda: _close(*_held))


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)
