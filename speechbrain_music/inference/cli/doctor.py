"""Check the installation and the machine, and say how to fix problems.

Checks packages, torch with torchaudio, device, threads and audio formats. The exit code is 1 if
something required is broken; missing optional packages are only reported.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from itertools import chain

PACKAGE = "speechbrain-music"
OK, MISSING, BROKEN = "ok", "-", "BROKEN"
FORMATS = {"WAV", "FLAC", "OGG", "MP3"}
TIMEOUT = 120  # seconds for importing torch
# Run in a process of its own, which an incompatible library may crash.
TORCH = """
import json, torch, torchaudio, torchaudio.transforms
torchaudio.transforms.MelSpectrogram(24000)(torch.zeros(1, 2400))
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
device = ", ".join(names) or ("mps" if torch.backends.mps.is_available() else "cpu")
print(json.dumps([device, torch.version.cuda, torch.get_num_threads()]))
"""


def add_arguments(parser):
    """Add nothing: `sbmusic doctor` has no options."""


def run(args):
    """Print the findings; return 1 if something required is broken."""
    broken = False
    for state, subject, text, *remedies in chain(_packages(), _torch(), _formats()):
        broken |= state == BROKEN
        print(f"{state:6}  {subject:18}  {text}", flush=True)
        for remedy in remedies:
            print(f"{'':6}  {'':18}  -> {remedy}", flush=True)
    print("Something required is broken." if broken else "Everything required works.")
    return int(broken)


def _packages():
    """Check Python, this package and its requirements; yield state, subject, text, remedy."""
    yield OK, "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    try:
        from packaging.requirements import Requirement

        required = list(map(Requirement, metadata.requires(PACKAGE) or []))
    except ImportError as error:  # PackageNotFoundError is one
        yield BROKEN, PACKAGE, f"{error}", "pip install . in its repository"
        return
    yield OK, PACKAGE, metadata.version(PACKAGE)
    seen = set()
    for requirement in required:
        name, wanted = requirement.name, f"{requirement.name}{requirement.specifier}"
        extra = re.search(r"extra == .(\w+)", str(requirement.marker))
        if extra and (extra[1] in ("dev", "docs") or name in seen):
            continue
        seen.add(name)
        pip = f"pip install -e '.[{extra[1]}]' in the clone" if extra else f"pip install '{wanted}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            needed = f" (only needed for [{extra[1]}])" if extra else ""
            yield MISSING if extra else BROKEN, name, f"is missing{needed}", pip
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield OK, name, version
        else:
            yield BROKEN, name, f"{version}, but {wanted} is needed", pip


def _torch():
    """Import torch and torchaudio together, and report the device that torch computes on."""
    what = "torch + torchaudio"
    remedy = "install both in the same version: pip install 'torch==2.11.0' 'torchaudio==2.11.0'"
    command = [sys.executable, "-c", TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        device, built_for, threads = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        yield BROKEN, what, f"cannot be imported in {TIMEOUT} s", remedy
        return
    except (IndexError, ValueError):
        errors = done.stderr.strip().splitlines() or [f"the process ends with {done.returncode}"]
        yield BROKEN, what, errors[-1], remedy
        return
    yield OK, what, "imported together"
    if device == "cpu" and shutil.which("nvidia-smi"):
        text = f"cpu, although nvidia-smi is installed: torch is built for {built_for or 'CPUs'}"
        yield MISSING, "device", text, "update the driver, or install the torch that fits it"
    else:
        yield OK, "device", f"{device}, {threads} threads on {os.cpu_count()} cores"


def _formats():
    """Ask libsndfile for the audio formats that it reads."""
    try:
        soundfile, _ = import_module("soundfile"), import_module("soxr")
    except (ImportError, OSError) as error:
        yield BROKEN, "audio", str(error), "pip install --force-reinstall soundfile soxr"
        return
    library = f"libsndfile {soundfile.__libsndfile_version__}"
    if missing := FORMATS - soundfile.available_formats().keys():
        remedy = "pip install --upgrade soundfile (its wheels contain libsndfile 1.1 or newer)"
        yield BROKEN, "audio", f"{library} cannot read {', '.join(sorted(missing))}", remedy
    else:
        yield OK, "audio", f"{library} reads {', '.join(sorted(FORMATS))}"
