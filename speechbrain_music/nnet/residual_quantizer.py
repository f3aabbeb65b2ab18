"""Residual vector quantization: each codebook quantizes the residual of those before it.

Sources: Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec", arXiv 2107.03312 (the
residual quantizer, moving averages, dead entries); Zhu et al., "MuQ", arXiv 2501.01108 (a linear
one on log-mel as the target of masked prediction).
"""

from typing import NamedTuple

import torch
from torch import nn

from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.nnet.quantizer import check_width, most_similar

# An entry with less average weight has not been used for long: its mean is meaningless.
FORGOTTEN = 1e-12


class Reconstruction(NamedTuple):
    """Vectors through a quantizer and back; `...` is the shape of the input."""

    vectors: torch.Tensor  # (..., input_dim), with gradients
    tokens: torch.Tensor  # (..., num_codebooks) int64
    latent: torch.Tensor  # (..., d), the input of the quantization; without gradients
    commitment_loss: torch.Tensor  # (...), mean square of the change; moves the map down only


class ResidualQuantizer(nn.Module):
    """Maps feature vectors to `num_codebooks` token numbers each.

    A linear map to `codebook_dim` values; the nearest entry of the first codebook, then of each
    further one the nearest to the residual; the sum of these entries and a linear map back.
    Gradients pass straight through the quantization. Vectors have `input_dim` values, else
    ValueError; `config` holds the arguments.

    Entries are standard normal until a `CodebookLearner` has moved them.

    Example
    -------
    >>> quantizer = ResidualQuantizer(input_dim=512, codebook_size=64, num_codebooks=3)
    >>> x = torch.randn(2, 750, 512)
    >>> quantizer(x).shape
    torch.Size([2, 750, 3])
    >>> quantizer.learn(x).vectors.shape
    torch.Size([2, 750, 512])
    """

    def __init__(self, input_dim, codebook_dim=16, codebook_size=1024, num_codebooks=4):
        super().__init__()
        self.config = {"input_dim": input_dim, "codebook_dim": codebook_dim}
        self.config |= {"codebook_size": codebook_size, "num_codebooks": num_codebooks}
        self.down = nn.Linear(input_dim, codebook_dim)
        self.up = nn.Linear(codebook_dim, input_dim)
        # The map back starts as the transpose of the map down: training starts at a projection.
        nn.init.orthogonal_(self.down.weight)
        with torch.no_grad():
            self.up.weight.copy_(self.down.weight.T)
        for linear in (self.down, self.up):
            nn.init.zeros_(linear.bias)
        codebook = torch.randn(num_codebooks, codebook_size, codebook_dim)
        self.register_buffer("codebook", codebook)

    def nearest(self, latent, stages=None):
        """Tokens (..., stages) and the sum of their entries (..., d); of all stages by default."""
        rows = latent.reshape(-1, latent.shape[-1])
        left, tokens = rows, []
        for codebook in self.codebook[:stages]:
            # |r - e|^2 = |r|^2 - 2 (r e - |e|^2 / 2): with a 1 behind r the smallest distance is
            # the largest dot product.
            half = codebook.square().sum(dim=1, keepdim=True) / -2
            ones = torch.ones_like(left[:, :1])
            tokens.append(
                most_similar(torch.cat([left, ones], 1), torch.cat([codebook, half], dim=1))
            )
            left = left - codebook[tokens[-1]]
        tokens = torch.stack(tokens, dim=-1) if tokens else rows.new_empty(len(rows), 0).long()
        near = (rows - left).view_as(latent)
        return tokens.view(*latent.shape[:-1], tokens.shape[-1]), near

    def learn(self, x):
        """(..., input_dim) to a `Reconstruction`, for training; always in float32."""
        check_width(x, self.config["input_dim"])
        with full_float32(x.device):
            latent = self.down(x.float())
            with torch.no_grad():
                tokens, near = self.nearest(latent)
            # Straight-through estimator: forward the quantized value, backward the identity.
            vectors = self.up(latent + (near - latent).detach())
            commitment_loss = (latent - near).square().mean(dim=-1)
        return Reconstruction(vectors, tokens, latent.detach(), commitment_loss)

    @torch.no_grad()
    def forward(self, x):
        """Tokens (B, T), or (B, T, num_codebooks), int64; always in float32."""
        check_width(x, self.config["input_dim"])
        with full_float32(x.device):
            tokens, _ = self.nearest(self.down(x.float()))
        return tokens.squeeze(-1)


class CodebookLearner(nn.Module):
    """A `ResidualQuantizer` in training, whose entries move to the means of their vectors.

    Online k-means: sums and counts of each entry's vectors are averaged over steps with
    exponentially decaying weights. An entry with much less than its share is dead: it is
    re-initialised to a vector of the batch and counted in `reinitialised`. So is, at the first
    step, each that no vector chose.

    `decay` is the weight of the past at each step: 0.99 averages over about 100 steps. An entry is
    dead below `dead_code_threshold` of the mean weight. Both are between 0 and 1, else ValueError.
    """

    def __init__(self, quantizer, decay=0.99, dead_code_threshold=0.01):
        super().__init__()
        self.quantizer = quantizer
        for name, value in (("decay", decay), ("dead_code_threshold", dead_code_threshold)):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value!r}: it must be between 0 and 1")
        self.decay = decay
        self.dead_code_threshold = dead_code_threshold
        books, entries, width = quantizer.codebook.shape
        # Sums of vectors, each with its count as the last value; in float64, so that the order in
        # which processes and threads add does not matter.
        empty = torch.zeros(books, entries, width + 1, dtype=torch.float64)
        self.register_buffer("average", empty)
        self.register_buffer("window", empty.clone(), persistent=False)
        self.register_buffer("reinitialised", torch.zeros(books, dtype=torch.long))

    def forward(self, x):
        """Through the quantizer and back: (..., input_dim) to a `Reconstruction`."""
        return self.quantizer.learn(x)

    @torch.no_grad()
    def observe(self, latent, tokens):
        """Adds M vectors (M, d) and their tokens (M, N) to the sums of this step, `window`."""
        left = latent.double()
        for stage, column in enumerate(tokens.T):
            counted = torch.cat([left, torch.ones_like(left[:, :1])], dim=1)
            self.window[stage].index_add_(0, column, counted)
            left = left - self.quantizer.codebook[stage, column]

    def clear(self):
        """Forgets what was observed since the last step."""
        self.window.zero_()

    @torch.no_grad()
    def update(self, window, offered):
        """Ends a step: moves the entries in place, re-initialises the dead ones.

        `window` is this learner's, summed over all processes; `offered` are (R, d) vectors of the
        batch, the same in all processes, for dead entries.
        """
        self.average.lerp_(window, 1 - self.decay)
        count = self.average[..., -1:]
        moved = (self.average[..., :-1] / count.clamp(min=FORGOTTEN)).float()
        codebook = self.quantizer.codebook
        codebook.copy_(torch.where(count > FORGOTTEN, moved, codebook))
        mean = count.mean(dim=1, keepdim=True)
        dead = (count < self.dead_code_threshold * mean).squeeze(-1)
        for stage in range(len(dead)):
            # Each stage gets vectors of its own: of one that becomes an entry of this stage, no
            # residual is left for the next.
            rows = offered[stage :: len(dead)]
            rows = rows - self.quantizer.nearest(rows, stage)[1]
            places = dead[stage].nonzero().flatten()[: len(rows)]
            rows = rows[: len(places)]
            codebook[stage, places] = rows
            counted = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            self.average[stage, places] = counted.double() * mean[stage]
            self.reinitialised[stage] += len(places)
        self.clear()
