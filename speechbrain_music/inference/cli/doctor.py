"""Whether this machine is ready, with remedies.

Looks at packages, the pair of torch and torchaudio, codecs, device, threads and disk. Exit code 1
if something that is needed is broken; what is optional and missing is only said.
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
# libsndfile's names of format and coding; what they are called.
CODECS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
LEAST_ROOM = 2e9  # bytes: a day of frames of 512 at 25 Hz has 4.4e9
PATIENCE = 120  # seconds for torch to be imported
# In a process of its own: a library that does not fit may end it.
TORCH = """
import json, torch, torchaudio, torchaudio.transforms
torchaudio.transforms.MelSpectrogram(24000)(torch.zeros(1, 2400))
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
mps = getattr(torch.backends, "mps", None)
print(json.dumps({"cuda": names, "built_for": torch.version.cuda, "threads":
    torch.get_num_threads(), "mps": bool(mps and mps.is_available())}))
"""


class Finding(NamedTuple):
    """A line of the report: its state, what was looked at, what was seen, what to do.

    Example
    -------
    >>> Finding(OK, "python", "3.11.7").remedy
    ''
    """

    state: str
    what: str
    seen: str
    remedy: str = ""


def add_arguments(parser):
    """`sbmusic doctor` has no options.

    Example
    -------
    >>> from argparse import ArgumentParser
    >>> add_arguments(parser := ArgumentParser())
    >>> parser.parse_args([])
    Namespace()
    """


def run(args):
    """Prints the findings; 1 if something is broken.

    Example
    -------
    >>> from unittest.mock import patch
    >>> noise = Finding(BROKEN, "mp3", "libsndfile 1.0: noise", "pip install --upgrade soundfile")
    >>> with patch(f"{run.__module__}.findings", lambda: [noise]):
    ...     run(None)
    BROKEN  mp3                 libsndfile 1.0: noise
                                -> pip install --upgrade soundfile
    Something that is needed is broken.
    1
    """
    broken = False
    for finding in findings():
        broken |= finding.state == BROKEN
        print(f"{finding.state:6}  {finding.what:18}  {finding.seen}", flush=True)
        if finding.remedy:
            print(f"{'':6}  {'':18}  -> {finding.remedy}", flush=True)
    print("Something that is needed is broken." if broken else "All that is needed is there.")
    return int(broken)


def findings():
    """Looks at one thing after the other; yields `Finding`s.

    Example
    -------
    >>> next(findings()).what
    'python'
    """
    yield _python()
    yield from _packages()
    torch, found = _torch_pair()
    yield torch
    yield from _codecs()
    if found:
        yield _device(found)
        yield _threads(found)
    yield _disk()


def _python():
    fits = sys.version_info >= (3, 11)
    remedy = "" if fits else "install Python 3.11 or newer, and the package again there"
    seen = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding(OK if fits else BROKEN, "python", seen, remedy)


def _packages():
    """This package and all that it requires, with versions."""
    try:
        required = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Finding(BROKEN, PACKAGE, "is not installed", "pip install . in its repository")
        return
    yield Finding(OK, PACKAGE, metadata.version(PACKAGE))
    seen = set()
    for requirement in required:
        name = re.match(r"[\w.-]+", requirement).group()
        extra = re.search(r"extra\s*==\s*['\"](\w+)", requirement)
        if extra and (extra[1] == "dev" or name in seen):
            continue
        seen.add(name)
        yield _package(name, requirement.partition(";")[0].strip(), extra and extra[1])


def _package(name, requirement, extra):
    pip = f"pip install '{PACKAGE}[{extra}]'" if extra else f"pip install '{requirement}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        seen = f"is missing (only needed for [{extra}])" if extra else "is missing"
        return Finding(MISSING if extra else BROKEN, name, seen, pip)
    if not _fits(version, requirement):
        return Finding(BROKEN, name, f"{version}, but {requirement} is needed", pip)
    return Finding(OK, name, version)


def _fits(version, requirement):
    try:
        from packaging.requirements import Requirement
    except ImportError:  # comes with speechbrain
        return True
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def _torch_pair():
    """Whether torch and torchaudio can be imported together; what they see of the machine."""
    what = "torch + torchaudio"
    remedy = "install the two in one version: pip install 'torch==2.11.0' 'torchaudio==2.11.0'"
    try:
        done = subprocess.run(
            [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return Finding(BROKEN, what, f"cannot be imported in {PATIENCE} s", remedy), None
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"the process ends with {done.returncode}"])[
            -1
        ]
        return Finding(BROKEN, what, last, remedy), None
    return Finding(OK, what, "imported together"), found


def _codecs():
    """Whether each kind of audio can be written and read again."""
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
            read, rate = soundfile.read(file)
            fault = (
                "" if rate == 24000 and abs(numpy.std(read) - numpy.std(tone)) < 0.05 else "noise"
            )
        except (soundfile.SoundFileError, ValueError) as error:
            fault = str(error)
        library = f"libsndfile {soundfile.__libsndfile_version__}"
        if fault:
            remedy = "pip install --upgrade soundfile, whose wheels bring libsndfile 1.1 or newer"
            yield Finding(BROKEN, name, f"{library}: {fault}", remedy)
        else:
            yield Finding(OK, name, f"is read ({library})")


def _device(found):
    """What computes."""
    if found["cuda"]:
        return Finding(OK, "device", f"cuda: {', '.join(found['cuda'])}")
    if found["mps"]:
        return Finding(OK, "device", "mps")
    if shutil.which("nvidia-smi"):
        built = f"is built for CUDA {found['built_for']}" if found["built_for"] else "is for CPUs"
        return Finding(
            MISSING,
            "device",
            f"cpu, though there is nvidia-smi: torch sees no GPU and {built}",
            "update the driver, or install the torch that fits it",
        )
    return Finding(OK, "device", "cpu (a GPU is many times faster)")


def _threads(found):
    """How many of the cores torch uses."""
    has = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has else os.cpu_count()
    seen = f"{found['threads']} of torch on {cores} cores"
    if found["threads"] > cores:
        return Finding(MISSING, "threads", seen, f"export OMP_NUM_THREADS={cores}")
    return Finding(OK, "threads", seen)


def _disk():
    """Room in the working folder, and whether it can be written to."""
    here = os.getcwd()
    free = shutil.disk_usage(here).free
    seen = f"{free / 1e9:.1f} GB free in {here}"
    if not os.access(here, os.W_OK):
        return Finding(MISSING, "disk", f"{here} cannot be written to", "work in another folder")
    if free < LEAST_ROOM:
        return Finding(MISSING, "disk", seen, "make room, or write to another disk")
    return Finding(OK, "disk", seen)
