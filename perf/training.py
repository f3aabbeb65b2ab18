"""The training step of the systems, built from their yaml, on noise in place of music."""

from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml

from recipes.pretrain.train import BestRQBrain
from speechbrain_music.brains.base import Plan
from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.dataio.segments import SegmentBatch
from speechbrain_music.models.frontend import BANDS, STACK, token_count

HPARAMS = Path(__file__).parents[1] / "hparams"


def make_waves(items, seconds, device="cpu"):
    """Noise, (items, samples) at 24 kHz; speed does not depend on the signal."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(items, round(seconds * SAMPLE_RATE), generator=generator).to(device)


def make_batch(waves, masked=None):
    """A batch of full items with the same masked tokens: by default, ten of every fifty."""
    items, samples = waves.shape
    tokens = token_count(samples)
    if masked is None:
        masked = torch.where(torch.arange(tokens) // 10 % 5 == 0)[0]
    mask = torch.zeros(items, tokens, dtype=torch.bool, device=waves.device)
    mask[:, masked.to(waves.device)] = True
    return SegmentBatch(
        wave=waves,
        samples=torch.full((items,), samples, device=waves.device),
        mask=mask,
        noise=0.1 * torch.randn(int(mask.sum()) * STACK, BANDS, device=waves.device),
        rows=torch.arange(items),
        errors=[],
    )


class TrainingStep:
    """The training step of a system of hparams/; `overrides` are top-level keys of its yaml."""

    def __init__(self, system, device="cpu", compiled=False, **overrides):
        torch.manual_seed(0)
        with open(HPARAMS / f"{system}.yaml", encoding="utf-8") as file:
            self.hparams = load_hyperpyyaml(file, overrides)
        self.brain = BestRQBrain(
            modules=self.hparams["modules"],
            opt_class=self.hparams["opt_class"],
            hparams=self.hparams,
            run_opts={"device": device, "compile": compiled},
            checkpointer=None,
            plan=Plan(1, 1, 1),
            learning_rate_factor=lambda step: 1.0,
            statistics=None,
        )
        self.brain._compile()  # as `fit` does; nothing unless asked for
        self.brain.init_optimizers()
        self.brain.modules.train()
        self.modules = self.brain.modules
        groups = self.brain.optimizer.param_groups
        self.parameters = [p for group in groups for p in group["params"]]

    def __call__(self, batch):
        """The whole step; return the cross-entropy per masked token, the norm, the count."""
        self.brain.fit_batch(batch)
        count = batch.mask.sum().item()
        loss = self.brain.losses["cross_entropy"].item() / count
        return loss, self.brain.gradient_norm, count
