"""Tasks by the frame: heads trained on windows, judged on whole tracks."""

import copy
import logging
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.epoch_loop import EpochCounter

from speechbrain_music.brains.base import MusicBrain, Plan, among_processes
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.evaluation.frame_features import (
    FrameCache,
    TrainingWindows,
    pad_windows,
    split_tracks_of,
)
from speechbrain_music.metrics.feature_statistics import mean_and_std
from speechbrain_music.nnet.frame_heads import FrameHead
from speechbrain_music.nnet.normalization import Standardization
from speechbrain_music.optim.patience import PlateauEarlyStopping

logger = logging.getLogger(__name__)

STATISTICS = 20_000  # frames, evenly spaced, from which features are standardised


class FrameBrain(MusicBrain):
    """Trains one head on a task by the frame; a recipe subclasses it.

    Validation is on whole tracks: their decoded annotations are scored, and the mean of the task's
    `selected` metrics decides which weights are kept, when the learning rate is halved and when
    training ends.

    Arguments
    ---------
    task : FrameTask
        At the rate of the head's logits.
    tracks : TrackSplit
        To validate on.
    patience : PlateauEarlyStopping
        Of this one head.
    **brain
        As `MusicBrain`. `modules` are head (FrameHead) and standardize.
    """

    def __init__(self, task, tracks, patience, **brain):
        super().__init__(**brain)
        self.task, self.tracks, self.patience = task, tracks, patience
        self.distributed_launch, self.world_size = False, 1  # every process does the same
        self.best = None

    def compute_forward(self, batch, stage):
        """Logits (B, S, C) of a `FrameBatch`."""
        return self.modules.head(self.modules.standardize(batch.x), batch.lengths)

    def compute_objectives(self, logits, batch, stage):
        """The task's loss, summed over the logits that count."""
        return self.task.loss(logits, batch.targets, batch.valid).sum()

    def count(self, batch):
        """Logits."""
        return batch.valid.sum()

    def parameter_groups(self):
        """One group: a head has no weight decay."""
        return [{"params": list(self.modules.head.parameters()), "lr": self.hparams.lr}]

    def on_stage_start(self, stage, epoch=None):
        """Sets where training starts."""
        if stage == sb.Stage.TRAIN:
            self.train_data.start(epoch, batch=self.step)

    def fit(self, epoch_counter, train_set, **options):
        """As SpeechBrain's; validation follows each epoch."""
        self.train_data = train_set.dataset
        super().fit(epoch_counter, train_set, progressbar=False, **options)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After an epoch of training: validates, keeps the best weights, may end the training."""
        scores = pd.DataFrame(self.score(self.tracks))
        value = scores[list(self.task.selected)].mean().mean()
        if self.patience.update(torch.tensor([value], dtype=torch.float64)):
            self.best = copy.deepcopy(self.modules.head.state_dict())
        self.learning_rates = [self.hparams.lr * float(self.patience.factor)]
        if not self.patience.alive:
            self.hparams.epoch_counter.limit = epoch

    @torch.no_grad()
    def predict(self, frames):
        """The annotation of a whole track: (T, L, d) frames -> Beats or LabelledIntervals."""
        self.modules.eval()
        lengths = torch.tensor([len(frames)])
        batch = pad_windows([(frames, torch.zeros(self.modules.head.steps(len(frames)), 1))])
        batch = batch._replace(lengths=lengths).to(self.device)
        return self.task.decode(self.compute_forward(batch, sb.Stage.TEST)[0].float().cpu())

    def score(self, tracks):
        """Figures of each track of a `TrackSplit`: list of dict metric -> float."""
        return [
            self.task.score(annotation, self.predict(tracks.frames(number)), seconds)
            for number, (annotation, seconds) in enumerate(
                zip(tracks.annotations, tracks.seconds, strict=True)
            )
        ]


class TrainedHeads(NamedTuple):
    """The heads of an encoder on a task."""

    table: pd.DataFrame  # a row per head: head, lr, seed, valid, epoch
    brains: list  # of each row, with its best weights
    splits: dict  # split -> TrackSplit
    chosen: dict  # head -> rows of its best learning rate, one per seed


def make_frame_caches(run, tracks):
    """The `FrameCache` of each encoder of a run."""
    options = run.hparams["feature_folder"], run.hparams["layers"]
    return [FrameCache(options[0], encoder, tracks.table, options[1]) for encoder in run.encoders]


def extract_frames(run, cache, tracks):
    """Fills an encoder's cache, together with other processes; returns split -> `TrackSplit`."""
    if if_main_process():
        frames, layers, dim = cache.metadata["shape"]
        logger.info(f"{frames} frames x {layers} x {dim}: {frames * layers * dim * 2 / 1e6:.0f} MB")
        cache.open()
    ddp_barrier()
    cache.check().extract(
        run.hparams["extract_batch"],
        run.hparams["num_workers"],
        *among_processes(),
        run.run_opts.device or sb.utils.distributed.infer_device(),
        bar=not run.run_opts.noprogressbar,
    )
    ddp_barrier()
    return split_tracks_of(tracks, cache)


