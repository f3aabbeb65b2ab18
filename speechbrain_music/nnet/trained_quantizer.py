"""Base of trained quantizers: a linear map down, quantization, a linear map back."""

from typing import NamedTuple

import torch
from torch import nn

from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.nnet.quantizer import check_width


class Reconstruction(NamedTuple):
    """Vectors through a quantizer and back; `...` is the shape of the input."""

    vectors: torch.Tensor  # (..., input_dim), with gradients
    tokens: torch.Tensor  # (..., num_codebooks) int64
    latent: torch.Tensor  # (..., d), the input of the quantization; without gradients
    commitment_loss: torch.Tensor  # (...), mean square of the change; moves the map down only


class TrainedQuantizer(nn.Module):
    """A subclass provides `nearest`, and optionally `bound`; gradients pass straight through.

    Vectors of `input_dim` values (else ValueError) are quantized in `latent_dim` values. `config`
    holds plain values: `codebook_size`, `num_codebooks` and further arguments of the subclass.

    Example
    -------
    >>> class Signs(TrainedQuantizer):
    ...     def nearest(self, latent):
    ...         return (latent > 0).long(), latent.sign()
    >>> signs = Signs(4, 1, {"codebook_size": 2, "num_codebooks": 1})
    >>> signs(torch.randn(2, 3, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, input_dim, latent_dim, config):
        super().__init__()
        self.input_dim = input_dim
        self.config = {"input_dim": input_dim, **config}
        self.down = nn.Linear(input_dim, latent_dim)
        self.up = nn.Linear(latent_dim, input_dim)
        # The map back starts as the transpose of the map down: training starts at a projection.
        nn.init.orthogonal_(self.down.weight)
        with torch.no_grad():
            self.up.weight.copy_(self.down.weight.T)
        for linear in (self.down, self.up):
            nn.init.zeros_(linear.bias)

    def bound(self, latent):
        """The input of the quantization, from the (..., d) output of the map down."""
        return latent

    def nearest(self, latent):
        """(..., d) to tokens (..., num_codebooks) int64 and their values (..., d)."""
        raise NotImplementedError

    def learn(self, x):
        """Down, quantization and back, for training: (..., input_dim) to `Reconstruction`.

        In float32 whatever the autocast state.
        """
        check_width(x, self.input_dim)
        with full_float32(x.device):
            latent = self.bound(self.down(x.float()))
            with torch.no_grad():
                tokens, near = self.nearest(latent)
            # Straight-through estimator: forward the quantized value, backward the identity.
            vectors = self.up(latent + (near - latent).detach())
            commitment_loss = (latent - near).square().mean(dim=-1)
        return Reconstruction(vectors, tokens, latent.detach(), commitment_loss)

    def reconstruct(self, x):
        """The quantized vectors, back in the space they came from: (..., input_dim) to the same."""
        return self.learn(x).vectors

    @torch.no_grad()
    def forward(self, x):
        """Tokens (B, T), or (B, T, num_codebooks), int64, as a random projection's.

        In float32 whatever the autocast state.
        """
        check_width(x, self.input_dim)
        with full_float32(x.device):
            tokens, _ = self.nearest(self.bound(self.down(x.float())))
        return tokens.squeeze(-1)
