"""MusicEncoder: embeddings of files and batches, and where exports are found."""

import os
import re
import tempfile
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
from tones import melody, write_tones

from speechbrain_music.dataio.audio import AudioError, audio_info, read_segment
from speechbrain_music.dataio.overlap import plan_chunks
from speechbrain_music.inference import MusicEncoder, long_audio
from speechbrain_music.models.frontend import LogMel, token_count
from speechbrain_music.models.frozen_encoder import pool_states
from speechbrain_music.utils.errors import UserError

EXACT = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def music(tiny_export):
    return MusicEncoder.from_export(tiny_export, device="cpu")


def write(path, seconds=7.33, rate=44100, channels=2, seed=0):
    """A file of an odd number of samples."""
    wave = melody(seconds, rate, channels, np.random.default_rng(seed))
    soundfile.write(path, wave[: len(wave) // 2 * 2 - 1], rate)
    return path


@pytest.mark.parametrize("samples", [1, 959, 960, 961, 24000, 50001])
def test_file_in_one_chunk_equals_wave(music, tmp_path, samples):
    wave = melody(3, 24000, 1, np.random.default_rng(0))[:samples]
    soundfile.write(tmp_path / "a.wav", wave, 24000, subtype="FLOAT")
    result = music.encode_file(tmp_path / "a.wav", layers="all", chunk=None)
    batch = music.encode_batch(wave.T, layers="all")
    np.testing.assert_allclose(result.values, batch.values[0], **EXACT)
    assert result.lengths == batch.lengths == token_count(samples) == result.values.shape[1]
    np.testing.assert_array_equal(result.times, np.arange(result.lengths) / 25)


@pytest.mark.parametrize("overlap", [0.0, 0.2])
def test_overlap_longer_than_context(music, tmp_path, overlap):
    """The front-end's context is two tokens on each side, less than half the overlap of five."""
    path = write(tmp_path / "a.flac")
    whole = music.encode_file(path, layers=0, chunk=None).values
    joined = music.encode_file(path, layers=0, chunk=1.0, overlap=overlap).values
    assert joined.shape == whole.shape == (184, 16)
    differing = np.flatnonzero(np.abs(joined - whole).max(axis=1) > 1e-5)
    cuts = [span.keep.start for span in plan_chunks(184, 25)[1:]]
    assert set(differing) == (set() if overlap else {c + d for c in cuts for d in (-1, 0, 1)})


@pytest.mark.parametrize("layers", [1, [-1, 0], "all"])
def test_pooling_over_chunks(music, tmp_path, layers):
    path = write(tmp_path / "a.wav")
    options = {"layers": layers, "chunk": 2.0, "overlap": 0.4, "batch_size": 2}
    frames = music.encode_file(path, **options).values
    states = [torch.from_numpy(f).double()[None] for f in frames.reshape(-1, *frames.shape[-2:])]
    for pool in ("mean", "mean_std"):
        expected = pool_states(states, torch.tensor([frames.shape[-2]]), pool)[0].numpy()
        result = music.encode_file(path, pool=pool, **options)
        np.testing.assert_allclose(result.values, np.squeeze(expected), rtol=1e-5, atol=1e-6)
        assert (result.lengths, result.times) == (frames.shape[-2], None)


@pytest.mark.parametrize("rate, channels", [(8000, 1), (24000, 2), (44100, 2), (48000, 6)])
def test_rates_channels_padding_numpy_and_torch(music, tmp_path, rate, channels):
    wave = melody(2.5, rate, channels, np.random.default_rng(1))
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    expected = music.encode_file(tmp_path / "a.wav").values
    padded = np.zeros((2, *wave.shape), wave.dtype)
    padded[0], padded[1, : rate + 1] = wave, wave[: rate + 1]
    lengths = [1.0, (rate + 1) / len(wave)]
    result = music.encode_batch(padded, lengths, rate)
    alone = music.encode_batch(padded[1:, : rate + 1], sample_rate=rate)
    np.testing.assert_allclose(result.values[0], expected, **EXACT)
    np.testing.assert_allclose(result.values[1, : alone.lengths[0]], alone.values[0], **EXACT)
    assert not result.values[1, alone.lengths[0] :].any()
    as_torch = music.encode_batch(torch.from_numpy(padded), torch.tensor(lengths), rate)
    assert isinstance(as_torch.values, torch.Tensor) and isinstance(result.values, np.ndarray)
    np.testing.assert_array_equal(as_torch.values, result.values)
    np.testing.assert_array_equal(as_torch.lengths, result.lengths)
    pooled = music.encode_batch(padded, lengths, rate, layers=[0, -1], pool="mean").values
    np.testing.assert_allclose(pooled[1, 1], alone.values[0].mean(0), **EXACT)


@pytest.mark.parametrize("pool", ["none", "mean_std"])
def test_files_share_batches_without_changing_values(music, tmp_path, monkeypatch, pool):
    paths = write_tones(tmp_path / "music", count=9, seconds=(0.5, 4))
    bad = [tmp_path / name for name in ("text.wav", "cut.flac", "gone.mp3", "short.wav")]
    bad[0].write_text("do re mi")
    write(bad[1])
    bad[1].write_bytes(bad[1].read_bytes()[: bad[1].stat().st_size // 2])
    soundfile.write(bad[3], np.zeros(1), 48000)  # half a sample at 24 kHz
    listed = [bad[0], paths[0], bad[1], *paths[1:], bad[2], bad[3], paths[0]]
    options = {"layers": [0, -1], "pool": pool, "chunk": 2.0, "overlap": 0.4}
    batches = []
    encode = MusicEncoder._encode
    noting = lambda self, waves: batches.append(waves) or encode(self, waves)  # noqa: E731
    monkeypatch.setattr(MusicEncoder, "_encode", noting)
    results = list(music.encode_files(iter(listed), batch_size=4, **options))
    assert [path for path, _ in results] == listed
    costs = [len(batch) * max(map(len, batch)) for batch in batches]
    assert max(costs) <= 4 * 48000 and sum(len(batch) for batch in batches) > 3 * len(batches)
    for path, result in results:
        if path in bad:
            assert isinstance(result, AudioError) and str(path) in str(result)
            with pytest.raises(AudioError):
                music.encode_file(path, **options)
        else:
            alone = music.encode_file(path, batch_size=1, **options)
            np.testing.assert_allclose(result.values, alone.values, **EXACT)


@pytest.mark.parametrize("overlap", [0.0, 1.0])
@pytest.mark.parametrize("promised", [184.2 / 25, 8.0, 10.0])
def test_file_shorter_than_its_header_says(music, tmp_path, monkeypatch, overlap, promised):
    path = write(tmp_path / "a.wav", rate=24000)
    options = {"layers": "all", "chunk": 2.0, "overlap": overlap}
    expected = music.encode_file(path, **options)
    longer = lambda path: audio_info(path)._replace(frames=int(promised * 24000))  # noqa: E731
    monkeypatch.setattr(long_audio, "audio_info", longer)
    for in_memory in (long_audio.IN_MEMORY, 0):
        monkeypatch.setattr(long_audio, "IN_MEMORY", in_memory)
        result = music.encode_file(path, **options)
        np.testing.assert_array_equal(result.values, expected.values)
        np.testing.assert_array_equal(result.times, expected.times)


def test_large_results_are_memory_mapped(music, tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav")
    small = music.encode_file(path, layers="all", chunk=1.0).values
    assert not isinstance(small, np.memmap)
    monkeypatch.setattr(long_audio, "IN_MEMORY", small.nbytes - 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = music.encode_file(path, layers="all", chunk=1.0).values
    assert isinstance(large, np.memmap) and {p.name for p in tmp_path.iterdir()} == {"a.wav"}
    np.testing.assert_array_equal(large, small)


def test_failures(music, tmp_path, monkeypatch):
    path, cut = write(tmp_path / "a.flac"), tmp_path / "cut.flac"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match="cut.flac"):
        music.encode_file(cut, chunk=1.0)
    full = Mock(write=Mock(side_effect=OSError(28, "No space left on device")))
    monkeypatch.setattr(long_audio, "IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
    with pytest.raises(OSError, match="No space left on device"):
        music.encode_file(path)


WRONG = {
    "layers": [3, -4, "last", []],
    "pool": ["max"],
    "chunk": [1.01, "30", 0, float("nan")],
    "overlap": [-1, 1, 30],
    "batch_size": [0],
}


@pytest.mark.parametrize("name, value", [(name, v) for name in WRONG for v in WRONG[name]])
def test_wrong_options(music, name, value):
    options = {"chunk": 1, name: value}
    for encode, source in ((music.encode_file, "a.wav"), (music.encode_files, ["a.wav"])):
        with pytest.raises(UserError, match=f"{name} (is )?{re.escape(repr(value))}"):
            encode(source, **options)


def test_wrong_combinations(music):
    for options, words in (
        ({"chunk": None, "overlap": 1}, "chunk is None and overlap 1"),
        ({"chunk": 2, "overlap": 2}, "chunk is 2 and overlap 2"),
    ):
        with pytest.raises(UserError, match=words):
            music.encode_file("a.wav", **options)
    with pytest.raises(UserError, match="paths is 'a.wav'"):
        music.encode_files("a.wav")


@pytest.mark.parametrize(
    "words, wavs, options",
    [
        (r"shape \(5,\)", np.zeros(5), {}),
        (r"shape \(1, 2, 500\)", np.zeros((1, 2, 500)), {}),
        (r"shape \(0, 5\)", np.zeros((0, 5)), {}),
        ("int16: pass floats", np.zeros((1, 5), np.int16), {}),
        ("NaN or infinite", np.full((1, 5), np.nan), {}),
        ("embeddings are not finite", np.full((1, 960), 1e29), {}),
        ("sample_rate is 0", np.zeros((1, 5)), {"sample_rate": 0}),
        ("1 samples at 48000 Hz", np.zeros((1, 1)), {"sample_rate": 48000}),
        ("wav_lens is", np.zeros((2, 5)), {"wav_lens": [5, 5]}),
        ("wav_lens is", np.zeros((2, 5)), {"wav_lens": [1.0]}),
        ("layers is 3", np.zeros((1, 5)), {"layers": 3}),
    ],
)
def test_wrong_batches(music, words, wavs, options):
    with pytest.raises(UserError, match=words):
        music.encode_batch(wavs, **options)


@pytest.mark.parametrize("pool", ["none", "mean"])
def test_embedding_that_is_not_finite_is_an_error_of_its_file(music, tmp_path, monkeypatch, pool):
    read = long_audio.read_segments

    def loud(path, parts):
        return (wave * 1e29 if "b.wav" in str(path) else wave for wave in read(path, parts))

    monkeypatch.setattr(long_audio, "read_segments", loud)
    paths = [write(tmp_path / name, 3) for name in ("a.wav", "b.wav", "c.wav")]
    found = dict(music.encode_files(paths, pool=pool, chunk=1.0))
    assert isinstance(found[paths[1]], AudioError) and "is not finite" in str(found[paths[1]])
    assert all(np.isfinite(found[path].values).all() for path in (paths[0], paths[2]))


def test_properties_of_a_loaded_export(music, tiny_export):
    assert (music.num_layers, music.dim, music.device) == (3, 16, "cpu")
    assert music.config["training"] == {"system": "small", "seed": 0}
    assert music.model.encoder is music.mods.encoder
    assert not any(p.requires_grad for p in music.parameters()) and not music.mods.training
    values = music.encode_batch(torch.zeros(1, 24000)).values
    torch.nn.Linear(16, 1)(values).sum().backward()  # a head can be trained on them
    with pytest.raises(UserError, match="device is 'gpu'"):
        MusicEncoder.from_export(tiny_export, device="gpu")
    with pytest.raises(UserError, match="modules lack encoder"):
        MusicEncoder({"features": LogMel()})


def test_from_hparams_equals_from_export(music, tmp_path):
    (tmp_path / "hyperparams.yaml").write_text("""
features: !new:speechbrain_music.models.frontend.LogMel
encoder: !apply:speechbrain_music.models.encoder.make_encoder
    {num_layers: 2, d_model: 16, nhead: 2, ffn_units: 16, kernel_size: 5}
modules: {features: !ref <features>, encoder: !ref <encoder>}
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables: !ref <modules>
""")
    torch.save(music.mods.features.state_dict(), tmp_path / "features.ckpt")
    torch.save(music.mods.encoder.state_dict(), tmp_path / "encoder.ckpt")
    loaded = MusicEncoder.from_hparams(str(tmp_path), savedir=tmp_path, run_opts={"device": "cpu"})
    path = write(tmp_path / "a.wav")
    options = {"layers": "all", "chunk": 2.0}
    expected = music.encode_file(path, **options).values
    np.testing.assert_array_equal(loaded.encode_file(path, **options).values, expected)
    assert loaded.config == {} and (loaded.num_layers, loaded.dim) == (3, 16)
    audio = loaded.load_audio(str(path))  # SpeechBrain's own is at 16 kHz
    assert abs(len(audio) - len(read_segment(path))) <= 1
    np.testing.assert_array_equal(
        loaded(audio[None]).values, loaded.encode_batch(audio[None]).values
    )


def test_hub_download_is_two_files_of_a_revision(tiny_export, monkeypatch):
    fetch = Mock(return_value=str(tiny_export))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert MusicEncoder.from_export("some-user/a.name", revision="v1", device="cpu").dim == 16
    files = ["config.json", "model.safetensors"]
    fetch.assert_called_once_with("some-user/a.name", revision="v1", allow_patterns=files)


@pytest.mark.parametrize(
    "source", ["../etc", "a/../b", "/a/b", "a/b/c", "a", "a/b\n", "https://a/b", Path("a/b"), ""]
)
def test_other_names_are_not_downloaded(monkeypatch, source):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: 1 / 0)
    monkeypatch.chdir(os.path.dirname(__file__))
    with pytest.raises(UserError, match="neither the folder of an export|no export"):
        MusicEncoder.from_export(source, device="cpu")


def test_unreachable_hub_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="some-user/model is no folder, and could not") as caught:
        MusicEncoder.from_export("some-user/model", device="cpu")
    assert "\n" not in str(caught.value)
