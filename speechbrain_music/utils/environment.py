"""What figures depend on besides data and settings: the machine, and versions."""

import os
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version

import torch

PACKAGES = "speechbrain-music torch torchaudio speechbrain numpy mir_eval soxr transformers".split()


def versions():
    """Package -> version of what figures depend on; None where it is not installed."""
    found = dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # of a host that brings its own
            found[package] = version(package)
    return found


def where_it_ran():
    """One line for a page of figures: the machine, its cores, versions."""
    info = Path("/proc/cpuinfo")  # of Linux
    named = re.search("model name\\s*: (.*)", info.read_text("utf-8") if info.exists() else "")
    parts = [named[1] if named else machine(), f"{os.cpu_count()} cores"]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU"
    parts += [gpu if torch.accelerator.is_available() else "no GPU", f"Python {python_version()}"]
    return ", ".join(parts + [f"{name} {found}" for name, found in versions().items() if found])