def train_heads(brain_class, cache, splits, run):
    """Trains one head of each kind for each learning rate and seed."""
    for name in ("core", "utils.epoch_loop"):
        logging.getLogger(f"speechbrain.{name}").setLevel(logging.WARNING)
    hparams, train = run.hparams, splits["train"]
    rate = cache.encoder.frame_rate
    task = hparams["task"]
    # Logits are given for several frames together, or several for one frame.
    up, down = max(1, round(task.rate / rate)), max(1, round(rate / task.rate))
    task = task.at(rate * up / down)
    shape = {"layers": len(cache.layers), "dim": cache.encoder.frame_width, "up": up, "down": down}
    shape |= {"outputs": task.outputs, "hidden": hparams["hidden"]}
    rows = np.concatenate([np.arange(part.start, part.stop) for part in train.rows])
    rows = rows[:: -(-len(rows) // STATISTICS)]
    statistics = map(torch.from_numpy, mean_and_std(train.values, rows))
    standardize = Standardization(*statistics)
    table, brains = [], []
    keys = product(hparams["heads"], hparams["learning_rates"], hparams["probe_seeds"])
    for kind, lr, seed in keys:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = FrameHead(kind, **shape, dropout=hparams["probe_dropout"])
        if not brains:
            steps = [head.steps(part.stop - part.start) for part in train.rows]
            annotated = zip(train.annotations, steps, strict=True)
            targets = [task.targets(annotation, count) for annotation, count in annotated]
        windows = TrainingWindows(
            train, targets, head, round(hparams["window_seconds"] * rate),
            hparams["batch_size"], seed,
        )  # fmt: skip
        epochs = hparams["number_of_epochs"]
        patience = PlateauEarlyStopping(1, hparams["plateau_patience"], hparams["patience"])
        own = {"epoch_counter": EpochCounter(epochs), "precision": "fp32", "lr": lr, "seed": seed}
        brain = brain_class(
            task,
            splits["valid"],
            patience,
            modules={"head": head, "standardize": standardize},
            opt_class=hparams["opt_class"],
            hparams=hparams | own,
            run_opts=run.run_opts,
            checkpointer=None,
            plan=Plan(1, len(windows), len(windows) * epochs),
            learning_rate_factor=lambda step: 1.0,
        )
        brain.fit(own["epoch_counter"], make_loader(windows, batch_size=None))
        head.load_state_dict(brain.best)
        row = {"head": kind, "lr": lr, "seed": seed, "valid": float(patience.best)}
        table.append(row | {"epoch": int(patience.best_epoch)})
        brains.append(brain)
        logger.info("head {head}, learning rate {lr:g}, seed {seed}: {valid:.4f}".format(**row))
    table = pd.DataFrame(table)
    chosen = {}
    for kind, part in table.groupby("head", sort=False):
        rates = part.groupby("lr")
        chosen[kind] = rates.groups[rates["valid"].mean().idxmax()].tolist()
    return TrainedHeads(table, brains, splits, chosen)


def score_heads(heads):
    """Figures of the test tracks: kind of head -> list over seeds of lists of dicts."""
    return {
        kind: [heads.brains[row].score(heads.splits["test"]) for row in rows]
        for kind, rows in heads.chosen.items()
    }
