"""HEAR's API: values of MusicEncoder, shapes, times, devices."""

import numpy as np
import pytest
import soundfile
import torch
from tones import melody

from speechbrain_music.inference import MusicEncoder, hear
from speechbrain_music.utils.errors import UserError


@pytest.fixture(scope="module")
def model(tiny_export):
    return hear.load_model(str(tiny_export))


@pytest.mark.parametrize("seconds", [0.01, 2.5, 30.0, 67.3])
def test_equals_music_encoder(model, tiny_export, tmp_path, seconds):
    """Of files, in chunks of 30 s."""
    wave = melody(seconds, 48000, 1, np.random.default_rng(0))
    soundfile.write(tmp_path / "a.wav", wave, 48000, subtype="FLOAT")
    encoder = MusicEncoder.from_export(tiny_export, device="cpu")
    expected = encoder.encode_file(tmp_path / "a.wav")
    audio = torch.from_numpy(wave.T).repeat(2, 1)
    embeddings, times = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32 and times.shape == embeddings.shape[:2]
    for values in embeddings:
        np.testing.assert_allclose(values, expected.values, rtol=0, atol=1e-4)
    np.testing.assert_allclose(times[1], 1000 * expected.times + 20, rtol=1e-6)
    scenes = hear.get_scene_embeddings(audio, model)
    pooled = encoder.encode_file(tmp_path / "a.wav", pool="mean").values
    np.testing.assert_allclose(scenes, np.stack([pooled] * 2), rtol=0, atol=1e-4)
    assert model.timestamp_embedding_size == embeddings.shape[2] == 16
    assert model.scene_embedding_size == scenes.shape[1] == 16 and model.sample_rate == 48000


def test_a_kit_may_train_and_move_the_model(tiny_export):
    model, audio = hear.load_model(tiny_export), torch.rand(3, 4800)
    before = hear.get_scene_embeddings(audio, model)
    model.train()
    after = hear.get_scene_embeddings(audio, model.to("cpu"))
    assert torch.equal(before, after) and not after.requires_grad
    assert not any(part.training for part in model.encoder.mods.encoder.modules())
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(RuntimeError):  # no values can be computed there
        hear.get_scene_embeddings(audio, model.to("meta"))
    assert model.encoder.device.type == "meta"  # where waves were put, as by `to("cuda")`


def test_the_shipped_encoder_and_bad_input():
    model = hear.load_model()
    fingerprint = MusicEncoder.from_export(device="cpu").fingerprint
    assert model.encoder.fingerprint == fingerprint
    with pytest.raises(UserError, match="NaN or infinite"):
        hear.get_scene_embeddings(torch.full((1, 4800), torch.nan), model)
    with pytest.raises(UserError, match="is neither the folder of an export nor a hub id"):
        hear.load_model("no such model")
