"""Run recipes in processes of their own, several at a time."""

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

FINISHED = "finished.json"  # in a run's folder, written when its process has ended


def run_recipes(commands, folders=None, **metadata):
    """Run recipes, as many at a time as there are cores; one at a time on a GPU.

    `commands` hold what follows `python`. When a command has ended, `finished.json` in its folder
    (one per command) gets its peak memory and `metadata`. SIGTERM to this process ends the recipes
    too, as does a recipe that fails, which is a UserError.
    """
    at_once = 1 if torch.accelerator.is_available() else min(len(commands), os.cpu_count())
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // max(1, at_once)))}
    quiet = ["--noprogressbar"] * (at_once > 1)  # bars would write over each other
    waiting, running = list(enumerate(commands)), {}
    # By default SIGTERM ends this process at once, and the recipes would go on by themselves.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, command = waiting.pop(0)
                line = [sys.executable, *map(str, [*command, *quiet])]
                running[number] = subprocess.Popen(line, env=environment)
            number, usage = _wait_for_one(running)
            if folders:
                stored = {"peak_mib": round(usage.ru_maxrss / 1024), **metadata}
                write_together({folders[number] / FINISHED: json.dumps(stored) + "\n"})
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        signal.signal(signal.SIGTERM, before)


def read_finished(folder):
    """What `run_recipes` noted in a run's folder; {} if the run has not finished."""
    path = folder / FINISHED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _wait_for_one(running):
    """Waits until a process ends; returns its number and resource usage."""
    while True:
        for number, process in running.items():
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                del running[number]
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise UserError(f"{shlex.join(process.args[1:])} failed: see above")
                return number, usage
        time.sleep(0.2)
