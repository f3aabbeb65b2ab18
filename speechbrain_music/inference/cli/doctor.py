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
from typing import NamedTuple

PACKAGE = "speechbrain-music"
OK, MISSING, BROKEN = "ok", "-", "BROKEN"
# Name -> libsndfile's format and subtype.
CODECS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
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


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    subject: str
    text: str
    remedy: str = ""


def add_arguments(parser):
    """Add nothing: `sbmusic doctor` has no options."""


def run(args):
    """Print the findings; return 1 if something required is broken."""
    broken = False
    for finding in _findings():
        broken |= finding.state == BROKEN
        print(f"{finding.state:6}  {finding.subject:18}  {finding.text}", flush=True)
        if finding.remedy:
            print(f"{'':6}  {'':18}  -> {finding.remedy}", flush=True)
    print("Something required is broken." if broken else "Everything required works.")
    return int(broken)


def _findings():
    fits = sys.version_info >= (3, 11)
    remedy = "" if fits else "install Python 3.11 or newer, and the package again there"
    text = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding(OK if fits else BROKEN, "python", text, remedy)
    yield from _packages()
    torch, machine = _torch_pair()
    yield torch
    yield from _codecs()
    if machine:
        yield _device(machine)
        yield _threads(machine)
    yield _disk()


def _packages():
    """Check this package and its requirements."""
    try:
        required = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Finding(BROKEN, PACKAGE, "is not installed", "pip install . in its repository")
        return
    yield Finding(OK, PACKAGE, metadata.version(PACKAGE))
    try:
        from packaging.requirements import Requirement
    except ImportError as error:
        yield Finding(BROKEN, "packaging", str(error), "pip install packaging")
        return
    seen = set()
    for line in required:
        requirement = Requirement(line)
        name, wanted = requirement.name, line.partition(";")[0].strip()
        extra = re.search(r"extra == .(\w+)", str(requirement.marker))
        if extra and (extra[1] in ("dev", "docs") or name in seen):
            continue
        seen.add(name)
        pip = f"pip install '{f'{PACKAGE}[{extra[1]}]' if extra else wanted}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            text = f"is missing (only needed for [{extra[1]}])" if extra else "is missing"
            yield Finding(MISSING if extra else BROKEN, name, text, pip)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding(OK, name, version)
        else:
            yield Finding(BROKEN, name, f"{version}, but {wanted} is needed", pip)


def _torch_pair():
    """Import torch and torchaudio together; also return what torch finds on the machine."""
    what = "torch + torchaudio"
    remedy = "install both in the same version: pip install 'torch==2.11.0' 'torchaudio==2.11.0'"
    try:
        done = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return Finding(BROKEN, what, f"cannot be imported in {TIMEOUT} s", remedy), None
    try:
        machine = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        errors = done.stderr.strip().splitlines()
        fault = errors[-1] if errors else f"the process ends with {done.returncode}"
        return Finding(BROKEN, what, fault, remedy), None
    return Finding(OK, what, "imported together"), machine


def _codecs():
    """Write and read a tone in each audio format."""
    try:
        numpy, soundfile = import_module("numpy"), import_module("soundfile")
        import_module("soxr")
    except (ImportError, OSError) as error:
        yield Finding(BROKEN, "codecs", str(error), "pip install --force-reinstall soundfile soxr")
        return
    tone = numpy.sin(numpy.arange(24000) / 10) / 2
    for name, (container, coding) in CODECS.items():
        try:
            file = io.BytesIO()
            soundfile.write(file, tone, 24000, coding, format=container)
            file.seek(0)
            decoded, rate = soundfile.read(file)
            equal = rate == 24000 and abs(numpy.std(decoded) - numpy.std(tone)) < 0.05
            fault = "" if equal else "the decoded tone is another one"
        except (soundfile.SoundFileError, ValueError) as error:
            fault = str(error)
        library = f"libsndfile {soundfile.__libsndfile_version__}"
        if fault:
            remedy = "pip install --upgrade soundfile (its wheels contain libsndfile 1.1 or newer)"
            yield Finding(BROKEN, name, f"{library}: {fault}", remedy)
        else:
            yield Finding(OK, name, f"can be read ({library})")


def _device(machine):
    """Report the device that torch computes on."""
    if machine["cuda"]:
        return Finding(OK, "device", f"cuda: {', '.join(machine['cuda'])}")
    if machine["mps"]:
        return Finding(OK, "device", "mps")
    if shutil.which("nvidia-smi"):
        cuda = machine["built_for"]
        built = f"is built for CUDA {cuda}" if cuda else "is built for CPUs"
        text = f"cpu, although nvidia-smi is installed: torch finds no GPU and {built}"
        remedy = "update the driver, or install the torch that fits it"
        return Finding(MISSING, "device", text, remedy)
    return Finding(OK, "device", "cpu (a GPU is many times faster)")


def _threads(machine):
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count()
    text = f"torch uses {machine['threads']} on {cores} cores"
    if machine["threads"] > cores:
        return Finding(MISSING, "threads", text, f"export OMP_NUM_THREADS={cores}")
    return Finding(OK, "threads", text)


def _disk():
    here = os.getcwd()
    free = shutil.disk_usage(here).free
    text = f"{free / 1e9:.1f} GB free in {here}"
    if not os.access(here, os.W_OK):
        return Finding(MISSING, "disk", f"{here} cannot be written to", "work in another folder")
    if free < MIN_FREE:
        return Finding(MISSING, "disk", text, "free disk space, or write to another disk")
    return Finding(OK, "disk", text)
