"""Recipes beside each other end with whoever started them."""

import os
import signal
import subprocess
import sys

import pytest

STARTED = """
from speechbrain_music.utils.processes import side_by_side
side_by_side([["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]])
"""


def test_they_end_with_a_terminated_starter():
    starter = subprocess.Popen([sys.executable, "-c", STARTED], stdout=subprocess.PIPE, text=True)
    recipe = int(starter.stdout.readline())
    starter.terminate()
    assert starter.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(recipe, 0)
