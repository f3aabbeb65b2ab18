"""A constant-Q transform at the token rate, and its tokens as further targets of pre-training."""

import math

import torch
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.frontend import (
    HOP,
    SAMPLES_PER_TOKEN,
    STACK,
    padding_mask,
    whole_tokens,
)
from speechbrain_music.models.ssl import TokenHead, tokenize
from speechbrain_music.nnet.convolution import zero_padding
from speechbrain_music.nnet.normalization import BandNormalization
from speechbrain_music.nnet.precision import full_float32

LOWEST = 440 * 2 ** (-45 / 12)  # Hz: C1
BINS_PER_OCTAVE = 24
OCTAVES = 7  # a token's 960 samples can be halved six times
BINS = OCTAVES * BINS_PER_OCTAVE
Q = 1 / (2 ** (1 / BINS_PER_OCTAVE) - 1)  # periods in a bin's window
LOG_FLOOR = 1e-10  # of the power, before the logarithm; a sine of amplitude 1 has 0.25
CENTRE = (STACK - 1) * HOP // 2  # sample of a token on which its mel frames are centred, too
# The low-pass before each halving: frequencies that would fold onto lower octaves are more than
# 100 dB down, because the octaves end at a sixth of the sample rate.
TAPS, BETA = 23, 11.0
OUTPUTS = 16  # of the low-pass, by one row of a matrix product


class ConstantQ(nn.Module):
    """Log power of a constant-Q transform, one frame per token, normalised with corpus statistics.

    ln(max(power, 1e-10)) of 168 bins, 24 per octave from C1 (32.7 Hz) to 4.07 kHz. A bin is the
    inner product with a complex exponential under a Hann window of Q = 34.1 periods and sum 1.
    Frame t is centred on sample 960 t + 360 of 24 kHz, as the four mel frames of token t are. The
    wave is padded with zeros: an item in a batch has the same values as alone. Computed in float32
    whatever the autocast state, octave by octave: the same 24 windows on the wave at half the rate.

    Example
    -------
    >>> values, lengths = ConstantQ()(torch.randn(2, 2000), torch.tensor([2000, 900]))
    >>> values.shape, lengths
    (torch.Size([2, 3, 168]), tensor([3, 1]))
    """

    def __init__(self):
        super().__init__()
        # Of the highest octave, in cycles per sample.
        octave = torch.arange(BINS_PER_OCTAVE, dtype=torch.float64) / BINS_PER_OCTAVE
        frequency = (LOWEST / SAMPLE_RATE) * 2 ** (OCTAVES - 1 + octave)
        self.reach = reach = math.floor(Q / frequency[0].item() / 2)
        time = torch.arange(-reach, reach + 1, dtype=torch.float64).unsqueeze(1)
        phase = 2 * torch.pi * frequency * time
        share = frequency * time / Q  # of a window's length, which ends at 0.5
        window = (0.5 + 0.5 * (2 * torch.pi * share).cos()) * (share.abs() < 0.5)
        window = window / window.sum(dim=0)
        bank = torch.cat([window * phase.cos(), window * phase.sin()], dim=1)

        time = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
        lowpass = torch.sinc(time / 2)
        lowpass *= torch.kaiser_window(TAPS, periodic=False, beta=BETA, dtype=torch.float64)
        lowpass /= lowpass.sum()
        halving = torch.zeros(2 * OUTPUTS + TAPS - 2, OUTPUTS, dtype=torch.float64)
        for column in range(OUTPUTS):
            halving[2 * column : 2 * column + TAPS, column] = lowpass
        self.register_buffer("bank", bank.float(), persistent=False)
        self.register_buffer("halving", halving.float(), persistent=False)
        self.normalize = BandNormalization(BINS)

    def raw(self, wave, lengths):
        """(B, N) samples at 24 kHz and (B,) lengths to unnormalised (B, T, 168) and (B,) tokens.

        Frames past an item's end are meaningless here.
        """
        wave, tokens = whole_tokens(wave, lengths)
        steps = wave.shape[1] // SAMPLES_PER_TOKEN
        # Sample of the padded wave on which the first frame is centred, at the rate of each octave:
        # at the lowest just enough are before it.
        centres = [self.reach]
        for _ in range(OCTAVES - 1):
            centres.append(2 * centres[-1] + TAPS // 2)
        spare = 2 * OUTPUTS * 2 ** (OCTAVES - 1)  # an incomplete row of each halving is dropped
        wave = nn.functional.pad(wave, (centres[-1] - CENTRE, centres[-1] + CENTRE + spare))
        powers, hop = [], SAMPLES_PER_TOKEN
        with full_float32(wave.device):
            for centre in reversed(centres):
                if powers:
                    rows = wave.unfold(1, len(self.halving), 2 * OUTPUTS)
                    wave, hop = (rows @ self.halving).flatten(1), hop // 2
                frames = wave[:, centre - self.reach :].unfold(1, len(self.bank), hop)[:, :steps]
                real, imaginary = (frames @ self.bank).chunk(2, dim=-1)
                powers.append(torch.addcmul(real.square(), imaginary, imaginary))
            return torch.cat(powers[::-1], dim=-1).clamp(min=LOG_FLOOR).log(), tokens

    def forward(self, wave, lengths):
        """(B, N) mono samples at 24 kHz and (B,) int64 lengths to normalised bins.

        Returns (B, T, 168), 0 past each item's end, and (B,) int64 tokens of each item. Samples
        past an item's length are not read.
        """
        values, tokens = self.raw(wave, lengths)
        mask = padding_mask(tokens, values.shape[1])
        return zero_padding(self.normalize(values), mask), tokens


class CQTTargets(nn.Module):
    """Tokens of a constant-Q transform, frozen.

    `weight` is that of their cross-entropy in the loss; with 0 there is nothing inside.
    `quantizer` makes a quantizer, as `functools.partial(RandomProjectionQuantizer, ...)` does, of
    vectors of `input_dim` values.
    """

    def __init__(self, weight, quantizer):
        super().__init__()
        self.weight = weight
        if weight:
            self.features = ConstantQ()
            self.quantizer = quantizer(input_dim=BINS)

    @torch.no_grad()
    def forward(self, wave, lengths, where):
        """Tokens (M, N) of the M tokens where (B, T) is True, of a wave as `ConstantQ` takes it."""
        return tokenize(self.quantizer, self.features(wave, lengths)[0][where])


def make_cqt_head(d_model, targets):
    """A `TokenHead` of `CQTTargets`, or one without parameters if their weight is 0."""
    return TokenHead(d_model, targets.quantizer) if targets.weight else nn.Identity()
