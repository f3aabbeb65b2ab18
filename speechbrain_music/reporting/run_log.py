"""What a run writes down: one line of JSON a report, TensorBoard, and curves to look at."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from speechbrain_music.utils.atomic import atomic_file

METRICS = "metrics.jsonl"
# A held-out figure's title and key, and the trivial predictors that it stands beside.
HELD_OUT = (
    ("cross-entropy (nats)", "cross_entropy", ("unigram", "bigram")),
    ("accuracy", "accuracy", ("commonest", "copy")),
    ("mel error", "mel_mse", ("clip_mean", "interpolation")),
)


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
        self.path = Path(folder) / METRICS
        kept = [row for row in _read(self.path) if row["step"] <= step]
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

    def rows(self, kind):
        """All rows of a kind so far, in the order of steps."""
        return read_rows(self.path.parent, kind)


def read_rows(folder, kind):
    """All rows of a kind that the run in a folder has written, in the order of steps.

    Example
    -------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, METRICS).write_text('{"kind": "train", "step": 1}\\n{"kind": "tr')
    ...     read_rows(folder, "train")  # the last line was cut by a kill
    [{'kind': 'train', 'step': 1}]
    """
    return [row for row in _read(Path(folder) / METRICS) if row["kind"] == kind]


def beside(row, key, baselines):
    """What a held-out figure of a row stands beside, in words.

    Example
    -------
    >>> beside({"mel_mse_item_mean": 0.5}, "mel_mse", ["clip_mean"])
    'clip mean 0.500'
    """
    return ", ".join(f"{b.replace('_', ' ')} {row[f'{key}_{b}']:.3f}" for b in baselines)


def _read(path):
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # cut by a kill
            break
    return rows
