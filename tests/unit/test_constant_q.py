"""The constant-Q transform against its definition, librosa and recorded notes; its targets."""

import re
from functools import partial

import numpy as np
import pytest
import torch

from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.models.constant_q import BINS, LOWEST, ConstantQ, CQTTargets, make_cqt_head
from speechbrain_music.models.frontend import token_count
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer


def noise(*shape):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def sine(frequency, samples):
    return 0.4 * torch.sin(2 * torch.pi * frequency / 24000 * torch.arange(samples))


def log_power(wave):
    with torch.no_grad():
        return ConstantQ().raw(wave.unsqueeze(0), torch.tensor([len(wave)]))[0][0].numpy()


def reference(wave):
    """Inner products with windowed exponentials on the wave at 24 kHz, in float64."""
    tokens, margin = token_count(len(wave)), 13000
    wave = np.pad(wave.double().numpy(), (margin, margin + 960 * tokens))
    powers = np.empty((tokens, BINS))
    for bin, frequency in enumerate(LOWEST * 2 ** (np.arange(BINS) / 24)):
        length = 24000 / frequency / (2 ** (1 / 24) - 1)
        time = np.arange(-int(length / 2), int(length / 2) + 1)
        window = 0.5 + 0.5 * np.cos(2 * np.pi * time / length)
        kernel = window / window.sum() * np.exp(-2j * np.pi * frequency / 24000 * time)
        for token in range(tokens):
            powers[token, bin] = abs(wave[margin + 960 * token + 360 + time] @ kernel) ** 2
    return np.log(np.maximum(powers, 1e-10))


@pytest.mark.parametrize("samples, tone", [(1, 0), (5000, 9000), (12001, 3000)])
def test_equals_definition(samples, tone):
    """Within 0.005 nats; a tone that folds onto lower octaves would differ by more."""
    wave = (noise(samples) + sine(tone, samples)) * torch.linspace(1, 1e-3, samples)
    np.testing.assert_allclose(log_power(wave), reference(wave), atol=5e-3)


@pytest.mark.parametrize("samples", [100, 24000, 36479, 50001])
def test_click_is_in_its_token(samples):
    """Within half a token of the sample on which a token's mel frames are centred."""
    wave = torch.zeros(72000)
    wave[samples] = 1.0
    bin = log_power(wave)[:, 96]  # the highest C whose window is longer than a token
    assert abs(960 * bin.argmax() + 360 - samples) <= 480


@torch.no_grad()
def test_padding_has_no_effect():
    """Nor has autocast."""
    cqt, lengths, wave = ConstantQ(), torch.tensor([1, 959, 5000, 24000]), noise(4, 24000)
    cqt.normalize.set_statistics(torch.full((BINS,), -9.0), torch.full((BINS,), 2.0))
    garbage = wave.masked_fill(torch.arange(24000) >= lengths.unsqueeze(1), float("nan"))
    with torch.autocast("cpu", torch.bfloat16):
        values, tokens = cqt(garbage, lengths)
    assert tokens.tolist() == token_count(lengths).tolist()
    for row, length in enumerate(lengths):
        alone = cqt(wave[row : row + 1, :length], lengths[row : row + 1])[0][0]
        torch.testing.assert_close(values[row, : len(alone)], alone, atol=1e-5, rtol=1e-5)
        assert not values[row, len(alone) :].any()


@pytest.mark.parametrize("midi", range(25, 107, 27))
def test_tones_peak_at_their_pitch_as_librosas(midi):
    librosa = pytest.importorskip("librosa")
    wave, sizes = sine(librosa.midi_to_hz(midi), 48000), {"n_bins": BINS, "bins_per_octave": 24}
    theirs = abs(librosa.cqt(wave.numpy(), sr=24000, hop_length=960, fmin=LOWEST, **sizes))
    peaks = log_power(wave)[20:30].argmax(axis=1)
    assert set(peaks) == set(theirs[:, 20:30].argmax(axis=0)) == {2 * (midi - 24)}


def test_recorded_notes_peak_at_their_pitch(real_audio):
    """The files name a note: the lowest peak within 5 nats of the highest is in its bin."""
    notes = [path for path in real_audio.rglob("*.wav") if re.search(r"-[A-G]\d$", path.stem)]
    assert len(notes) >= 5
    for path in notes:
        note = 24 * (int(path.stem[-1]) - 1) + 2 * "C D EF G A B".index(path.stem[-2])
        values = log_power(torch.from_numpy(read_segment(path)))
        level = values.mean(axis=1)
        loud = values[level > np.quantile(level, 0.7)].mean(axis=0)
        peaks = [bin for bin in range(2, BINS) if loud[bin] == loud[bin - 2 : bin + 3].max()]
        lowest = next(bin for bin in peaks if loud[bin] > loud.max() - 5)
        # This file sounds an octave above its name.
        assert lowest == note + 24 * (path.stem == "organ-C3"), path


@pytest.mark.parametrize("books", [1, 3])
def test_targets_are_tokens_of_normalised_bins(books):
    sizes = {"codebook_dim": 4, "codebook_size": 50, "num_codebooks": books, "seed": 3}
    make = partial(RandomProjectionQuantizer, **sizes)
    targets, off = CQTTargets(0.5, make), CQTTargets(0, make)
    targets.features.normalize.set_statistics(torch.full((BINS,), -9.0), torch.full((BINS,), 2.0))
    wave, lengths = noise(2, 24000), torch.tensor([24000, 9000])
    where = torch.zeros(2, 25, dtype=torch.bool)
    where[0, 3:9] = where[1, 5:7] = True
    bins = targets.features(wave, lengths)[0][where]
    assert torch.equal(targets(wave, lengths, where), make(BINS)(bins[None]).view(8, books))
    assert make_cqt_head(6, targets)(torch.zeros(8, 6)).shape == (8, books, 50)
    assert not list(targets.parameters()) and not off.state_dict()
    assert not list(make_cqt_head(6, off).parameters())
