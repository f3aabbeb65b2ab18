"""BEST-RQ on music: predict the tokens, and rebuild the mel, of what was masked."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_music.models.frontend import BANDS, STACK
from speechbrain_music.nnet.masking import fill_masked, interpolate_masked

RECONSTRUCT = ("masked", "all")
MEL_RESIDUAL = ("none", "interpolation")
MASK_FILL = ("noise", "embedding")
MASK_EMBEDDING_STD = 0.1  # at the start, as the noise's


class Prediction(NamedTuple):
    """What the model says of a batch with M masked tokens, and N codebooks of K entries.

    `token_loss` and `mel_loss` are sums over masked tokens (`mel_loss` of the mean squared error
    of a token's 512 values): divide by M, or by the masked tokens of the whole effective batch.

    Example
    -------
    >>> losses = Prediction(None, torch.zeros(5, 1), None, torch.tensor(40.0), torch.tensor(4.0))
    >>> masked = len(losses.tokens)
    >>> losses.token_loss / masked, losses.mel_loss / masked  # in nats, mean squared
    (tensor(8.), tensor(0.8000))
    """

    logits: torch.Tensor  # (M, N, K)
    tokens: torch.Tensor  # (M, N) int64
    mel: torch.Tensor  # (M, 512), the rebuilt stack of four frames
    token_loss: torch.Tensor  # scalar
    mel_loss: torch.Tensor  # scalar


class BestRQ(nn.Module):
    """An encoder with the two heads of pre-training.

    Arguments
    ---------
    encoder : torch.nn.Module
        As `models.encoder.Encoder`.
    quantizer : torch.nn.Module
        As `nnet.quantizer.RandomProjectionQuantizer`, for vectors of 512 values.
    reconstruct : str
        "masked": the mel of masked tokens is rebuilt. "all": of all valid tokens; an item's error
        is then its mean over all its tokens, and counts as often as it has masked ones.
    mel_residual : str
        "none": the mel head gives the mel. "interpolation": in masked places it gives what lies
        beyond a straight line between the neighbouring visible frames.
    mask_fill : str
        What the encoder sees in masked places. "noise": the noise that `forward` gets. "embedding":
        four frames that are learned, the same for every masked token.

    Raises
    ------
    ValueError
        For another value of `reconstruct`, `mel_residual` or `mask_fill`.

    Example
    -------
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
    >>> model = BestRQ(Encoder(num_layers=1, d_model=32), RandomProjectionQuantizer(512))
    >>> mel, lengths = torch.randn(1, 80, 128), torch.tensor([20])
    >>> mask = torch.arange(20).unsqueeze(0) < 10
    >>> model(mel, lengths, mask, 0.1 * torch.randn(40, 128)).logits.shape
    torch.Size([10, 1, 8192])
    """

    def __init__(
        self,
        encoder,
        quantizer,
        reconstruct="masked",
        mel_residual="none",
        mask_fill="noise",
    ):
        super().__init__()
        for name, value, allowed in (
            ("reconstruct", reconstruct, RECONSTRUCT),
            ("mel_residual", mel_residual, MEL_RESIDUAL),
            ("mask_fill", mask_fill, MASK_FILL),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}: choose {' or '.join(allowed)}")
        self.encoder = encoder
        self.quantizer = quantizer
        self.reconstruct = reconstruct
        self.mel_residual = mel_residual
        self.codebooks = quantizer.config["num_codebooks"]
        width, entries = encoder.config["d_model"], quantizer.config["codebook_size"]
        self.token_head = nn.Linear(width, self.codebooks * entries)
        self.mel_head = nn.Linear(width, STACK * BANDS)
        if mel_residual == "interpolation":  # what is not learned yet leaves the line as it is
            nn.init.zeros_(self.mel_head.weight)
            nn.init.zeros_(self.mel_head.bias)
        self.mask_embedding = None
        if mask_fill == "embedding":
            self.mask_embedding = nn.Parameter(MASK_EMBEDDING_STD * torch.randn(STACK, BANDS))

    def tokenize(self, mel):
        """(B, 4 T, 128) normalised log-mel to (B, T, N) tokens."""
        return self.quantizer(stack_frames(mel)).view(len(mel), -1, self.codebooks)

    def forward(self, mel, lengths, mask, noise):
        """Hides the masked tokens, encodes, predicts.

        Arguments
        ---------
        mel : torch.Tensor
            (B, 4 T, 128) normalised log-mel, 0 past each item's end.
        lengths : torch.Tensor
            (B,) tokens.
        mask : torch.Tensor
            (B, T) bool, True = masked, False past each item's end.
        noise : torch.Tensor
            (4 M, 128), what the encoder sees in place of the M masked tokens, if it is not learned.

        Returns
        -------
        Prediction
            Of the masked tokens, in the order of the mask's True values.
        """
        target = stack_frames(mel)
        tokens = self.quantizer(target[mask].unsqueeze(0)).view(-1, self.codebooks)
        if self.mask_embedding is not None:
            noise = self.mask_embedding.repeat(len(tokens), 1)
        out, _, _ = self.encoder(fill_masked(mel, mask, noise), lengths)
        # Heads on masked positions only: 8192 logits for every token would cost half a step.
        masked = out[mask]
        logits = self.token_head(masked).unflatten(-1, (self.codebooks, -1))
        token_loss = F.cross_entropy(
            logits.flatten(0, 1).float(), tokens.flatten(), reduction="sum"
        )
        rebuilt = self.mel_head(masked).float()
        if self.mel_residual == "interpolation":
            rebuilt = rebuilt + interpolate_masked(mel, mask, lengths).view_as(rebuilt)
        if self.reconstruct == "masked":
            mel_loss = (rebuilt - target[mask]).square().mean(dim=-1).sum()
        else:
            whole = self.mel_head(out).float()
            whole[mask] = rebuilt
            error = (whole - target).square().mean(dim=-1)
            valid = torch.arange(mask.shape[1], device=mask.device) < lengths.unsqueeze(1)
            weight = valid * (mask.sum(dim=1) / lengths).unsqueeze(1)
            mel_loss = (error * weight).sum()
        return Prediction(logits, tokens, rebuilt, token_loss / self.codebooks, mel_loss)


def stack_frames(mel):
    """(B, 4 T, 128) to (B, T, 512): the four frames of a token side by side.

    Example
    -------
    >>> stack_frames(torch.zeros(2, 12, 128)).shape
    torch.Size([2, 3, 512])
    """
    return mel.reshape(len(mel), -1, STACK * mel.shape[-1])
