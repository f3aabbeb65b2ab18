"""Held-out figures of a regression onto several targets."""

import torch


class RegressionMetrics:
    """Sums over held-out tokens, to be added over processes, and figures from them.

    `losses` are names of means over tokens; `names` those of the targets, which have `width` d
    each. The sums are kept on `device`.
    """

    def __init__(self, losses, names, width, device="cpu"):
        self.losses, self.names = losses, names
        size = 1 + len(losses) + len(names) * (2 + width)
        self.sums = torch.zeros(size, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, losses, predicted, targets):
        """Adds M tokens: sums of the losses (a dict), L predictions and L targets (L, M, d)."""
        values = [losses[name].double() for name in self.losses]
        predicted, targets = predicted.double(), targets.double()
        sums = [(predicted - targets).square(), targets.square()]
        sums = torch.stack([value.sum(dim=(1, 2)) for value in sums], dim=1)
        sums = torch.cat([sums, targets.sum(dim=1)], dim=1).flatten()
        count = torch.full_like(sums[:1], targets.shape[1])
        self.sums += torch.cat([count, torch.stack(values), sums])

    def figures(self, sums):
        """A dict of floats, from `sums` added over all processes; {} of no token.

        The losses, then r2_NAME of each target: the share of its variance that is predicted.
        """
        count, losses, sums = sums.split((1, len(self.losses), len(sums) - 1 - len(self.losses)))
        if not count:
            return {}
        figures = dict(zip(self.losses, (losses / count).tolist(), strict=True))
        for name, row in zip(self.names, sums.view(len(self.names), -1), strict=True):
            variance = row[1] - row[2:].square().sum() / count
            figures[f"r2_{name}"] = (1 - row[0] / variance).item()
        return figures | {"tokens": count.item()}
