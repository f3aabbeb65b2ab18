"""What a run writes down: one line of JSON a report, TensorBoard, and curves to look at."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from speechbrain_music.utils.atomic import atomic_file


class RunLog:
    """Figures by optimiser step, in `metrics.jsonl` and for TensorBoard.

    Arguments
    ---------
    folder : path
        Of the run.
    step : int
        Steps done when the run begins or resumes: lines of later steps, left by a run that was
        killed after its last checkpoint, are dropped.

    Example
    -------
    >>> log = RunLog(getfixture("tmp_path"), step=0)
    >>> log.write("train", 10, loss=2.5)
    >>> log.rows("train")
    [{'kind': 'train', 'step': 10, 'loss': 2.5}]
    >>> RunLog(getfixture("tmp_path"), step=5).rows("train")
    []
    """

    def __init__(self, folder, step):
        self.path = Path(folder) / "metrics.jsonl"
        kept = [row for row in self._read() if row["step"] <= step]
        with atomic_file(self.path) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self.board = SummaryWriter(Path(folder) / "tensorboard", purge_step=step + 1)

    def _read(self):
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:  # cut by a kill
                break
        return rows

    def write(self, kind, step, **figures):
        """Adds a row; `kind` is train or valid, `figures` are numbers."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **figures}) + "\n")
        for name, value in figures.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)
        self.board.flush()

    def rows(self, kind):
        """All rows of a kind so far, in the order of steps."""
        return [row for row in self._read() if row["kind"] == kind]
