"""Recipes in processes of their own: finished ones, failures, termination."""

import os
import signal
import subprocess
import sys

import pytest

from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.processes import FINISHED, run_recipes

STARTED = """
from speechbrain_music.utils.processes import run_recipes
run_recipes([["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]])
"""


def test_finished_run_is_not_run_again(tmp_path):
    command = ["-c", f"open({str(tmp_path / 'a')!r}, 'a').write('ran')"]
    for _ in range(2):
        run_recipes([command], [tmp_path])
    assert (tmp_path / "a").read_text() == "ran" and (tmp_path / FINISHED).exists()


@pytest.mark.parametrize("given", [None, "3"])
def test_recipes_share_the_cores_unless_told_otherwise(given, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    write = "import os; open({!r}, 'w').write(os.environ['OMP_NUM_THREADS'])"
    paths = [tmp_path / name for name in "ab"]
    run_recipes([["-c", write.format(str(path))] for path in paths])
    assert [path.read_text() for path in paths] == [given or "4"] * 2


def test_failure_ends_other_recipes(tmp_path):
    started = ["-c", f"import time; open({str(tmp_path / 'a')!r}, 'w'); time.sleep(60)"]
    fails = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'a')!r}): time.sleep(0.1)"
    with pytest.raises(UserError, match=r"exit\(2\).* failed: see above"):
        run_recipes([started, ["-c", fails + "\nexit(2)"]], [tmp_path, tmp_path])
    assert not (tmp_path / FINISHED).exists()


def test_recipes_end_with_terminated_parent():
    starter = subprocess.Popen([sys.executable, "-c", STARTED], stdout=subprocess.PIPE, text=True)
    recipe = int(starter.stdout.readline())
    starter.terminate()
    assert starter.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(recipe, 0)
