"""Memory: how much is free; keeping freed memory for the next training step on CPUs."""

import ctypes
import math
import re
from contextlib import suppress
from pathlib import Path

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def free_memory(proc="/proc", cgroup="/sys/fs/cgroup"):
    """Bytes that a process can still have, of the machine and of its container; inf if unknown."""
    free = [math.inf]
    with suppress(OSError, TypeError):
        text = Path(proc, "meminfo").read_text()
        free.append(1024 * int(re.search(r"MemAvailable: *(\d+) kB", text)[1]))
    with suppress(OSError, ValueError, TypeError):  # there may be no limit
        limit, used, stat = (
            Path(cgroup, f"memory.{n}").read_text() for n in ("max", "current", "stat")
        )
        cache = int(re.search(r"\binactive_file (\d+)", stat)[1])
        free.append(int(limit) - int(used) + cache)
    return min(free)


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
