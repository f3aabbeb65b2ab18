"""Errors that the user can fix: one line and an exit code, in recipes and commands alike."""

import errno
import re
import subprocess
import sys

import pytest

from speechbrain_music.utils.errors import UserError, run_command, run_recipe


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("no\nfolder"), "error: no folder"),
        (OSError(errno.ENOSPC, "No space left"), "the disk is full .* free some space"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y cannot be .*Read-only file"),
        (PermissionError(errno.EACCES, "denied", "/x"), "/x cannot be read or written .denied"),
    ],
)
def test_one_line_and_exit_code_2(error, message, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert run_command(fail) == 2
    with pytest.raises(SystemExit, match="2"):
        run_recipe(fail)
    one, two = capsys.readouterr().err.splitlines()
    assert one == two and re.search(message, one)


@pytest.mark.parametrize("error", [BrokenPipeError(), TimeoutError(), KeyError("x")])
def test_other_errors_keep_their_traceback(error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        run_command(fail)


IN_A_GROUP = """
import os
from torch import distributed
from speechbrain_music.utils.errors import run_recipe

class Brain:
    def __init__(self):
        self.group, self.itself = distributed.group.WORLD, self  # as DDP and `hparams` do

def main(argv):
    distributed.init_process_group("gloo", init_method=argv[0], rank=0, world_size=1)
    distributed.barrier()
    Brain()

def gloo():
    tasks = os.listdir("/proc/self/task")
    return sum("gloo" in open(f"/proc/self/task/{task}/comm").read() for task in tasks)

run_recipe(lambda argv: main(argv) or print(gloo()))
print(gloo())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_of_a_process_group_is_left(tmp_path):
    """Such threads abort one run in ten as the interpreter ends, on a busy machine."""
    command = [sys.executable, "-c", IN_A_GROUP, f"file://{tmp_path}/meeting"]
    during, after = subprocess.run(command, capture_output=True, text=True).stdout.split()
    assert int(during) > 0 == int(after)
