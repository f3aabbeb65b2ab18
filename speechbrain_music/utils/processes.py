"""Recipes run beside each other, each in a process of its own."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import torch

from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

FINISHED = "finished.json"  # in a run's folder: what running it took, written when it has ended


def side_by_side(commands, ended=None):
    """Runs recipes, as many at a time as there are cores for; one at a time on a GPU.

    Arguments
    ---------
    commands : list of list
        What follows `python`, for recipes: beside others they show no progress bar. Paths and
        numbers may stand in it.
    ended : callable, optional
        Called as each ends, with its place in `commands` and the most memory that it has held,
        in MiB (the system counts what this process held when it started it: no less is told).

    Raises
    ------
    UserError
        If one fails: the others are ended.

    Example
    -------
    >>> side_by_side([["-c", "pass"]], ended=lambda place, peak: print(place, peak > 1))
    0 True
    >>> side_by_side([["-c", "exit(2)"]])
    Traceback (most recent call last):
    speechbrain_music.utils.errors.UserError: -c 'exit(2)' failed: see above
    """
    at_once = 1 if torch.accelerator.is_available() else min(len(commands), os.cpu_count())
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // max(1, at_once)))}
    quiet = ["--noprogressbar"] * (at_once > 1)  # bars would write over each other
    running = {}
    # By default SIGTERM ends this process at once, and the others would train on by themselves.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for place, command in enumerate(commands):
            if len(running) == at_once:
                _wait_for_one(running, ended)
            line = [sys.executable, *map(str, [*command, *quiet])]
            running[place] = subprocess.Popen(line, env=environment)
        while running:
            _wait_for_one(running, ended)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        signal.signal(signal.SIGTERM, before)


def noted_in(folders, **facts):
    """An `ended` for `side_by_side`: notes in a run's folder that it has ended, and what it took.

    Arguments
    ---------
    folders : list of Path
        Of the runs, in the order of their commands.
    **facts
        Plain values, noted beside `peak_mib`.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> side_by_side([["-c", "pass"]], noted_in([folder], epochs=9))
    >>> noted = json.loads((folder / FINISHED).read_text())
    >>> noted["epochs"], noted["peak_mib"] > 1
    (9, True)
    """

    def ended(place, peak):
        noted = {"peak_mib": round(peak), **facts}
        write_together({folders[place] / FINISHED: json.dumps(noted) + "\n"})

    return ended


def _wait_for_one(running, ended):
    while True:
        for place, process in running.items():
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                del running[place]
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise UserError(f"{shlex.join(process.args[1:])} failed: see above")
                if ended:
                    ended(place, usage.ru_maxrss / 1024)
                return
        time.sleep(0.2)
