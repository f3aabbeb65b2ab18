"""The log of a training run: one line of JSON per report, and TensorBoard."""

import json
from contextlib import suppress
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from speechbrain_music.metrics.pretraining import CQT_ENTROPY, HELD_OUT
from speechbrain_music.reporting.pages import environment
from speechbrain_music.utils.atomic import atomic_file

METRICS = "metrics.jsonl"


class RunLog:
    """Figures by optimiser step, in `metrics.jsonl` and for TensorBoard.

    `step` are the optimiser steps done when the run in `folder` begins or resumes. Lines of later
    steps, left by a run that was killed after its last checkpoint, are dropped.
    """

    def __init__(self, folder, step):
        self.path = Path(folder) / METRICS
        kept = [row for row in read_rows(folder, "train", "valid") if row["step"] <= step]
        with atomic_file(self.path) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self.board = SummaryWriter(Path(folder) / "tensorboard", purge_step=step + 1)

    def write(self, kind, step, **figures):
        """Adds a row; `kind` is train or valid, `figures` are numbers."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **figures}) + "\n")
        for name, value in figures.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)
        self.board.flush()


def read_rows(folder, *kinds):
    """All rows of kinds (train, valid) in the log of a run's folder, in the order of steps."""
    path, rows = Path(folder, METRICS), []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ()
    for line in lines:
        with suppress(ValueError, LookupError, TypeError, RecursionError):  # cut or damaged
            row = json.loads(line)
            if row["kind"] in kinds and row["step"] >= 0:
                rows.append(row)
    return rows


def format_held_out(figures):
    """Held-out figures with their baselines, and probes of frames by layer, for the console."""
    template = environment().get_template("held_out.txt")
    return template.render(figures=figures, held_out=(*HELD_OUT, CQT_ENTROPY)).rstrip()
