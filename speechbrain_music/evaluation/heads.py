"""Base class of Brains that train one head on frozen features, and keep its best weights."""

import copy

import speechbrain as sb
import torch

from speechbrain_music.brains.base import MusicBrain


class HeadBrain(MusicBrain):
    """Trains one head; after each epoch `validate` decides which weights are kept, when the
    learning rate is halved and when training ends.

    A subclass has `compute_forward`, `compute_objectives`, `count` and `validate`.

    Arguments
    ---------
    patience : PlateauEarlyStopping
        Of this one head.
    **brain
        As `MusicBrain`. `modules` has a `head`; `hparams` has `lr`, its learning rate.
    """

    def __init__(self, patience, **brain):
        super().__init__(**brain)
        self.patience, self.best = patience, None
        self.distributed_launch, self.world_size = False, 1  # every process does the same

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


def best_rate(table):
    """Rows of the learning rate with the best mean validation value: one per seed.

    table: pandas.DataFrame with `lr` and `valid`.
    """
    rates = table.groupby("lr")
    return rates.groups[rates["valid"].mean().idxmax()].tolist()
