"""Atomic files: whole, or not there; folders that change places; locks between processes.

Standard library only: every part of the project may import this.
"""

import errno
import fcntl
import os
import shutil
from contextlib import ExitStack, contextmanager, nullcontext, suppress
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
                with suppress(OSError):
                    lock.unlink()
            for path in made:
                with suppress(OSError):  # it is not empty
                    path.rmdir()


@contextmanager
def one_at_a_time(path):
    """Keeps other processes out of such a block for the path; waits for one that is in it."""
    lock = path.with_name(f".{path.name}{LOCK}")
    with _locked(lock, wait=True):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def atomic_file(path, mode="w", **open_options):
    """Opens a temporary file in the same folder, renamed to `path` only if the block succeeds."""
    path = Path(path)
    name = path.name if len(os.fsencode(path.name)) < 240 else path.name[:60]
    for number in ("", *(f".{number}" for number in range(1, 1000))):
        staging = path.with_name(f".{name}{number}.tmp")
        with _locked(staging) as mine:
            if not mine:  # a living process uses it
                continue
            try:
                with open(staging, mode, **open_options) as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(staging, path)
                return
            except BaseException:
                with suppress(OSError):
                    staging.unlink()
                raise


def write_together(files):
    """Writes files (path -> text or bytes): all are written before the first is renamed.

    They appear in this order, so a file that says that all is there comes last.
    """
    with ExitStack() as stack:
        for path, content in reversed(files.items()):  # the stack is unwound backwards
            file = stack.enter_context(atomic_file(path, "wb"))
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())


def replace_folder(folder, path):
    """Renames a folder to `path`; one that is there is renamed aside, then deleted."""
    replaced = path.with_name(f".{path.name}.old")
    shutil.rmtree(replaced, ignore_errors=True)
    if path.exists():
        os.replace(path, replaced)
    os.replace(folder, path)
    sync_entries(path.parent)
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


@contextmanager
def _locked(path, wait=False):
    """Locks a file, made if missing; yields False if another process has it, or waits for it."""
    mine, descriptor, patience = None, None, 100
    while mine is None:
        _close(descriptor)
        os.makedirs(path.parent, exist_ok=True)
        patience -= 1
        # Another has just renamed it; or it is a place, as /proc, where no file can be made.
        with suppress(FileNotFoundError) if patience else nullcontext():
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
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
