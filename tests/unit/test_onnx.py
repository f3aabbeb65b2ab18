"""ONNX export: equal to torch at any length, and usable from its file alone."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import WaveEncoder
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.onnx import export_onnx
from speechbrain_music.utils.errors import UserError


def make_model(*args, **kwargs):
    torch.manual_seed(0)
    features = LogMel()
    features.normalize.set_statistics(torch.randn(128) - 5, torch.rand(128) + 1)
    encoder = make_encoder(*args, **kwargs)
    return WaveEncoder(features, encoder, {"training": {"steps": 10}}).eval()


TINY = {"num_layers": 1, "d_model": 32, "nhead": 2, "ffn_units": 48, "frontend_channels": 4}
SYSTEMS = {
    "cnf_sum": ("conformer", "summary", TINY | {"frame_rate": 50}),
    "brn_rope": ("branchformer", "rope", TINY | {"merge": "average"}),
    "brn_sum": ("branchformer", "summary", {"num_layers": 6}),  # the full width
}


@pytest.fixture(
    scope="module",
    params=["cnf_sum", "brn_rope", pytest.param("brn_sum", marks=pytest.mark.slow)],
)
def exported(request, tmp_path_factory):
    """A model and its file."""
    block, mixer, sizes = SYSTEMS[request.param]
    model = make_model(block, mixer, **sizes)
    model.train()  # dropout must not get into the graph
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path)
    assert model.training and [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    return model.eval(), onnxruntime.InferenceSession(path)


@torch.no_grad()
def largest_difference(model, session, tokens):
    mel = torch.randn(1, 4 * tokens, 128)
    expected = torch.stack(model.encoder(mel)[1])
    (hidden,) = session.run(["hidden"], {"mel": mel.transpose(1, 2).numpy()})
    assert hidden.shape == expected.shape
    difference = (torch.from_numpy(hidden) - expected).abs().flatten(1).amax(1)
    return (difference / expected.abs().flatten(1).amax(1)).max()


def test_every_hidden_state_at_any_length(exported):
    model, session = exported
    config = model.encoder.config
    assert session.get_inputs()[0].shape[:2] == [1, 128]
    shape = [config["num_layers"] + 1, 1, "T", config["d_model"]]
    assert session.get_outputs()[0].shape == shape
    for tokens in (1, 10, 750, 1500):
        assert largest_difference(*exported, tokens) < 1e-4


@torch.no_grad()
def test_file_and_its_metadata_without_torch(exported):
    """From a wave, by numpy and the metadata only, as docs/inference.md says."""
    model, session = exported
    wave = 0.1 * np.random.default_rng(0).standard_normal(25000).astype(np.float32)
    metadata = session.get_modelmeta().custom_metadata_map
    metadata = {key: json.loads(value) for key, value in metadata.items()}
    features = metadata["features"]
    n_fft, hop, stack = features["n_fft"], features["hop"], features["stack"]
    tokens = -(-len(wave) // (hop * stack))
    wave = np.pad(wave, (0, tokens * hop * stack - len(wave)))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, n_fft // 2), n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    power = np.abs(np.fft.rfft(frames[: stack * tokens] * window)) ** 2
    nyquist = features["sample_rate"] / 2
    top = 2595 * np.log10(1 + nyquist / 700)
    edges = 700 * (10 ** (np.linspace(0, top, features["bands"] + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.linspace(0, nyquist, n_fft // 2 + 1)
    filters = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0)
    mel = np.log(np.maximum(power @ filters.T, features["floor"]))
    mel = (mel - metadata["mean"]) / metadata["std"]
    (hidden,) = session.run(None, {"mel": mel.T[None].astype(np.float32)})
    out, _, _ = model(torch.from_numpy(wave)[None])
    assert np.abs(hidden[-1] - out.numpy()).max() < 1e-3 * out.abs().max()
    assert metadata["training"] == {"steps": 10} and metadata["encoder"] == model.encoder.config


def test_unsupported_encoders_are_refused(tmp_path, monkeypatch):
    small = {"num_layers": 1, "d_model": 16, "ffn_units": 16}
    with pytest.raises(UserError, match="RelativeAttention cannot.* SummaryMixing or Rotary"):
        export_onnx(make_model(mixer="attention", **small), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[onnx\]'"):
        export_onnx(make_model(**small), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
