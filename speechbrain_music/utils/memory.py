"""Memory: how much is free; keeping freed memory for the next training step on CPUs."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3

# Files of a limit and of what is used, of control groups 2 and 1.
CGROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def free_memory(proc="/proc/meminfo", cgroup="/sys/fs/cgroup"):
    """Bytes that a process can still have, of the machine and of its container; None if unknown."""
    free = []
    with suppress(OSError, TypeError):
        found = re.search(r"^MemAvailable: *(\d+) kB", Path(proc).read_text(), re.MULTILINE)
        free.append(1024 * int(found[1]))
    for files in CGROUPS:
        with suppress(OSError, ValueError, TypeError):  # the limit may be "max"
            limit, used, stat = (Path(cgroup, file).read_text() for file in files)
            cache = re.search(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
            free.append(int(limit) - int(used) + int(cache[1]))
    return min(free, default=None)


def keep_freed_memory():
    """Tells glibc not to return freed blocks to the system; does nothing without glibc.

    The tensors of a step have the sizes of the last step's. Returned and requested again, each of
    their pages is cleared anew: on CPUs up to half of a step's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 2**26)
