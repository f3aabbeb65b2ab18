"""The training step of SpeechBrain's BEST-RQ recipe (LibriSpeech), with this project's sizes."""

import random
from pathlib import Path

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.BESTRQ import brq_mask_collate_fn
from torch.nn import functional as F

from speechbrain_music.models.frontend import BANDS, HOP, STACK

BLOCK_FRAMES, MASKED = 400 // 10, 0.2  # 400 ms; the share of frames that is masked
SIZES = ("num_layers", "d_model", "nhead", "ffn_units", "dropout", "codebook_size")


def collate(waves):
    """The recipe's batch: waves, relative lengths, mel frames that are masked in every item."""
    random.seed(0)  # the collate function rounds a fraction of a mask at random
    torch.manual_seed(0)
    return brq_mask_collate_fn(
        [{"id": row, "sig": wave} for row, wave in enumerate(waves)],
        get_out_len_fn=lambda samples: samples // HOP + 1,
        mask_prob=MASKED / BLOCK_FRAMES,
        mask_length=BLOCK_FRAMES,
        n_mels=BANDS,
    )


def make_brain(block, hparams, device):
    """The Brain of the recipe, in the sizes of our yaml; on a GPU it trains in bfloat16."""
    torch.manual_seed(0)
    sizes = {key: getattr(hparams, key) for key in SIZES}
    with Path(__file__).with_suffix(".yaml").open(encoding="utf-8") as file:
        recipe = load_hyperpyyaml(file, {"block": block} | sizes)
    run_opts = {"device": device, "precision": "bf16" if device == "cuda" else "fp32"}
    brain = RecipeBrain(recipe["modules"], recipe["opt_class"], recipe, run_opts)
    brain.init_optimizers()
    brain.modules.train()
    return brain


class RecipeBrain(sb.Brain):
    """The recipe's Brain; a batch is what `collate` returns."""

    def compute_forward(self, batch, stage):
        """Logits (items, tokens, codebook size) of the masked tokens, and these tokens."""
        waves, lengths, frames = batch
        mel = self.modules.normalize(self.modules.features(waves), lengths)
        mel = F.pad(mel, (0, 0, -mel.shape[1] % STACK, 0))
        masked = frames[::STACK] // STACK
        with torch.no_grad():
            stacked = mel.unflatten(1, (-1, STACK)).flatten(2)
            tokens = self.modules.quantizer(stacked[:, masked])
        mel[:, frames] = 0.1 * torch.randn(len(mel), len(frames), BANDS, device=mel.device)
        hidden = self.modules.encoder(self.modules.convolutions(mel), lengths)
        return self.modules.head(hidden)[:, masked], tokens

    def compute_objectives(self, predictions, batch, stage):
        """The mean cross-entropy of masked tokens."""
        logits, tokens = predictions
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
