"""Encoders with a lookahead: what a step reads, and streams equal to the whole piece."""

import numpy as np
import pytest
import torch

from speechbrain_music.inference import MusicEncoder
from speechbrain_music.models.compression import compress
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import WaveEncoder, load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.parts import BLOCKS
from speechbrain_music.nnet.convolution import Past
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.reporting.model_card import encoder_metadata
from speechbrain_music.utils.errors import UserError


def causal(block="branchformer", lookahead=0, frame_rate=25, layers=3):
    sizes = {"ffn_units": 32, "kernel_size": 7, "frontend_channels": 4}
    front_end = {"frontend_bypass": True, "frontend_norm": True, "frame_rate": frame_rate}
    return make_encoder(
        block, num_layers=layers, d_model=16, lookahead=lookahead, **sizes, **front_end
    ).eval()


def music(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 24000)).astype("f4")


def parts(wave, seed=0):
    """The wave in parts of 0 to 9,999 samples."""
    cuts = np.cumsum(np.random.default_rng(seed).integers(0, 10000, len(wave) // 4000))
    return np.split(wave, cuts[cuts < len(wave)])


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("block", BLOCKS)
def test_no_step_reads_further_ahead(block, lookahead):
    encoder = causal(block, lookahead)
    mel = torch.randn(1, 4 * 40, 128, requires_grad=True)
    encoder(mel)[0][0, 20, 0].backward()
    read = mel.grad[0].abs().sum(1).nonzero().flatten()
    assert read.min() == 0  # the running mean
    assert read.max() // 4 == 20 + 3 * lookahead


@pytest.mark.parametrize("frame_rate", [25, 50])
@pytest.mark.parametrize("lookahead", [0, 1, 3])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_stream_equals_the_whole_piece(block, lookahead, frame_rate):
    modules = {"features": LogMel(), "encoder": causal(block, lookahead, frame_rate)}
    encoder = MusicEncoder(modules, run_opts={"device": "cpu"})
    for seconds in (0.01, 0.3, 8.123):
        wave = music(seconds)
        for layer in (0, 2, -1):
            stream = encoder.stream(layer)
            states = [stream.feed(part) for part in parts(wave)] + [stream.finish()]
            expected = encoder.encode_batch(wave[None], layers=layer).values[0]
            found = np.concatenate(states)
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("lookahead", [0, 1])
def test_latency(lookahead):
    """A token comes with the sample that `latency` names, and its last sample is needed."""
    modules = {"features": LogMel(), "encoder": causal(lookahead=lookahead)}
    encoder = MusicEncoder(modules, run_opts={"device": "cpu"})
    stream = encoder.stream()
    wave = music(2)
    count, arrived = 0, []
    for end in range(960, len(wave), 960):
        count += len(stream.feed(wave[end - 960 : end]))
        arrived.append(count)
    first = next(n for n, count in enumerate(arrived, 1) if count)
    assert first / 25 == pytest.approx(stream.latency) == pytest.approx((2 + 3 * lookahead) / 25)
    assert arrived[first - 1 :] == list(range(1, len(arrived) - first + 2))


def test_memory_of_a_stream_is_constant():
    modules = {"features": LogMel(), "encoder": causal(lookahead=1)}
    stream = MusicEncoder(modules, run_opts={"device": "cpu"}).stream()
    sizes = []
    for _ in range(6):
        stream.feed(music(1))
        windows = [stream.frontend, *stream.blocks]
        sizes.append([window.kept.shape[1] for window in windows])
        assert all(window.kept.untyped_storage().nbytes() < 10**6 for window in windows)
    assert sizes[1] == sizes[-1]


def test_a_stream_of_another_sample_rate():
    modules = {"features": LogMel(), "encoder": causal()}
    encoder = MusicEncoder(modules, run_opts={"device": "cpu"})
    wave = np.sin(np.arange(3 * 48000) / 40).astype("f4")
    stream = encoder.stream(sample_rate=48000)
    states = [stream.feed(part) for part in parts(wave)] + [stream.finish()]
    expected = encoder.encode_batch(wave[None], sample_rate=48000).values[0]
    assert np.abs(np.concatenate(states) - expected).max() < 1e-3


def test_padding_changes_nothing():
    encoder = causal(lookahead=2)
    mel = torch.randn(2, 80, 128)
    lengths = torch.tensor([20, 13])
    mel[1, 52:] = 0
    together = encoder(mel, lengths)[0]
    alone = encoder(mel[1:, :52])[0]
    assert torch.allclose(together[1, :13], alone[0], atol=1e-5)


def test_the_running_mean_goes_on_from_the_past():
    mixing = SummaryMixing(16)
    mixing.causal = True
    x = torch.randn(1, 30, 16)
    past = Past(leaving=12)
    mixing(x[:, :20], past=past)
    assert past.count == 12
    past.leaving = 0
    assert torch.allclose(mixing(x[:, 12:], past=past), mixing(x)[:, 12:], atol=1e-6)


def test_an_export_keeps_its_lookahead(tmp_path):
    encoder = causal(lookahead=2)
    save_export(tmp_path, encoder, LogMel())
    loaded = load_export(tmp_path).encoder
    assert [block.lookahead for block in loaded.layers] == [2, 2, 2]
    mel = torch.randn(1, 40, 128)
    assert torch.equal(loaded(mel)[0], encoder(mel)[0])
    assert "lookahead 2 (can be streamed)" in encoder_metadata(load_export(tmp_path))["encoder"]
    assert "lookahead" not in str(make_encoder(num_layers=1, d_model=16).config)


@pytest.mark.parametrize("method", ["int8", "prune:0.5", "layers:2"])
def test_a_compressed_encoder_streams(method):
    model = WaveEncoder(LogMel(), causal(lookahead=1), {})
    modules = {"features": model.features, "encoder": compress(model, method)}
    encoder = MusicEncoder(modules, run_opts={"device": "cpu"})
    stream, wave = encoder.stream(), music(3)
    states = [stream.feed(part) for part in parts(wave)] + [stream.finish()]
    difference = np.concatenate(states) - encoder.encode_batch(wave[None]).values[0]
    # Rounding to int8 turns a difference in the last bit into one of a step.
    assert np.abs(difference).max() < (0.05 if method == "int8" else 1e-5)


def test_a_stream_in_half_precision():
    modules = {"features": LogMel(), "encoder": causal(lookahead=1)}
    encoder = MusicEncoder(modules, run_opts={"device": "cpu"}, dtype="bfloat16")
    stream, wave = encoder.stream(), music(3)
    states = [stream.feed(part) for part in parts(wave)] + [stream.finish()]
    difference = np.concatenate(states) - encoder.encode_batch(wave[None]).values[0]
    assert np.abs(difference).mean() < 0.02


def test_bad_values():
    for lookahead in (4, 99):
        with pytest.raises(
            ValueError, match=f"lookahead is {lookahead}: with kernel_size 7, choose 0 to 3"
        ):
            causal(lookahead=lookahead)
    with pytest.raises(ValueError, match="lookahead is 0: RotaryAttention reads whole pieces"):
        make_encoder("conformer", "rope", num_layers=1, d_model=16, lookahead=0)
    offline = {"features": LogMel(), "encoder": make_encoder(num_layers=1, d_model=16)}
    offline = MusicEncoder(offline, run_opts={"device": "cpu"})
    with pytest.raises(UserError, match="cannot be streamed: train one with --lookahead"):
        offline.stream()
    assert len(offline.stream(layer=0).feed(music(1))) == 24  # the front-end reads nothing ahead
    encoder = MusicEncoder({"features": LogMel(), "encoder": causal()}, run_opts={"device": "cpu"})
    with pytest.raises(UserError, match="layers is"):
        encoder.stream(layer=9)
    with pytest.raises(UserError, match="sample_rate is 0"):
        encoder.stream(sample_rate=0)
    stream = encoder.stream()
    for bad in (np.zeros((2, 100)), np.zeros(100, int), np.array([np.nan])):
        with pytest.raises(UserError, match="pass finite floats between -1 and 1"):
            stream.feed(bad)
    assert stream.finish().shape == (0, 16)
    with pytest.raises(UserError, match="the stream is finished"):
        stream.feed(music(1))
