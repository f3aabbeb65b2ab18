"""Check the installation and the machine, and say how to fix problems.

Checks packages, torch with torchaudio, audio codecs, device, threads and disk. The exit code is 1
if something required is broken; missing optional packages are only reported.
"""

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata

PACKAGE = "speechbrain-music"
OK, MISSING, BROKEN = "ok", "-", "BROKEN"
CODECS = ("wav", "flac", "ogg", "mp3")
MIN_FREE = 2e9  # bytes; unpooled embeddings of a day of music take 4.4e9
TIMEOUT = 120  # seconds for importing torch
# Run in a process of its own, which an incompatible library may crash.
TORCH = """
import json, torch, torchaudio, torchaudio.transforms
torchaudio.transforms.MelSpectrogram(24000)(torch.zeros(1, 2400))
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
mps = getattr(torch.backends, "mps", None)
print(json.dumps({"cuda": names, "built_for": torch.version.cuda, "threads":
    torch.get_num_threads(), "mps": bool(mps and mps.is_available())}))
"""


def add_arguments(parser):
    """Add nothing: `sbmusic doctor` has no options."""


def run(args):
    """Print the findings; return 1 if something required is broken."""
    broken = False
    for state, subject, text, *remedies in _findings():
        broken |= state == BROKEN
        print(f"{state:6}  {subject:18}  {text}", flush=True)
        for remedy in remedies:
            print(f"{'':6}  {'':18}  -> {remedy}", flush=True)
    print("Something required is broken." if broken else "Everything required works.")
    return int(broken)


def _findings():
    """Run the checks in turn; yield a state, a subject, a text and, for a problem, a remedy."""
    text = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield OK, "python", text  # pip installs the package for 3.11 and newer only
    yield from _packages()
    finding, machine = _torch_pair()
    yield finding
    yield from _codecs()
    if machine:
        yield from _device(**machine)
    here = os.getcwd()
    free = shutil.disk_usage(here).free
    text = f"{free / 1e9:.1f} GB free in {here}"
    if not os.access(here, os.W_OK):
        yield MISSING, "disk", f"{here} cannot be written to", "work in another folder"
    elif free < MIN_FREE:
        yield MISSING, "disk", text, "free disk space, or write to another disk"
    else:
        yield OK, "disk", text


def _packages():
    """Check this package and its requirements."""
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


def _torch_pair():
    """Import torch and torchaudio together; also return what torch finds on the machine."""
    what = "torch + torchaudio"
    remedy = "install both in the same version: pip install 'torch==2.11.0' 'torchaudio==2.11.0'"
    try:
        done = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=TIMEOUT
        )
        return (OK, what, "imported together"), json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return (BROKEN, what, f"cannot be imported in {TIMEOUT} s", remedy), None
    except (IndexError, ValueError):
        errors = done.stderr.strip().splitlines() or [f"the process ends with {done.returncode}"]
        return (BROKEN, what, errors[-1], remedy), None


def _codecs():
    """Write and read a tone in each audio format."""
    try:
        numpy, soundfile = import_module("numpy"), import_module("soundfile")
        import_module("soxr")
    except (ImportError, OSError) as error:
        yield BROKEN, "codecs", str(error), "pip install --force-reinstall soundfile soxr"
        return
    library = f"libsndfile {soundfile.__libsndfile_version__}"
    remedy = "pip install --upgrade soundfile (its wheels contain libsndfile 1.1 or newer)"
    tone = numpy.sin(numpy.arange(24000) / 10) / 2
    for name in CODECS:
        try:
            file = io.BytesIO()
            soundfile.write(file, tone, 24000, format=name)
            file.seek(0)
            decoded, rate = soundfile.read(file)
            if rate != 24000 or abs(numpy.std(decoded) - numpy.std(tone)) >= 0.05:
                raise ValueError("the decoded tone is another one")
            yield OK, name, f"can be read ({library})"
        except (soundfile.SoundFileError, ValueError) as error:
            yield BROKEN, name, f"{library}: {error}", remedy


def _device(cuda, mps, built_for, threads):
    """Report the device that torch computes on, and its threads."""
    if cuda:
        yield OK, "device", f"cuda: {', '.join(cuda)}"
    elif mps:
        yield OK, "device", "mps"
    elif shutil.which("nvidia-smi"):
        built = f"is built for CUDA {built_for}" if built_for else "is built for CPUs"
        text = f"cpu, although nvidia-smi is installed: torch finds no GPU and {built}"
        yield MISSING, "device", text, "update the driver, or install the torch that fits it"
    else:
        yield OK, "device", "cpu (a GPU is many times faster)"
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count()
    text = f"torch uses {threads} on {cores} cores"
    if threads > cores:
        yield MISSING, "threads", text, f"export OMP_NUM_THREADS={cores}"
    else:
        yield OK, "threads", text
