"""Run recipes in processes of their own, several at a time."""

import os
import shlex
import signal
import subprocess
import sys
import time

import torch

from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

FINISHED = "finished.json"  # in a run's folder: its process has ended without an error


def run_recipes(commands, folders=None):
    """Run recipes, as many at a time as there are cores; one at a time on a GPU.

    `commands` hold what follows `python`. With `folders`, one per command, a command that has ended
    leaves `finished.json` in its folder and is not run again. SIGTERM to this process ends the
    recipes too, as does a recipe that fails, which is a UserError.
    """
    marks = [folder / FINISHED for folder in folders] if folders else [None] * len(commands)
    pairs = zip(commands, marks, strict=True)
    waiting = [(command, mark) for command, mark in pairs if not (mark and mark.exists())]
    at_once = 1 if torch.accelerator.is_available() else min(len(waiting), os.cpu_count())
    threads = str(max(1, os.cpu_count() // max(1, at_once)))
    environment = {"OMP_NUM_THREADS": threads} | os.environ  # the user's, if it is set
    quiet = ["--noprogressbar"] * (at_once > 1)  # bars would write over each other
    running = {}  # process -> mark
    # By default SIGTERM ends this process at once, and the recipes would go on by themselves.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                command, mark = waiting.pop(0)
                line = [sys.executable, *map(str, [*command, *quiet])]
                running[subprocess.Popen(line, env=environment)] = mark
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                if process.returncode:
                    raise UserError(f"{shlex.join(process.args[1:])} failed: see above")
                if mark := running.pop(process):
                    write_together({mark: "{}\n"})
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, before)
