"""R2 over batches is that over all tokens."""

import pytest
import torch

from speechbrain_music.metrics.held_out import RegressionMetrics


def test_r2_over_batches_equals_that_of_all():
    torch.manual_seed(0)
    targets = torch.randn(2, 90, 5) * torch.tensor([1.0, 2, 3, 4, 5]) + 7
    predicted = targets + 0.5 * torch.randn_like(targets)
    metrics = RegressionMetrics(["loss"], ["one", "two"], 5)
    assert metrics.figures(metrics.sums) == {}
    for part in (slice(0, 20), slice(20, 90)):
        losses = {"loss": predicted[0, part].sum()}
        metrics.update(losses, predicted[:, part], targets[:, part])
    figures = metrics.figures(metrics.sums)
    for name, guess, target in zip(("one", "two"), predicted, targets, strict=True):
        error = (guess - target).square().sum()
        variance = (target - target.mean(dim=0)).square().sum()
        assert figures[f"r2_{name}"] == pytest.approx((1 - error / variance).item(), abs=1e-5)
    assert figures["loss"] == pytest.approx(predicted[0].sum().item() / 90, rel=1e-5)
    assert figures["tokens"] == 90
