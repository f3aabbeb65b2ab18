"""Normalisation by statistics in buffers: of log-mel bands, of a probe's features."""

import torch
from torch import nn

# A band that is nearly constant in a corpus (as above the band limit of all its files) would turn
# the first sound in it into an enormous value.
MIN_STD = 0.1
NORMALIZATIONS = ("band", "scalar")


class BandNormalization(nn.Module):
    """(x - mean) / std for each band, with statistics in buffers.

    `kind` is "band": each by its own statistics in the corpus; or "scalar": all by the same two, by
    which the codebook's perplexity falls to a fraction (`tests/conformance/test_frames.py` shows it
    on real recordings); else ValueError.
    """

    def __init__(self, bands, kind="band"):
        super().__init__()
        if kind not in NORMALIZATIONS:
            raise ValueError(f"normalization is {kind!r}: choose {' or '.join(NORMALIZATIONS)}")
        self.kind = kind
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))

    def set_statistics(self, mean, std):
        """Takes over (bands,) means and standard deviations, in nats; std is held above 0.1.

        Raises ValueError where a shape differs or a value is not finite.
        """
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != self.mean.shape or not torch.isfinite(value).all():
                raise ValueError(
                    f"corpus {name} of shape {tuple(value.shape)} does not fit: "
                    f"{len(self.mean)} finite values are needed, one for each band"
                )
        if self.kind == "scalar":  # of all values together, as many in one band as in another
            square = (std.square() + mean.square()).mean()
            mean = mean.mean().expand_as(mean)
            std = (square - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=MIN_STD))

    def forward(self, x):
        """(..., bands) to the same shape."""
        return (x - self.mean) / self.std


class Standardization(nn.Module):
    """(x - mean) / std for each value, then a linear map for each layer if there is one.

    `mean` and `std` have one shape, (L, d) or a scalar, std above 0; the optional `matrix`
    (L, d, d) may whiten.
    """

    def __init__(self, mean, std, matrix=None):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("matrix", matrix)

    def forward(self, x):
        """(..., L, d) in, the same shape out."""
        x = (x - self.mean) / self.std
        if self.matrix is not None:
            x = torch.einsum("...ld,lde->...le", x, self.matrix)
        return x
