"""Fixtures of all tests."""

import fcntl
import logging
import os
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from speechbrain.utils import logger
from tiny import untrained_export
from tones import write_tones

from speechbrain_music.data_prep.replica import layouts

# Data sets that no recipe evaluates have replicas in tests only; `trees` lists all of them.
layouts.__path__.append(str(Path(__file__).with_name("layouts")))

from speechbrain_music.data_prep.replica import storage, trees  # noqa: E402

# Threads of several processes on few cores wait for each other: one each is faster here.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# Lists all packages with pip, each time a recipe makes its folder.
logger.get_environment_description = cache(logger.get_environment_description)


@pytest.fixture(autouse=True)
def log_handlers():
    """Those that a recipe adds end with the test, as the stream does that they write to."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def blank_pictures(request, monkeypatch):
    """Saves an empty image in place of each figure: drawing takes longer than a tiny training.

    Tests of pictures have the mark `pictures`.
    """
    if not request.node.get_closest_marker("pictures"):
        monkeypatch.setattr(
            Figure, "savefig", lambda _, file, **__: Image.new("L", (1, 1)).save(file, "png")
        )


@pytest.fixture(scope="session")
def tone_folder(tmp_path_factory):
    """A folder of 8 synthetic recordings, 6 to 12 s each; not to be written to."""
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder)
    return folder


@pytest.fixture(scope="session")
def real_audio():
    """The folder of real recordings that SBMUSIC_REAL_AUDIO names."""
    folder = Path(os.environ.get("SBMUSIC_REAL_AUDIO", "/nonexistent"))
    if not folder.is_dir():
        pytest.skip("SBMUSIC_REAL_AUDIO names no folder of real recordings")
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A function: name -> a folder that all worker processes share, and a lock while it is filled.

    `with shared(name) as folder:` holds the lock.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder below the run's
        root = root.parent
    root = root / "shared"

    @contextmanager
    def shared(name):
        folder = root / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder

    return shared


@pytest.fixture(scope="session")
def replica(shared):
    """A function: name of a data set -> the folder of its replica; as few pieces as can be.

    A second call finds it complete, or continues it. A pool of processes would start for longer
    than so few pieces take.
    """

    def render_here(work, jobs, workers):
        for job in jobs:
            work(*job)

    def replica(name, scale=0.0001):
        with shared(f"replica-{scale}/{name}") as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "render_all", render_here)
            return trees.make_replica(name, folder, scale)

    return replica


@pytest.fixture(scope="session")
def tiny_export(shared):
    """An untrained export of two small layers; not to be written to."""
    with shared("export") as folder:
        return folder if folder.exists() else untrained_export(folder)
