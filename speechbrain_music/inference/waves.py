"""Waves as callers have them, made mono at 24 kHz."""

import numbers

import numpy as np
import soxr
import torch

from speechbrain_music.dataio.audio import SAMPLE_RATE, resampled_length
from speechbrain_music.utils.errors import UserError


def as_waves(wavs, wav_lens=None, sample_rate=SAMPLE_RATE):
    """Cuts a padded batch into its waves, averages channels and resamples, as files are read.

    Arguments
    ---------
    wavs : torch.Tensor or np.ndarray
        (B, N) or (B, N, C) floats.
    wav_lens : torch.Tensor or np.ndarray, optional
        (B,) lengths relative to N, in (0, 1].
    sample_rate : int
        In Hz.

    Returns
    -------
    list of torch.Tensor
        B waves, (n,) float32.

    Raises
    ------
    UserError
        For anything else, samples that are not finite, and waves too short for one at 24 kHz.

    Example
    -------
    >>> [len(wave) for wave in as_waves(np.zeros((2, 44100, 2)), [1.0, 0.25], 44100)]
    [24000, 6000]
    """
    if not isinstance(sample_rate, numbers.Integral) or sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate!r}: a whole number of Hz is needed")
    if not isinstance(wavs, torch.Tensor):
        wavs = torch.from_numpy(np.ascontiguousarray(wavs))
    if wavs.ndim not in (2, 3) or not wavs.numel() or wavs.shape[1] < wavs.shape[-1]:
        raise UserError(
            f"wavs has shape {tuple(wavs.shape)}: (waves, samples) or (waves, samples, channels) "
            "is needed"
        )
    if not wavs.is_floating_point():
        raise UserError(f"wavs is {wavs.dtype}: floats between -1 and 1 are needed")
    wavs = wavs.float()
    if wavs.ndim == 3:
        wavs = wavs.mean(2)
    lengths = _lengths(wavs, wav_lens)
    waves = [wave[:length] for wave, length in zip(wavs, lengths, strict=True)]
    if not all(wave.isfinite().all() for wave in waves):
        raise UserError("wavs has NaN or infinite samples: leave those waves out")
    if not resampled_length(min(lengths), sample_rate):
        raise UserError(
            f"the shortest wave has {min(lengths)} samples at {sample_rate} Hz: too few for one "
            "at 24 kHz"
        )
    if sample_rate == SAMPLE_RATE:
        return waves
    return [_resample(wave, sample_rate) for wave in waves]


def _lengths(wavs, wav_lens):
    batch, samples = wavs.shape
    if wav_lens is None:
        return [samples] * batch
    wav_lens = torch.as_tensor(wav_lens).cpu().double()
    if wav_lens.shape != (batch,) or not ((wav_lens > 0) & (wav_lens <= 1)).all():
        raise UserError(
            f"wav_lens is {wav_lens.tolist()!s:.200}: {batch} lengths relative to the longest, "
            "above 0 and at most 1, are needed"
        )
    return (wav_lens * samples).round().long().clamp(min=1).tolist()


def _resample(wave, sample_rate):
    samples = resampled_length(len(wave), sample_rate)
    resampled = soxr.resample(wave.cpu().numpy(), sample_rate, SAMPLE_RATE, quality="HQ")
    return torch.from_numpy(resampled[:samples]).to(wave.device)
