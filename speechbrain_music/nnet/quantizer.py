"""BEST-RQ's frozen tokenizers: a random projection, then a random codebook or rounding.

Source: Chiu et al., "Self-supervised Learning with Random-projection Quantizer for Speech
Recognition", arXiv 2202.01855.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_music.nnet.precision import full_float32

# Rows whose similarities to the codebook are computed at once: 256 x 8192 float32 are 8 MB.
CHUNK = 256


class RandomProjectionQuantizer(nn.Module):
    """Maps feature vectors to token numbers, without training.

    Each of `num_codebooks` projections (Xavier) to `codebook_dim` values is independent and has a
    codebook of `codebook_size` entries (standard normal, l2-normalised). `seed` is of the
    quantizer's own generator: the same on every rank and after every restart. `center` subtracts
    each vector's mean before: of log-mel, its level, which tokens mostly tell otherwise.

    Example
    -------
    >>> quantizer = RandomProjectionQuantizer(input_dim=512)
    >>> x = torch.randn(2, 750, 512)
    >>> quantizer(x).shape
    torch.Size([2, 750])
    >>> torch.equal(quantizer(x), quantizer(3 * x))  # only the direction counts
    True
    """

    def __init__(
        self, input_dim, codebook_dim=16, codebook_size=8192, num_codebooks=1, seed=0, center=False
    ):
        super().__init__()
        self.config = {"input_dim": input_dim, "codebook_dim": codebook_dim}
        self.config |= {"codebook_size": codebook_size, "num_codebooks": num_codebooks}
        self.config |= {"seed": seed, "center": center}
        generator = torch.Generator().manual_seed(seed)
        projection = torch.empty(num_codebooks, input_dim, codebook_dim)
        for matrix in projection:
            nn.init.xavier_uniform_(matrix, generator=generator)
        codebook = torch.randn(num_codebooks, codebook_size, codebook_dim, generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=-1))

    @torch.no_grad()
    def forward(self, x):
        """(B, T, input_dim) to tokens (B, T), of N > 1 codebooks (B, T, N); always in float32.

        Raises ValueError for vectors of another width.
        """
        check_width(x, self.config["input_dim"])
        with full_float32(x.device):
            rows = x.flatten(0, -2).float()
            if self.config["center"]:
                rows = rows - rows.mean(dim=1, keepdim=True)
            tokens = [self.nearest(rows @ map, book) for book, map in enumerate(self.projection)]
        tokens = torch.stack(tokens, dim=-1).view(*x.shape[:-1], len(tokens))
        return tokens.squeeze(-1)

    def nearest(self, latent, book):
        """Tokens (M,) of projected rows (M, d), in a codebook."""
        # On unit vectors the smallest distance is the largest dot product, and the length of a row
        # changes no comparison: so a row needs no normalisation.
        return most_similar(latent, self.codebook[book])


class RandomFiniteScalarQuantizer(RandomProjectionQuantizer):
    """A random projection to a few values, each bounded by a tanh and rounded to a few levels.

    Each of `codebook_dim` values has as many levels, evenly spaced from -1 to 1; their product is
    `codebook_size`, else ValueError. Source of the rounding: arXiv 2309.15505. The projection's
    columns have length 1: of normalised features its outputs have about unit variance.
    """

    def __init__(self, input_dim, codebook_dim=5, codebook_size=7776, **options):
        levels = round(codebook_size ** (1 / codebook_dim))
        if levels < 2 or levels**codebook_dim != codebook_size:
            near = f"for codebook_dim {codebook_dim} choose {max(levels, 2) ** codebook_dim}"
            raise ValueError(f"codebook_size is {codebook_size}: {near}")
        super().__init__(input_dim, codebook_dim, codebook_size, **options)
        self.config["levels"] = levels
        self.projection = F.normalize(self.projection, dim=1)
        self.codebook = None  # the grid of levels

    def nearest(self, latent, book):
        """Tokens (M,) of projected rows (M, d): the first level is the lowest digit."""
        levels = self.config["levels"]
        digits = ((latent.tanh() + 1) / 2 * (levels - 1)).round().long()
        return (digits * levels ** torch.arange(latent.shape[1], device=latent.device)).sum(dim=1)


def check_width(x, width):
    """Raises ValueError unless the last axis of `x` has `width` values."""
    if x.shape[-1] != width:
        raise ValueError(
            f"the quantizer was built for vectors of {width} values, "
            f"this input has {x.shape[-1]}: pass (B, T, {width})"
        )


def most_similar(rows, codebook):
    """The entry with the largest dot product: (M, d) rows and (K, d) entries to (M,) int64.

    Memory does not grow with M x K.
    """
    return torch.cat([argmax(chunk @ codebook.T) for chunk in rows.split(CHUNK)])


def argmax(x):
    """Position of each row's largest value, (N, K) to (N,), as torch's argmax returns it.

    First the block of 128 values with the largest maximum, then the position in it: on CPUs torch's
    maximum runs at memory speed, its argmax at half the speed of the matrix product before it.
    """
    blocks = x.unflatten(-1, (-1, math.gcd(x.shape[-1], 128)))
    best = blocks.amax(dim=-1).argmax(dim=-1)
    within = blocks[torch.arange(len(x), device=x.device), best].argmax(dim=-1)
    return best * blocks.shape[-1] + within
