"""Errors that the user can fix: one line and an exit code, in recipes and commands alike."""

import errno
import re
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
