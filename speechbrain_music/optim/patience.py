"""Learning rate on plateaus and early stopping, for many models at once."""

import torch
from torch import nn

THRESHOLD = 1e-4  # relative improvement that counts (ReduceLROnPlateau's default)


class PlateauEarlyStopping(nn.Module):
    """Follows a validation metric (higher is better) of each of P models.

    After more than `plateau` epochs without improvement a model's learning rate is halved, as
    `torch.optim.lr_scheduler.ReduceLROnPlateau` does; after `stop` epochs without a new best value
    its training ends. A module, so that checkpoints hold its buffers.
    """

    def __init__(self, models, plateau, stop):
        super().__init__()
        self.plateau, self.stop = plateau, stop
        lowest = torch.full((models,), -torch.inf, dtype=torch.float64)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("best", lowest)
        self.register_buffer("best_epoch", torch.zeros(models, dtype=torch.long))
        self.register_buffer("alive", torch.ones(models, dtype=torch.bool))
        self.register_buffer("factor", torch.ones(models))  # on the learning rate
        self.register_buffer("plateau_best", lowest.clone())
        self.register_buffer("plateau_bad", torch.zeros(models, dtype=torch.long))

    def update(self, values):
        """Whether each model is its best so far, (P,) bool, after an epoch with (P,) values."""
        self.epoch += 1
        values = values.to(self.best).nan_to_num(nan=-torch.inf)
        improved = self.alive & (values > self.best)
        self.best[improved] = values[improved]
        self.best_epoch[improved] = self.epoch

        better = values > self.plateau_best * (1 + THRESHOLD)
        self.plateau_best[better] = values[better]
        self.plateau_bad = torch.where(better, 0, self.plateau_bad + 1)
        halved = self.plateau_bad > self.plateau
        self.factor[halved] /= 2
        self.plateau_bad[halved] = 0

        self.alive &= self.epoch - self.best_epoch < self.stop
        return improved
