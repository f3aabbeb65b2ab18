"""Parts of BEST-RQ around the encoder: targets, what hides masked frames, the two heads."""

import torch
from torch import nn

from speechbrain_music.models.frontend import BANDS, STACK

MASK_FILL = ("noise", "embedding")
MEL_RESIDUAL = ("none", "interpolation")
EMBEDDING_STD = 0.1  # at the start, as the noise's


def stack_frames(mel):
    """(B, 4 T, 128) to (B, T, 512): the four frames of each token, concatenated."""
    return mel.reshape(len(mel), -1, STACK * mel.shape[-1])


def tokenize(quantizer, vectors, lengths=None, where=None):
    """Tokens of (B, T, 512) stacked frames: (B, T, N) int64 for N codebooks.

    `quantizer` maps (B, T, 512) to (B, T), or to (B, T, N) for several codebooks. `lengths` are
    (B,) tokens of each item, which a quantizer with a teacher needs. With `where`, a (B, T) mask,
    the tokens there: (M, N).
    """
    if getattr(quantizer, "teacher", None) is not None:  # a token depends on the whole item
        tokens = quantizer(vectors, lengths)
        tokens = tokens.reshape(*vectors.shape[:-1], quantizer.config["num_codebooks"])
        return tokens if where is None else tokens[where]
    vectors = vectors if where is None else vectors[where]
    tokens = quantizer(vectors.reshape(1, -1, vectors.shape[-1]))
    return tokens.reshape(*vectors.shape[:-1], quantizer.config["num_codebooks"])


class MaskFill(nn.Module):
    """What the encoder sees in place of masked tokens.

    `kind` is "noise": the noise that `forward` gets; or "embedding": four frames that are learned,
    the same for every masked token; else ValueError.
    """

    def __init__(self, kind="noise"):
        super().__init__()
        if kind not in MASK_FILL:
            raise ValueError(f"mask_fill is {kind!r}: choose {' or '.join(MASK_FILL)}")
        self.embedding = None
        if kind == "embedding":
            self.embedding = nn.Parameter(EMBEDDING_STD * torch.randn(STACK, BANDS))

    def forward(self, mel, mask, noise):
        """(B, 4 T, 128) log-mel, (B, T) mask (True = masked), (4 M, 128) noise to a new mel.

        The noise is in the order of the mask's True values.
        """
        if self.embedding is not None:
            noise = self.embedding.repeat(int(mask.sum()), 1)
        frames = mask.repeat_interleave(STACK, dim=1).unsqueeze(-1)
        return mel.masked_scatter(frames, noise.to(mel.dtype))


class TokenHead(nn.Linear):
    """Logits over the tokens of a quantizer, whose `config` has num_codebooks and codebook_size."""

    def __init__(self, d_model, quantizer):
        self.num_codebooks = quantizer.config["num_codebooks"]
        super().__init__(d_model, self.num_codebooks * quantizer.config["codebook_size"])

    def forward(self, x):
        """(M, d_model) to (M, num_codebooks, codebook_size)."""
        return super().forward(x).unflatten(-1, (self.num_codebooks, -1))


class MelHead(nn.Linear):
    """The normalised log-mel of a token's four frames.

    `residual` is what the caller adds its output to in masked places. "none": nothing.
    "interpolation": `nnet.masking.interpolate_masked`; the head then starts at 0. Else ValueError.
    """

    def __init__(self, d_model, residual="none"):
        if residual not in MEL_RESIDUAL:
            raise ValueError(f"mel_residual is {residual!r}: choose {' or '.join(MEL_RESIDUAL)}")
        super().__init__(d_model, STACK * BANDS)
        if residual == "interpolation":
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)
