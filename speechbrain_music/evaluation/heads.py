"""Training of heads on frozen features: one for each kind, learning rate and seed."""

import copy
import logging
from itertools import product
from typing import NamedTuple

import speechbrain as sb
import torch

from speechbrain_music.brains.base import MusicBrain
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.evaluation.probes import on_frozen_features
from speechbrain_music.optim.patience import PlateauEarlyStopping

logger = logging.getLogger(__name__)


class HeadBatch(NamedTuple):
    """B sequences for a head: windows of T frames, or tracks of T chunks, at most."""

    x: torch.Tensor  # (B, T, L, d) float32
    lengths: torch.Tensor  # (B,) int64
    targets: torch.Tensor  # (B, S, ...) int64, -1 after a window's end; of tracks (B,), their works


class HeadBrain(MusicBrain):
    """Trains one head; after each epoch `validate` decides which weights are kept, when the
    learning rate is halved and when training ends.

    A subclass has `compute_objectives`, `count` and `validate`. Batches are `HeadBatch`es.

    Arguments
    ---------
    split : TrackSplit or FeatureSplit
        To validate on.
    **brain
        As `MusicBrain`. `modules` has a `head`; `hparams` has `lr`, its learning rate, and `task`,
        a FrameTask or VersionIdentification, whose selected metrics are what validation maximises.
    """

    def __init__(self, split, **brain):
        super().__init__(**brain)
        self.task, self.split, self.best = self.hparams.task, split, None
        limits = self.hparams.plateau_patience, self.hparams.patience
        self.patience = PlateauEarlyStopping(1, *limits)
        self.distributed_launch, self.world_size = False, 1  # every process does the same

    def compute_forward(self, batch, stage):
        """What the head makes of a batch's x, (B, T, L, d), and lengths (B,)."""
        return self.modules.head(batch.x, batch.lengths)

    def validate(self):
        """What is to be maximised, of the validation split: a number."""
        raise NotImplementedError

    def parameter_groups(self):
        """One group: a head has no weight decay."""
        return [{"params": list(self.modules.head.parameters()), "lr": self.hparams.lr}]

    def on_stage_start(self, stage, epoch=None):
        """Sets where training starts."""
        if stage == sb.Stage.TRAIN:
            self.train_data.start(epoch, batch=self.step)

    def fit(self, epoch_counter, train_set, **options):
        """As SpeechBrain's; validation follows each epoch. Restores the best weights."""
        self.train_data = train_set.dataset
        super().fit(epoch_counter, train_set, progressbar=False, **options)
        self.modules.head.load_state_dict(self.best)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After an epoch of training: validates, keeps the best weights, may end the training."""
        value = torch.tensor([self.validate()], dtype=torch.float64)
        if self.patience.update(value) or self.best is None:
            self.best = copy.deepcopy(self.modules.head.state_dict())
        self.learning_rates = [self.hparams.lr * float(self.patience.factor)]
        if not self.patience.alive:
            self.hparams.epoch_counter.limit = epoch


def train_grid(brain_class, features, run, kinds, make_head, make_batches):
    """Trains a head of each kind for each learning rate and seed.

    make_head: kind -> a new head; make_batches: (head, seed) -> `ShuffledBatches`. Returns, for
    each head, a dict with head, lr, seed, valid (its best) and epoch; and its `brain_class`.
    """
    hparams, rows, brains = run.hparams, [], []
    for kind, lr, seed in product(kinds, hparams["learning_rates"], hparams["probe_seeds"]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = make_head(kind)
        batches = make_batches(head=head, seed=seed)
        brain = brain_class(
            features.splits["valid"],
            modules={"head": head},
            **on_frozen_features(hparams, run.run_opts, len(batches), lr=lr, seed=seed),
        )
        brain.fit(brain.hparams.epoch_counter, make_loader(batches, batch_size=None))
        row = {"head": kind, "lr": lr, "seed": seed, "valid": float(brain.patience.best)}
        logger.info("head {head}, learning rate {lr:g}, seed {seed}: {valid:.4f}".format(**row))
        rows.append(row | {"epoch": int(brain.patience.best_epoch)})
        brains.append(brain)
    return rows, brains


def best_rate(table):
    """Rows of the learning rate with the best mean validation value: one per seed.

    table: pandas.DataFrame with `lr` and `valid`.
    """
    rates = table.groupby("lr")
    return rates.groups[rates["valid"].mean().idxmax()].tolist()
