"""Copies and links: files that are the same recording."""

import hashlib
import os
from collections import defaultdict
from contextlib import suppress

COPY = "a copy of another file"  # why a file is skipped


def equal_files(root, names):
    """Name -> the first of the names, in their order, whose file has the same bytes.

    Files are compared by size, then by a block in their middle, then as a whole: few are read.
    Files that cannot be read are like no other.
    """
    first = {name: name for name in names}
    groups = [list(first)]
    for look in (os.path.getsize, _middle, _digest):
        groups = [part for group in groups for part in _divide(group, root, look)]
    return first | {name: group[0] for group in groups for name in group}


def _divide(names, root, look):
    """The names in groups of equal looks; those that are alone are left out."""
    found = defaultdict(list)
    for name in names:
        with suppress(OSError):
            found[look(os.path.join(root, name))].append(name)
    return [group for group in found.values() if len(group) > 1]


def _middle(path):
    with open(path, "rb") as file:
        file.seek(os.path.getsize(path) // 2)
        return file.read(4096)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").digest()
