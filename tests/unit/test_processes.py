"""Recipes in processes of their own: metadata, failures, termination."""

import os
import signal
import subprocess
import sys

import pytest

from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.processes import read_finished, run_recipes

STARTED = """
from speechbrain_music.utils.processes import run_recipes
run_recipes([["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]])
"""


def test_finished_run_has_metadata(tmp_path):
    assert read_finished(tmp_path) == {}
    run_recipes([["-c", "pass"]], [tmp_path], epochs=9)
    finished = read_finished(tmp_path)
    assert finished["epochs"] == 9 and finished["peak_mib"] > 1


def test_failure_ends_other_recipes(tmp_path):
    started = ["-c", f"import time; open({str(tmp_path / 'a')!r}, 'w'); time.sleep(60)"]
    fails = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'a')!r}): time.sleep(0.1)"
    with pytest.raises(UserError, match=r"exit\(2\).* failed: see above"):
        run_recipes([started, ["-c", fails + "\nexit(2)"]], [tmp_path, tmp_path])
    assert read_finished(tmp_path) == {}


def test_recipes_end_with_terminated_parent():
    starter = subprocess.Popen([sys.executable, "-c", STARTED], stdout=subprocess.PIPE, text=True)
    recipe = int(starter.stdout.readline())
    starter.terminate()
    assert starter.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(recipe, 0)
