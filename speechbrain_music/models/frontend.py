"""From a wave to normalised log-mel frames, and from frames to vectors of width d_model.

The frame grid of the project is defined here: a token is 960 samples (40 ms at 24 kHz), and each
token has exactly four mel frames.
"""

import torch
import torchaudio
from torch import nn

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.nnet.convolution import zero_padding
from speechbrain_music.nnet.dropout import Dropout
from speechbrain_music.nnet.normalization import BandNormalization
from speechbrain_music.nnet.precision import full_float32

N_FFT = 2048
HOP = 240  # samples per mel frame
STACK = 4  # mel frames per token
SAMPLES_PER_TOKEN = HOP * STACK
TOKEN_RATE = SAMPLE_RATE // SAMPLES_PER_TOKEN  # 25 Hz
BANDS = 128
FLOOR = 1e-5  # of the mel power, before the logarithm


def token_count(samples):
    """Tokens of a wave: ceil(samples / 960), for an int or an int64 tensor.

    Example
    -------
    >>> [token_count(n) for n in (1, 960, 961, 720000)]
    [1, 1, 2, 750]
    """
    return -(-samples // SAMPLES_PER_TOKEN)


def steps_per_token(frame_rate):
    """Steps of the blocks per 40 ms token: 1 at 25 Hz, 2 at 50 Hz; else ValueError."""
    if frame_rate not in (TOKEN_RATE, 2 * TOKEN_RATE):
        raise ValueError(f"frame_rate is {frame_rate}: choose {TOKEN_RATE} or {2 * TOKEN_RATE}")
    return frame_rate // TOKEN_RATE


def padding_mask(lengths, steps):
    """(B, steps) bool mask, True = padding; None if no item is shorter than `steps`."""
    mask = torch.arange(steps, device=lengths.device) >= lengths.unsqueeze(1)
    return mask if mask.any() else None


class Features(nn.Module):
    """Normalised features of a wave.

    A subclass has `rate` (frames per token), `normalize` (a `BandNormalization`) and `transform`,
    from (B, 960 T) to (B, rate T, bands), called in float32 whatever the autocast state.
    """

    def raw(self, wave, lengths):
        """(B, N) samples at 24 kHz and (B,) lengths to unnormalised features and (B,) tokens.

        Frames past an item's end are meaningless here.
        """
        beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths.unsqueeze(1)
        wave = wave.float().masked_fill(beyond, 0.0)
        wave = nn.functional.pad(wave, (0, -wave.shape[1] % SAMPLES_PER_TOKEN))
        with full_float32(wave.device):
            return self.transform(wave), token_count(lengths)

    def forward(self, wave, lengths):
        """(B, N) mono samples at 24 kHz and (B,) int64 lengths to normalised features.

        Returns (B, rate T, bands), 0 past each item's end, and (B,) int64 tokens of each item.
        Samples past an item's length are not read.
        """
        values, tokens = self.raw(wave, lengths)
        mask = padding_mask(tokens * self.rate, values.shape[1])
        return zero_padding(self.normalize(values), mask), tokens


class LogMel(Features):
    """Log-mel frames at 100 Hz, normalised with the corpus's statistics.

    ln(max(mel power, 1e-5)), n_fft 2048, hop 240, 128 HTK bands over 0 to 12 kHz, 24 kHz input.
    The wave is padded with zeros, never by reflection: an item in a batch has the same values as
    alone, and one sample is enough. `normalization` ("band" or "scalar") is the kind of its
    `BandNormalization`.

    Example
    -------
    >>> mel, lengths = LogMel()(torch.randn(2, 2000), torch.tensor([2000, 900]))
    >>> mel.shape, lengths  # 3 tokens and 1 token, of four frames each
    (torch.Size([2, 12, 128]), tensor([3, 1]))
    """

    rate = STACK

    def __init__(self, normalization="band"):
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=SAMPLE_RATE,
            n_fft=N_FFT,
            hop_length=HOP,
            n_mels=BANDS,
            f_max=SAMPLE_RATE / 2,
            center=True,
            pad_mode="constant",
        )
        # Its modulus, squared, takes three times as long as in `transform`.
        self.mel.spectrogram.power = None
        self.normalize = BandNormalization(BANDS, normalization)

    def transform(self, wave):
        """Log-mel (B, 4 T, 128) of whole tokens (B, 960 T)."""
        spectrum = self.mel.spectrogram(wave)[..., : wave.shape[1] // HOP]
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
        return self.mel.mel_scale(power).clamp(min=FLOOR).log().transpose(1, 2)


class ConvFrontEnd(nn.Module):
    """Two 3x3 convolutions over log-mel, then a linear layer: 100 Hz to 25 or 50 Hz.

    `channels` are few, because the convolutions run at the frame rate. `dropout` is on the output.
    `bypass` adds a linear layer on the step's frames: convolutions of stride 2 blur neighbouring
    frequencies, and with them pitch and key. `norm` brings each vector to mean 0 and variance 1,
    without parameters: what the blocks add would outweigh smaller ones. `frame_rate` is that of the
    result, in Hz: 25 (one step per token) or 50, else ValueError.

    Example
    -------
    >>> ConvFrontEnd(64, channels=8)(torch.randn(2, 12, 128)).shape
    torch.Size([2, 3, 64])
    """

    def __init__(
        self,
        d_model: int,
        channels: int = 32,
        dropout: float = 0.0,
        bypass: bool = False,
        frame_rate: int = TOKEN_RATE,
        norm: bool = False,
    ):
        super().__init__()
        self.stack = stack = STACK // steps_per_token(frame_rate)
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        stride = stack // 2
        self.conv2 = nn.Conv2d(channels, channels, 3, (stride, 2), padding=(3 - stride, 1))
        self.linear = nn.Linear(channels * BANDS // 4, d_model)
        self.bypass = nn.Linear(stack * BANDS, d_model, bias=False) if bypass else None
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False) if norm else None
        self.dropout = Dropout(dropout)

    def forward(self, mel):
        """(B, stack T, 128) to (B, T, d_model).

        No step reads a frame after its own, so that padding after an item has no effect: kernels
        of 3 reach one frame back at stride 2, and are shifted to reach two back at stride 1.
        """
        x = nn.functional.gelu(self.conv1(mel.unsqueeze(1)))  # (B, C, stack T / 2, 64)
        x = self.conv2(x)
        if self.stack == 2:  # stride 1, padded by 2 on both sides
            x = x[:, :, :-2]
        x = nn.functional.gelu(x)  # (B, C, T, 32)
        x = self.linear(x.transpose(1, 2).flatten(2))
        if self.bypass is not None:
            x = x + self.bypass(mel.reshape(mel.shape[0], -1, self.stack * BANDS))
        if self.norm is not None:
            x = self.norm(x)
        return self.dropout(x)
