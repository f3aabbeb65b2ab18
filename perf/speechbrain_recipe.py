"""The training step of SpeechBrain's BEST-RQ recipe (LibriSpeech), with this project's sizes."""

import random
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.BESTRQ import brq_mask_collate_fn
from torch import nn
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


class RecipeStep:
    """The recipe's step, as SpeechBrain's Brain runs it; `hparams` of our yaml give the sizes."""

    def __init__(self, device, block, hparams):
        torch.manual_seed(0)
        sizes = {key: hparams[key] for key in SIZES}
        with Path(__file__).with_suffix(".yaml").open(encoding="utf-8") as file:
            recipe = load_hyperpyyaml(file, {"block": block} | sizes)
        self.modules = nn.ModuleDict(recipe["modules"]).to(device)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = recipe["opt_class"](self.parameters)

    def loss(self, waves, lengths, frames):
        """A batch of `collate` to the mean cross-entropy of masked tokens."""
        mel = self.modules.normalize(self.modules.features(waves), lengths)
        mel = F.pad(mel, (0, 0, -mel.shape[1] % STACK, 0))
        masked = frames[::STACK] // STACK
        with torch.no_grad():
            stacked = mel.unflatten(1, (-1, STACK)).flatten(2)
            tokens = self.modules.quantizer(stacked[:, masked])
        mel[:, frames] = 0.1 * torch.randn(len(mel), len(frames), BANDS, device=mel.device)
        hidden = self.modules.encoder(self.modules.convolutions(mel), lengths)
        logits = self.modules.head(hidden)
        return F.cross_entropy(logits[:, masked].flatten(0, 1), tokens.flatten())

    def __call__(self, batch):
        """The whole step, on a GPU in bfloat16: cross-entropy per masked token, norm, count."""
        waves, _, frames = batch
        device = waves.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = self.loss(*batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item(), norm.item(), len(waves) * len(frames) // STACK
