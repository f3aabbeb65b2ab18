"""Frames and tokens of a wave, and the definition of the features."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from speechbrain_music.dataio.audio import (
    AUDIO_EXTENSIONS,
    AudioError,
    audio_info,
    read_segment,
    resampled_length,
)
from speechbrain_music.dataio.segments import SegmentDataset, SegmentIndex, collate
from speechbrain_music.metrics.pretraining import perplexity
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.frontend import BANDS, LogMel, token_count
from speechbrain_music.models.ssl import stack_frames, tokenize
from speechbrain_music.nnet.normalization import NORMALIZATIONS
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer

LENGTHS = (1, 239, 240, 959, 960, 961, 1024, 719999, 720000, 720001)


@pytest.fixture(scope="module")
def model():
    encoder = make_encoder(num_layers=1, d_model=16, ffn_units=16, frontend_channels=2)
    return encoder.eval(), RandomProjectionQuantizer(512, codebook_size=256)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("samples", LENGTHS)
@torch.no_grad()
def test_token_counts_agree(samples, model, tmp_path):
    tokens = -(-samples // 960)
    assert token_count(samples) == token_count(torch.tensor(samples)) == tokens
    wave = noise(samples)
    mel, lengths = LogMel()(wave.unsqueeze(0), torch.tensor([samples]))
    assert lengths.tolist() == [tokens] and mel.shape == (1, 4 * tokens, BANDS)
    encoder, quantizer = model
    assert tokenize(quantizer, stack_frames(mel)).shape[1] == tokens
    assert encoder(mel, lengths)[0].shape[1] == tokens

    path = tmp_path / "a.wav"
    soundfile.write(path, wave.numpy(), 24000, subtype="FLOAT")
    row = {"wav": str(path), "start": 0, "stop": samples, "duration": samples / 24000}
    dataset = SegmentDataset(pd.DataFrame([row]), 1000)
    batch = collate([dataset[SegmentIndex(0, 0, 0)]])
    if tokens < 20:  # not two blocks: reported, and replaced by an item without masked tokens
        assert batch.errors[0][0] == str(path) and "two blocks" in batch.errors[0][1]
        assert not batch.mask.any() and not batch.wave.any()
        tokens = 20
    else:
        assert not batch.errors and batch.samples.tolist() == [samples]
        assert torch.equal(batch.wave[0], wave)
    assert batch.mask.shape[1] == token_count(batch.samples).item() == tokens


@torch.no_grad()
def test_shifted_wave(model, shift=3):
    wave = noise(1, 48000) * torch.linspace(0, 20, 48000).sin()
    moved = torch.nn.functional.pad(wave, (960 * shift, 0))
    tokens, later = (
        model[1](stack_frames(LogMel()(w, torch.tensor([w.shape[1]]))[0]))[0] for w in (wave, moved)
    )
    edge = 2  # the window of 2048 samples sees 1024 beyond a frame's centre
    assert torch.equal(tokens[edge:-edge], later[shift + edge : -edge])
    assert len(tokens[edge:-edge].unique()) > 10  # or the same code everywhere would do


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@torch.no_grad()
def test_padding_has_no_effect(normalization):
    features = LogMel(normalization)
    features.normalize.set_statistics(torch.full((BANDS,), -5.0), torch.full((BANDS,), 2.0))
    lengths = torch.tensor([1, 959, 5000, 24000])
    wave = noise(4, 24000)
    garbage = wave.clone()
    for row, length in enumerate(lengths):
        garbage[row, length:] = float("nan")
    mel, tokens = features(garbage, lengths)
    for row, length in enumerate(lengths):
        alone = features(wave[row : row + 1, :length], lengths[row : row + 1])[0][0]
        torch.testing.assert_close(mel[row, : len(alone)], alone, atol=1e-6, rtol=1e-6)
        assert not mel[row, len(alone) :].any()


@torch.no_grad()
def test_normalizations_equal_definitions():
    wave, samples = 0.3 * noise(2, 24000), torch.tensor([24000, 9000])
    wave *= torch.linspace(0.1, 1, 24000)
    mean, std = torch.linspace(-6, -4, BANDS), torch.linspace(2, 3, BANDS)
    raw, mels = LogMel().raw(wave, samples)[0], {}
    for kind in NORMALIZATIONS:
        features = LogMel(kind)
        features.normalize.set_statistics(mean, std)
        mels[kind] = features(wave, samples)[0]
    torch.testing.assert_close(mels["band"][0], (raw[0] - mean) / std)
    # The corpus's values together: its bands' means, spread by the deviations within each.
    spread = (mean.var(correction=0) + std.square().mean()).sqrt()
    torch.testing.assert_close(mels["scalar"][0], (raw[0] - mean.mean()) / spread)


def reference_log_mel(wave):
    """The features from their definition, in float64: no torch, no torchaudio."""
    tokens = -(-len(wave) // 960)
    wave = np.pad(wave.astype(np.float64), (1024, 960 * tokens - len(wave) + 1024))
    frames = np.stack([wave[240 * i : 240 * i + 2048] for i in range(4 * tokens)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    top = 2595 * np.log10(1 + 12000 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, 130) / 2595) - 1)
    hertz = np.arange(1025) * 24000 / 2048
    low, peak, high = (corners[i : 128 + i, None] for i in range(3))
    bank = np.clip(np.minimum((hertz - low) / (peak - low), (high - hertz) / (high - peak)), 0, 1)
    return np.log(np.maximum(power @ bank.T, 1e-5))


# torchaudio's filters have float32 corners: a lone tone on the foot of one shows it.
@pytest.mark.parametrize("tone, bound", [(0.0, 1e-4), (0.3, 1e-3)])
@pytest.mark.parametrize("samples", [1, 2000, 24001])
def test_features_equal_definition(samples, tone, bound):
    wave = noise(samples) + tone * torch.sin(2 * torch.pi * 440 / 24000 * torch.arange(samples))
    wave *= torch.linspace(1, 1e-4, samples)  # down into the floor
    mel, _ = LogMel()(wave.unsqueeze(0), torch.tensor([samples]))
    np.testing.assert_allclose(mel[0].numpy(), reference_log_mel(wave.numpy()), atol=bound)


@torch.no_grad()
def test_scalar_normalisation_lowers_perplexity(real_audio):
    pieces = []
    for path in sorted(p for p in real_audio.rglob("*") if p.suffix in AUDIO_EXTENSIONS):
        info = audio_info(path)
        starts = range(0, resampled_length(info.frames, info.sample_rate), 240000)
        pieces += [(path, start) for start in starts]
    features, mels = LogMel(), []
    for index in np.linspace(0, len(pieces) - 1, 60).astype(int):  # of all recordings alike
        try:
            wave = torch.from_numpy(read_segment(*pieces[index], 240000)).unsqueeze(0)
        except AudioError:  # the header of an mp3 may overstate its length
            continue
        mels.append(features.raw(wave, torch.tensor([wave.shape[1]]))[0][0])
    mel = torch.cat(mels)
    figures = {}
    for seed in range(3):
        quantizer = RandomProjectionQuantizer(512, seed=seed)
        for name, axis in (("bands", 0), ("scalar", None)):
            std, mean = torch.std_mean(mel, dim=axis)
            tokens = quantizer(stack_frames(((mel - mean) / std).unsqueeze(0)))
            figures[name, seed] = perplexity(np.bincount(tokens.flatten().numpy()))
    assert all(figures["bands", s] >= 2 * figures["scalar", s] for s in range(3)), figures
