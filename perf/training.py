"""The training step of the systems, built from their yaml, on noise in place of music."""

from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml

from recipes.pretrain.train import BestRQBrain
from speechbrain_music.brains.base import Plan
from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.dataio.segments import SegmentBatch
from speechbrain_music.models.frontend import BANDS, STACK, token_count
from speechbrain_music.optim.clipping import scale_and_clip

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
            statistics=None,
            hours={},
        )
        self.brain._compile()  # as `fit` does; nothing unless asked for
        self.brain.init_optimizers()
        self.brain.modules.train()
        self.modules, self.optimizer = self.brain.modules, self.brain.optimizer
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def accumulate(self, batch):
        """Forward and backward; return the cross-entropy, summed over masked tokens."""
        with self.brain.training_ctx:
            predictions = self.brain.compute_forward(batch, sb.Stage.TRAIN)
            loss = self.brain.compute_objectives(predictions, batch, sb.Stage.TRAIN)
        loss.backward()
        return self.brain.losses["cross_entropy"]

    def update(self, count):
        """Clip and step on the gradients divided by `count`; return their norm."""
        norm = scale_and_clip(self.parameters, 1 / count, self.hparams["max_grad_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def __call__(self, batch):
        """The whole step; return the cross-entropy per masked token, the norm, the count."""
        loss, count = self.accumulate(batch), batch.mask.sum().item()
        norm = self.update(count)
        return loss.item() / count, norm, count
