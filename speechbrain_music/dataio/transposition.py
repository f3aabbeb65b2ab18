"""Transposition of music: another pitch at the same tempo."""

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torchaudio.functional import resample

SEMITONES = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)  # all pitch classes, the nearest first
OVERLAP, SEARCH = 1024, 512  # samples, 43 and 21 ms at 24 kHz


def transpose(wave, semitones):
    """Shift the pitch of waves (B, N) float32 by equal-tempered semitones: (B, N) float32.

    Right to 1 cent; zeros at an item's end change nothing before them. What would lie above half
    the sample rate is lost; downwards, the highest frequencies are left empty.
    """
    if not semitones:
        return wave
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(250)
    return resample(stretch(wave, ratio), *ratio.as_integer_ratio())[:, : wave.shape[1]]


def stretch(wave, ratio):
    """Make waves (B, N) longer by a ratio, or shorter, at the same pitch: (B, at least N ratio).

    Overlapping segments are copied from where they continue the segment before best, by
    cross-correlation (WSOLA: Verhelst and Roelands, ICASSP 1993).
    """
    count = math.ceil((wave.shape[1] + OVERLAP) * ratio / OVERLAP)
    padded = F.pad(wave, (SEARCH, 4 * OVERLAP + 2 * SEARCH))
    segments = padded.unfold(1, OVERLAP, 1)
    fade_in = torch.hann_window(2 * OVERLAP, device=wave.device)[:OVERLAP]
    items = torch.arange(len(wave), device=wave.device)
    start, parts = torch.full_like(items, SEARCH), [segments[:, SEARCH]]
    for number in range(1, count):
        continued = segments[items, start + OVERLAP]
        begin = round(number * OVERLAP / ratio)
        region = torch.fft.rfft(padded[:, begin : begin + OVERLAP + 2 * SEARCH])
        template = torch.fft.rfft(continued, OVERLAP + 2 * SEARCH)
        similar = torch.fft.irfft(region * template.conj())[:, : 2 * SEARCH + 1]
        start = begin + similar.argmax(dim=1)
        parts.append(torch.lerp(continued, segments[items, start], fade_in))
    return torch.cat(parts, dim=1)
