"""The training step of SpeechBrain's BEST-RQ recipe (LibriSpeech), with this project's sizes."""

import random

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.BESTRQ import brq_mask_collate_fn
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer.TransformerASR import EncoderWrapper, TransformerASR
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.quantisers import RandomProjectionQuantizer
from speechbrain.processing.features import InputNormalization
from torch import nn
from torch.nn import functional as F

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.frontend import BANDS, HOP, N_FFT, STACK

BLOCK_FRAMES, MASKED = 400 // 10, 0.2  # 400 ms; the share of frames that is masked
WIDTH = {"branchformer": "csgu_linear_units", "conformer": "d_ffn"}


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


class Recipe(nn.Module):
    """The recipe's model: from a batch of waves to the loss; sizes are keys of our yaml."""

    def __init__(self, block, hparams):
        super().__init__()
        d_model, codebook_size = hparams["d_model"], hparams["codebook_size"]
        self.features = Fbank(sample_rate=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS)
        self.normalize = InputNormalization(norm_type="sentence")
        self.quantizer = RandomProjectionQuantizer(STACK * BANDS, 16, codebook_size)
        convolution = {"out_channels": (128, 32), "kernel_sizes": (3, 3), "strides": (2, 2)}
        convolution |= {"num_layers_per_block": 1, "residuals": (False, False)}
        self.convolutions = ConvolutionFrontEnd((None, None, BANDS), num_blocks=2, **convolution)
        kind = {"encoder_module": block, "attention_type": "RelPosMHAXL", "num_decoder_layers": 0}
        kind |= {"normalize_before": True, "causal": False, WIDTH[block]: hparams["ffn_units"]}
        transformer = TransformerASR(
            tgt_vocab=1,
            input_size=32 * BANDS // 4,
            d_model=d_model,
            nhead=hparams["nhead"],
            num_encoder_layers=hparams["num_layers"],
            dropout=hparams["dropout"],
            activation=nn.GELU,
            conformer_activation=nn.GELU,
            **kind,
        )
        self.encoder = EncoderWrapper(transformer)
        self.head = Linear(input_size=d_model, n_neurons=codebook_size)

    def forward(self, waves, lengths, frames):
        """A batch of `collate` to the mean cross-entropy of masked tokens."""
        mel = self.normalize(self.features(waves), lengths)
        mel = F.pad(mel, (0, 0, -mel.shape[1] % STACK, 0))
        masked = frames[::STACK] // STACK
        with torch.no_grad():
            stacked = mel.unflatten(1, (-1, STACK)).flatten(2)
            tokens = self.quantizer(stacked[:, masked])
        mel[:, frames] = 0.1 * torch.randn(len(mel), len(frames), BANDS, device=mel.device)
        logits = self.head(self.encoder(self.convolutions(mel), lengths))
        return F.cross_entropy(logits[:, masked].flatten(0, 1), tokens.flatten())


class RecipeStep:
    """The recipe's training step, as SpeechBrain's Brain runs it; on a GPU in bfloat16."""

    def __init__(self, device, block, hparams):
        torch.manual_seed(0)
        self.model = Recipe(block, hparams).to(device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.01)

    def __call__(self, batch):
        """The whole step; return the cross-entropy per masked token, the norm, the count."""
        waves, _, frames = batch
        device = waves.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = self.model(*batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item(), norm.item(), len(waves) * len(frames) // STACK
