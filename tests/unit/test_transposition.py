"""Transposition: pitch, tempo, padding."""

import numpy as np
import pytest
import torch
from tones import melody

from speechbrain_music.dataio.transposition import SEMITONES, transpose

RATE = 24000


def spectral_peak(wave):
    """Frequency in Hz of the strongest bin."""
    window = np.hanning(wave.shape[-1])
    return np.abs(np.fft.rfft(wave.numpy() * window)).argmax() / wave.shape[-1] * RATE


def test_twelve_reach_every_pitch_class():
    assert SEMITONES[0] == 0 and sorted(SEMITONES) == list(range(-5, 7))


@pytest.mark.parametrize("semitones", SEMITONES[1:])
def test_pitch_and_length(semitones):
    time = torch.arange(4 * RATE) / RATE
    waves = torch.stack([torch.sin(2 * torch.pi * hz * time) / 3 for hz in (220, 1000)])
    found = transpose(waves, semitones)
    assert found.shape == waves.shape and found.dtype == torch.float32
    for wave, hz in zip(found, (220, 1000), strict=True):
        cents = 1200 * np.log2(spectral_peak(wave) / hz)
        assert cents == pytest.approx(100 * semitones, abs=3)
        middle = wave[RATE : 3 * RATE]
        assert middle.square().mean().sqrt() == pytest.approx(
            1 / 3 / 2**0.5, rel=0.2
        )  # it loses some of the level


@pytest.mark.parametrize("semitones", [-5, 1, 6])
def test_the_tempo_stays(semitones):
    """Pulses stay where they are."""
    wave = torch.zeros(1, 2 * RATE)
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(4800) / RATE) * torch.hann_window(4800)
    for start in range(6000, 2 * RATE - 6000, 12000):
        wave[0, start : start + 4800] = tone
    found = transpose(wave, semitones)
    levels = [x.square().unfold(1, 1200, 600).mean(2)[0] for x in (wave, found)]
    assert np.corrcoef(*map(torch.Tensor.numpy, levels))[0, 1] > 0.8
    lags = np.correlate(*(x.numpy() - float(x.mean()) for x in levels), mode="full")
    assert abs(lags.argmax() - len(levels[0]) + 1) <= 1


@pytest.mark.parametrize("semitones", [-5, 0, 1, 6])
def test_padding_changes_nothing_before_it(semitones):
    wave = torch.from_numpy(melody(1.3, RATE, 1, np.random.default_rng(0)).T.copy())
    padded = torch.nn.functional.pad(wave, (0, 20_000))
    found = transpose(padded, semitones)[:, : wave.shape[1]]
    torch.testing.assert_close(found, transpose(wave, semitones), rtol=0, atol=1e-5)


def test_silence_stays_silent():
    assert (transpose(torch.zeros(2, 5), 3) == 0).all()
