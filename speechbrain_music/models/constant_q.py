"""A constant-Q transform at the token rate, and its tokens as further targets of pre-training."""

import math

import torch
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.frontend import HOP, SAMPLES_PER_TOKEN, STACK, Features
from speechbrain_music.models.ssl import TokenHead, tokenize
from speechbrain_music.nnet.normalization import BandNormalization

LOWEST = 440 * 2 ** (-45 / 12)  # Hz: C1
BINS_PER_OCTAVE = 24
OCTAVES = 7  # a token's 960 samples can be halved six times
BINS = OCTAVES * BINS_PER_OCTAVE
Q = 1 / (2 ** (1 / BINS_PER_OCTAVE) - 1)  # periods in a bin's window
POWER_FLOOR = 1e-10  # before the logarithm; a sine of amplitude 1 has 0.25
CENTRE = (STACK - 1) * HOP // 2  # sample of a token on which its mel frames are centred, too
# The low-pass before each halving: what would fold onto lower octaves is more than 100 dB down,
# because the octaves end at a sixth of the sample rate.
TAPS, BETA = 23, 11.0
OUTPUTS = 16  # of the low-pass, by one row of a matrix product


class ConstantQ(Features):
    """Log power of a constant-Q transform, one frame per token, normalised per bin.

    ln(max(power, 1e-10)) of 168 bins, 24 per octave from C1 (32.7 Hz) to 4.07 kHz. A bin is the
    inner product with a complex exponential under a Hann window of Q = 34.1 periods and sum 1.
    Frame t is centred on sample 960 t + 360 of 24 kHz, as the four mel frames of token t are. The
    wave is padded with zeros: an item in a batch has the same values as alone. Computed octave by
    octave: the same 24 windows on the wave at half the rate.

    Example
    -------
    >>> values, lengths = ConstantQ()(torch.randn(2, 2000), torch.tensor([2000, 900]))
    >>> values.shape, lengths
    (torch.Size([2, 3, 168]), tensor([3, 1]))
    """

    rate = 1

    def __init__(self):
        super().__init__()
        octave = torch.arange(BINS_PER_OCTAVE, dtype=torch.float64) / BINS_PER_OCTAVE
        # Of the highest octave, in cycles per sample.
        frequency = (LOWEST / SAMPLE_RATE) * 2 ** (OCTAVES - 1 + octave)
        self.reach = math.floor(Q / frequency[0].item() / 2)
        time = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64).unsqueeze(1)
        phase = 2 * torch.pi * frequency * time
        window = (0.5 + 0.5 * (phase / Q).cos()) * (phase.abs() < torch.pi * Q)
        window /= window.sum(dim=0)
        bank = torch.cat([window * phase.cos(), window * phase.sin()], dim=1)

        lowpass = torch.sinc((torch.arange(TAPS, dtype=torch.float64) - TAPS // 2) / 2)
        lowpass *= torch.kaiser_window(TAPS, periodic=False, beta=BETA, dtype=torch.float64)
        halving = torch.zeros(2 * OUTPUTS + TAPS - 2, OUTPUTS)
        for column in range(OUTPUTS):
            halving[2 * column : 2 * column + TAPS, column] = lowpass / lowpass.sum()
        self.register_buffer("bank", bank.float(), persistent=False)
        self.register_buffer("halving", halving, persistent=False)
        self.normalize = BandNormalization(BINS)

    def transform(self, wave):
        """Log power (B, T, 168) of whole tokens (B, 960 T)."""
        steps, hop = wave.shape[1] // SAMPLES_PER_TOKEN, SAMPLES_PER_TOKEN
        # Sample of the padded wave on which the first frame is centred, at the rate of each octave
        # from the lowest on, at which just enough are before it.
        centres = [self.reach]
        for _ in range(OCTAVES - 1):
            centres.append(2 * centres[-1] + TAPS // 2)
        spare = 2 * OUTPUTS * 2 ** (OCTAVES - 1)  # an incomplete row of each halving is dropped
        wave = nn.functional.pad(wave, (centres[-1] - CENTRE, centres[-1] + CENTRE + spare))
        powers = []
        for centre in reversed(centres):
            if powers:
                rows = wave.unfold(1, len(self.halving), 2 * OUTPUTS)
                wave, hop = (rows @ self.halving).flatten(1), hop // 2
            frames = wave[:, centre - self.reach :].unfold(1, len(self.bank), hop)[:, :steps]
            real, imaginary = (frames @ self.bank).chunk(2, dim=-1)
            powers.append(torch.addcmul(real.square(), imaginary, imaginary))
        return torch.cat(powers[::-1], dim=-1).clamp(min=POWER_FLOOR).log()


class CQTTargets(nn.Module):
    """Frozen tokens of a constant-Q transform; with the `weight` 0 there is nothing inside.

    `quantizer` makes a quantizer, as `functools.partial(RandomProjectionQuantizer, ...)` does.
    """

    def __init__(self, weight, quantizer):
        super().__init__()
        if weight:
            self.features, self.quantizer = ConstantQ(), quantizer(input_dim=BINS)

    @torch.no_grad()
    def forward(self, wave, lengths, where):
        """Tokens (M, N) of the M tokens where (B, T) is True, of a wave as `ConstantQ` takes it."""
        return tokenize(self.quantizer, self.features(wave, lengths)[0][where])


def make_cqt_head(d_model, targets):
    """A `TokenHead` of `CQTTargets`, or a module without parameters if these are empty."""
    return TokenHead(d_model, targets.quantizer) if list(targets.children()) else nn.Identity()
