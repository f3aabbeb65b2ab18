"""Finite scalar quantization: a few values, each rounded to a few levels, without a codebook.

Source: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", arXiv 2309.15505.
"""

import math

import torch

from speechbrain_music.nnet.trained_quantizer import TrainedQuantizer

# The papers go to 2^16 tokens, and a model has an output for each.
MOST = 2**20


class FiniteScalarQuantizer(TrainedQuantizer):
    """Maps feature vectors to one token number each.

    A linear map to as many values as there are `levels`; each is bounded to (-1, 1) by a tanh
    and rounded to the nearest of its levels, evenly spaced from -1 to 1 (the paper shifts an even
    number of levels by half a step, so that one lies at 0); a linear map back. The token is
    the number whose digits, in the mixed radix of `levels`, are the levels of the values.

    Each level is 2 or more, their product at most 2^20, else ValueError. The paper's for about
    2^14 tokens are 8, 8, 8, 6, 5.

    Example
    -------
    >>> quantizer = FiniteScalarQuantizer(input_dim=512, levels=(8, 6, 5))
    >>> quantizer.config["codebook_size"], quantizer(torch.randn(2, 750, 512)).shape
    (240, torch.Size([2, 750]))
    >>> quantizer.values(torch.tensor([0, 7, 8]))
    tensor([[-1.0000, -1.0000, -1.0000],
            [ 1.0000, -1.0000, -1.0000],
            [-1.0000, -0.6000, -1.0000]])
    """

    def __init__(self, input_dim, levels=(8, 8, 8, 6, 5)):
        levels = list(levels)
        if not levels or not all(type(level) is int and level >= 2 for level in levels):
            raise ValueError(f"levels is {levels!r:.100}: use whole numbers of 2 or more")
        # Not math.prod: the product of absurdly many levels would take forever.
        if sum(map(math.log2, levels)) > math.log2(MOST) + 1e-9:
            raise ValueError(
                f"levels is {levels!r:.100}: their product is the number of tokens, at most {MOST}"
            )
        size = math.prod(levels)
        config = {"levels": levels, "codebook_size": size, "num_codebooks": 1}
        super().__init__(input_dim, len(levels), config)
        self.levels = levels
        self.places = [math.prod(levels[:place]) for place in range(len(levels))]

    def bound(self, latent):
        """Each value within -1 and 1."""
        return latent.tanh()

    def nearest(self, latent):
        """Tokens (..., 1) and the nearest levels (..., d) of bounded values (..., d)."""
        levels, places = latent.new_tensor([self.levels, self.places], dtype=torch.long)
        digits = ((latent + 1) / 2 * (levels - 1)).round().long()
        tokens = (digits * places).sum(dim=-1)
        return tokens.unsqueeze(-1), self.values(tokens)

    def values(self, tokens):
        """The levels (..., d), from -1 to 1, of tokens (...)."""
        levels, places = tokens.new_tensor([self.levels, self.places])
        return 2 * (tokens.unsqueeze(-1) // places % levels) / (levels - 1) - 1
