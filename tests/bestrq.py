"""The pre-training recipe's forward pass and loss on given log-mel."""

from types import SimpleNamespace

import speechbrain as sb
import torch

from recipes.pretrain.train import BestRQBrain
from speechbrain_music.brains.base import Plan
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.ssl import MaskFill, MelHead, TokenHead
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer


class GivenMel(torch.nn.Module):
    """In place of `LogMel`: takes log-mel instead of a wave."""

    def forward(self, mel, lengths):
        return mel, lengths


class BestRQ:
    """One step of the recipe's Brain, called as a model on log-mel.

    Arguments are those of `make_encoder`, of the recipe's yaml, or ready modules.
    """

    def __init__(
        self,
        block="branchformer",
        mixer="summary",
        width=16,
        codebooks=1,
        encoder=None,
        quantizer=None,
        reconstruct="masked",
        mel_residual="none",
        mask_fill="noise",
    ):
        torch.manual_seed(0)
        self.encoder = encoder or make_encoder(
            block, mixer, 1, width, 2, 2 * width, frontend_channels=4, dropout=0.0
        )
        width = self.encoder.config["d_model"]
        self.quantizer = quantizer or RandomProjectionQuantizer(512, 8, 64, codebooks)
        self.token_head = TokenHead(width, self.quantizer)
        self.mel_head = MelHead(width, mel_residual)
        self.mask = MaskFill(mask_fill)
        modules = {
            name: getattr(self, name)
            for name in ("quantizer", "mask", "encoder", "token_head", "mel_head")
        }
        hparams = {
            "output_folder": "not made",
            "precision": "fp32",
            "reconstruct": reconstruct,
            "mel_residual": mel_residual,
            "reconstruction_weight": 1.0,
            "cqt_weight": 0,
            "learning_rate_factor": lambda step, total: 1.0,
        }
        self.brain = BestRQBrain(
            modules={"features": GivenMel()} | modules,
            opt_class=None,
            hparams=hparams,
            run_opts={"device": "cpu"},
            checkpointer=None,
            plan=Plan(1, 1, 1),
            statistics=None,
        )
        self.parameters = self.brain.modules.parameters
        self.named_parameters = self.brain.modules.named_parameters

    def train(self, mode=True):
        """Sets all modules to training mode; returns the model."""
        self.brain.modules.train(mode)
        return self

    def eval(self):
        """Sets all modules to evaluation mode; returns the model."""
        return self.train(False)

    def __call__(self, mel, lengths, mask, noise):
        """`Predictions`, the loss, and its two parts without gradients."""
        batch = SimpleNamespace(wave=mel, samples=lengths, mask=mask, noise=noise)
        predictions = self.brain.compute_forward(batch, sb.Stage.TRAIN)
        loss = self.brain.compute_objectives(predictions, batch, sb.Stage.TRAIN)
        cross_entropy = self.brain.losses["cross_entropy"]
        parts = {"cross_entropy": cross_entropy, "mel_mse": (loss - cross_entropy).detach()}
        return SimpleNamespace(**predictions._asdict(), loss=loss, **parts)  # the weight is 1
