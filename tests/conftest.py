"""What tests share."""

import logging
import os
from pathlib import Path

import pytest
import torch
from tones import write_tones

from speechbrain_music.data_prep.replica.trees import make_replica

# Threads of several processes on few cores wait for each other: one each is faster here.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def log_handlers():
    """Those that a recipe adds end with the test, as the stream does that they write to."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)


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
def replica(tmp_path_factory):
    """A function: name of a data set -> the folder of its replica; as few pieces as can be."""
    made = {}

    def replica(name, scale=0.0001):
        if (name, scale) not in made:
            folder = tmp_path_factory.mktemp("replica") / name
            made[name, scale] = make_replica(name, folder, scale)
        return made[name, scale]

    return replica
