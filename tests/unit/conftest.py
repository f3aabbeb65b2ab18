"""Fixtures of the tests of data preparation."""

from functools import partial
from unittest.mock import Mock

import pytest
from small_trees import make_tree

from speechbrain_music.data_prep.headers import audio


@pytest.fixture
def tree(tmp_path):
    """A function: name of a data set, replaced texts -> the folder of its small tree."""
    return partial(make_tree, tmp_path)


@pytest.fixture
def out(tmp_path):
    """A folder for manifests that does not exist yet."""
    return tmp_path / "out"


@pytest.fixture
def opened(monkeypatch):
    """The function that reads headers, which counts its calls."""
    monkeypatch.setattr(audio, "audio_info", Mock(wraps=audio.audio_info))
    return audio.audio_info
