"""ONNX export: equal to torch at any length, and usable from its file alone."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic

from speechbrain_music.data_prep.files import find_audio
from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.cli import main
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import SHIPPED, WaveEncoder, load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.onnx import export_onnx
from speechbrain_music.nnet.summary_mixing import SummaryMixing
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
    "brn_rope": ("branchformer", "rope", TINY),
    "causal": ("branchformer", "summary", TINY | {"lookahead": 1}),
    "brn_sum": ("branchformer", "summary", {"num_layers": 6}),  # the full width
}


@pytest.fixture(
    scope="module",
    params=["cnf_sum", "brn_rope", "causal", pytest.param("brn_sum", marks=pytest.mark.slow)],
)
def exported(request, tmp_path_factory):
    """A model and its file."""
    block, mixer, sizes = SYSTEMS[request.param]
    model = make_model(block, mixer, **sizes)
    model.train()  # dropout must not get into the graph
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path, "mel")
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
    assert session.get_inputs()[0].shape[:2] == ["B", 128]
    shape = [config["num_layers"] + 1, "B", "T", config["d_model"]]
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


WAVES = {
    "brn_sum": ("branchformer", "summary", {"frontend_bypass": True}),
    "cnf_sum": ("conformer", "summary", {"frame_rate": 50, "frontend_norm": True}),
    "brn_att": ("branchformer", "attention", {}),
    "cnf_att": ("conformer", "attention", {}),
}


def run_alone(path, folder):
    """Outputs for the folder's .npy files and the metadata, by a process without torch."""
    code = f"""
import json, sys
from pathlib import Path
import numpy, onnxruntime
session = onnxruntime.InferenceSession({str(path)!r})
for file in Path({str(folder)!r}).glob("*.npy"):
    (out,) = session.run(None, {{session.get_inputs()[0].name: numpy.load(file)}})
    numpy.save(file.with_suffix(".out"), out, allow_pickle=False)
print(json.dumps(session.get_modelmeta().custom_metadata_map))
assert not {{"torch", "speechbrain_music"}} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return {name: json.loads(text) for name, text in json.loads(result.stdout).items()}


def check_parity(session, encoder, samples, layers="all", pool="none"):
    """`check_wave` of a tone with noise that becomes nearly silent."""
    generator = np.random.default_rng(samples)
    tone = np.sin(np.arange(samples) * generator.uniform(0.01, 1, (2, 1)))
    wave = (0.1 * tone + 0.01 * generator.standard_normal((2, samples))).astype(np.float32)
    wave[:, samples // 2 :] *= 1e-3
    check_wave(session, encoder, wave, layers, pool)


def check_wave(session, encoder, wave, layers="all", pool="none"):
    """The largest difference to `MusicEncoder`, by layer, is below 1e-4 of the largest value."""
    expected = encoder.encode_batch(wave, layers=layers, pool=pool).values
    (found,) = session.run(None, {"wave": wave})
    found = found if pool != "none" else found.swapaxes(0, 1)
    assert found.shape == expected.shape and found.dtype == np.float32
    axes = tuple(axis for axis in range(found.ndim) if axis != 1)
    relative = np.abs(found - expected).max(axes) / np.abs(expected).max(axes)
    assert relative.max() < 1e-4, relative


@pytest.fixture(scope="module", params=WAVES)
def from_wave(request, tmp_path_factory):
    block, mixer, options = WAVES[request.param]
    model = make_model(block, mixer, **(TINY | {"num_layers": 2} | options))
    path = tmp_path_factory.mktemp("wave") / "model.onnx"
    export_onnx(model, path)
    modules = {"features": model.features, "encoder": model.encoder}
    return path, onnxruntime.InferenceSession(path), MusicEncoder(modules)


def test_wave_gives_what_music_encoder_gives(from_wave):
    _, session, encoder = from_wave
    assert session.get_inputs()[0].shape == ["B", "N"]
    assert session.get_outputs()[0].shape == [3, "B", "T", 32]
    for samples in (1, 961, 24000, 5 * 24000 + 7, 30 * 24000):
        check_parity(session, encoder, samples)


def test_recordings_by_the_shipped_encoder(real_audio, tmp_path):
    export_onnx(load_export(SHIPPED), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = find_audio(real_audio)[0]
    for name in names[:: max(len(names) // 8, 1)]:
        wave = read_segment(real_audio / name, 0, 30 * 24000)[None]
        check_wave(session, MusicEncoder.from_export(device="cpu"), wave)


@pytest.mark.slow
def test_recordings_in_int8(real_audio, tmp_path):
    """Quantized as docs/inference.md says, without the product that gives mel bands."""
    export_onnx(load_export(SHIPPED), tmp_path / "model.onnx", layers=[4], pool="mean")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    mel = [node.name for node in nodes if any(name.endswith("mel_scale.fb") for name in node.input)]
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "int8.onnx", nodes_to_exclude=mel)
    sizes = [(tmp_path / name).stat().st_size for name in ("int8.onnx", "model.onnx")]
    assert len(mel) == 1 and sizes[0] < 0.6 * sizes[1]
    original = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    int8 = onnxruntime.InferenceSession(tmp_path / "int8.onnx")
    names = find_audio(real_audio)[0]
    for name in names[:: max(len(names) // 8, 1)]:
        wave = read_segment(real_audio / name, 0, 30 * 24000)[None]
        (a,), (b,) = (session.run(None, {"wave": wave})[0][0] for session in (original, int8))
        assert a @ b > 0.999 * np.linalg.norm(a) * np.linalg.norm(b)


@pytest.mark.slow
def test_wave_of_two_minutes(from_wave):
    for seconds in (60, 120):
        check_parity(*from_wave[1:], seconds * 24000)


@pytest.mark.slow
@pytest.mark.parametrize("system", WAVES)
def test_wave_at_full_size(system, tmp_path):
    block, mixer, _ = WAVES[system]
    model = make_model(block, mixer, frontend_norm=True)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    encoder = MusicEncoder({"features": model.features, "encoder": model.encoder})
    for seconds in (1, 5, 30):
        check_parity(session, encoder, seconds * 24000)


@pytest.mark.parametrize("layers, pool", [(-1, "none"), ([0, 2], "mean_std")])
def test_chosen_layers_and_pooling_by_the_command(tmp_path, layers, pool):
    model = make_model("branchformer", "summary", **(TINY | {"num_layers": 2}))
    save_export(tmp_path / "export", model.encoder, model.features)
    option = "--layer=" + ",".join(map(str, np.atleast_1d(layers)))
    path = tmp_path / "model.onnx"
    assert (
        main(["export", str(path.parent / "export"), "--onnx", str(path), option, "--pool", pool])
        == 0
    )
    session = onnxruntime.InferenceSession(path)
    encoder = MusicEncoder.from_export(tmp_path / "export", "cpu")
    for samples in (24000, 100001):
        check_parity(session, encoder, samples, np.atleast_1d(layers), pool)


def test_wave_in_a_process_without_torch(from_wave, tmp_path):
    path, _, encoder = from_wave
    wave = 0.1 * np.random.default_rng(0).standard_normal((3, 30000)).astype(np.float32)
    np.save(tmp_path / "wave.npy", wave)
    metadata = run_alone(path, tmp_path)
    expected = encoder.encode_batch(wave, layers="all").values.swapaxes(0, 1)
    found = np.load(tmp_path / "wave.out.npy")
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert metadata["features"]["sample_rate"] == 24000 and metadata["input"] == "wave"
    assert metadata["tokens"] == {"seconds": 0.04, "first": 0.0}
    assert metadata["layers"] == [0, 1, 2] and metadata["pool"] == "none"
    assert metadata["mean"] == encoder.mods.features.normalize.mean.tolist()
    opsets = {entry.domain: entry.version for entry in onnx.load(path).opset_import}
    assert opsets[""] == 20


def test_unsupported_encoders_are_refused(tmp_path, monkeypatch, capsys):
    small = {"num_layers": 1, "d_model": 16, "ffn_units": 16}
    int8 = make_model(**small)
    int8.encoder.quantize()
    with pytest.raises(UserError, match="int8 weights cannot become ONNX.* export the original"):
        export_onnx(int8, tmp_path / "model.onnx")
    model = make_model(**small)
    save_export(tmp_path.with_name("export"), model.encoder, model.features)
    words = [str(tmp_path.with_name("export")), "--onnx", str(tmp_path / "model.onnx")]
    assert main(["export", *words, "--layer", "0,2"]) == 2
    assert "layers is [0, 2]: choose one from -2 to 1" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(type(model.encoder), "config", {"block": {"class": "my.Block"}})
        with pytest.raises(UserError, match="mixer None cannot become ONNX"):
            export_onnx(model, tmp_path / "model.onnx")
    monkeypatch.setattr("speechbrain_music.models.onnx.MIXERS", {"summary": SummaryMixing})
    with pytest.raises(UserError, match="RelativeAttention cannot become ONNX.* SummaryMixing"):
        export_onnx(make_model(mixer="attention", **small), tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[onnx\]'"):
        export_onnx(make_model(**small), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
