"""Compressed exports: their bytes, values and metadata; half precision."""

from itertools import product
from types import SimpleNamespace

import pytest
import spoil
import torch
from spoil import in_config, in_weights
from torch import nn

from speechbrain_music.evaluation.fine_tuning import fine_tune
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.cli import main
from speechbrain_music.models.compression import compress
from speechbrain_music.models.encoder import BLOCKS, MIXERS, make_encoder
from speechbrain_music.models.export import SHIPPED, WaveEncoder, load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.frozen import make_encoders
from speechbrain_music.models.targets import load_layer, load_targets, save_targets
from speechbrain_music.nnet import int8
from speechbrain_music.nnet.residual_quantizer import ResidualQuantizer
from speechbrain_music.nnet.summary_mixing import GroupedLinear, MergeLinear
from speechbrain_music.utils.errors import UserError

SYSTEMS = list(product(BLOCKS, MIXERS))


def make_model(block="branchformer", mixer="summary", num_layers=2, **sizes):
    torch.manual_seed(0)
    sizes = {"d_model": 64, "ffn_units": 192, "kernel_size": 5, "frontend_channels": 4} | sizes
    encoder = make_encoder(block, mixer, num_layers, **sizes)
    features = LogMel()
    features.normalize.set_statistics(torch.randn(128) - 5, torch.rand(128) + 1)
    return WaveEncoder(features, encoder, {"training": {"steps": 10}}).eval()


def save(model, folder, **metadata):
    save_export(folder, model.encoder, model.features, steps=10, **metadata)
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return save(make_model(), tmp_path_factory.mktemp("compression") / "original")


def run(*words):
    return main(["compress", *map(str, words)])


def size_of(folder):
    return (folder / "model.safetensors").stat().st_size


def cosine(one, two):
    return torch.nn.functional.cosine_similarity(one, two, dim=-1).min()


@pytest.mark.parametrize("block, mixer", SYSTEMS)
@torch.no_grad()
def test_int8_of_every_system_is_near_and_padding_safe(tmp_path, block, mixer):
    model = make_model(block, mixer)
    encoder = compress(model, "int8")
    assert model.encoder.config.get("int8") is None and encoder.config["int8"]
    save_export(tmp_path / "int8", encoder, model.features)
    save(model, tmp_path / "float32")
    assert size_of(tmp_path / "int8") < 0.36 * size_of(tmp_path / "float32")  # names are a tenth
    loaded = load_export(tmp_path / "int8")
    wave, samples = 0.1 * torch.randn(2, 48000), torch.tensor([48000, 24000])
    out, hidden, _ = loaded(wave, samples)
    assert torch.equal(out, WaveEncoder(model.features, encoder, {})(wave, samples)[0])
    assert cosine(out[0], model(wave, samples)[0][0]) > 0.99
    alone = loaded(wave[1:, :24000])[1]
    for padded, state in zip(hidden, alone, strict=True):
        torch.testing.assert_close(padded[1:, :25], state, rtol=1e-4, atol=1e-5)
    floats = {n: v for n, v in encoder.state_dict().items() if v.dtype != torch.int8}
    large = {n for n, v in floats.items() if v.ndim > 1 and v.numel() > 2000}
    assert all("conv" in name for name in large), large


@pytest.mark.parametrize("has_int8_products", [True, False])
@torch.no_grad()
def test_int8_layers_are_near_their_float_ones(monkeypatch, has_int8_products):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: has_int8_products)
    x, constant = torch.randn(2, 9, 40), torch.randn(2, 1, 24)
    x[0, 0] = 0  # a token of zeros has no scale
    bound = 3 / int8.LARGEST
    for layer, inputs in [
        (nn.Linear(40, 32), (x,)),
        (nn.Linear(40, 32, bias=False), (x,)),
        (MergeLinear(64, 32), (x, constant)),
    ]:
        expected, found = layer(*inputs), int8.Int8Linear(layer)(*inputs)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < bound * expected.abs().max()
    layers = nn.Sequential(GroupedLinear(40, 32, 4), nn.Conv1d(8, 8, 1), nn.Conv1d(8, 8, 3))
    grouped = torch.randn(4, 9, 10)
    before = [layers[0](grouped), layers[1].weight.clone()]
    int8.quantize_linear_layers(layers)
    torch.testing.assert_close(layers[0](grouped), before[0], rtol=0, atol=0.03)
    torch.testing.assert_close(layers[1].weight, before[1], rtol=0, atol=0.01)
    kinds = [value.dtype for name, value in layers.state_dict().items() if "bias" not in name]
    assert kinds == [torch.int8, torch.float32, torch.int8, torch.float32, torch.float32]


def test_merge_equals_a_layer_of_the_concatenation():
    layer, x, constant = MergeLinear(64, 32), torch.randn(2, 9, 40), torch.randn(2, 1, 24)
    joined = torch.cat([x, constant.expand(-1, 9, -1)], dim=2)
    expected = torch.nn.functional.linear(joined, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, constant), expected)


def test_commands_take_each_compressed_export(export, tmp_path, tone_folder, capsys):
    original = load_export(export)
    wave = 0.1 * torch.randn(1, 24000)
    identity = MusicEncoder.from_export(export, "cpu").fingerprint
    shares, states = {}, original(wave)[1]
    for method in ("prune:0.5", "int8", "bf16", "layers:1"):
        out = tmp_path / method.replace(":", "")
        assert run(export, "--method", method, "--out", out) == 0
        assert {p.name for p in out.iterdir()} == {"config.json", "model.safetensors", "README.md"}
        shares[method] = size_of(out) / size_of(export)
        command = f"sbmusic compress original --method {method} --out {out.name}"
        done = f"{method}, by `{command}`, of the encoder with fingerprint {identity}"
        model = load_export(out)
        assert model.config["training"] == {"steps": 10, "compression": done}
        capsys.readouterr()
        assert main(["info", str(out)]) == 0
        for text in (capsys.readouterr().out, (out / "README.md").read_text()):
            assert done in text
        table = out.with_suffix(".npz")
        assert main(["embed", str(tone_folder), "--model", str(out), "--out", str(table)]) == 0
        (encoder,) = make_encoders(str(out))
        assert encoder.identity == MusicEncoder.from_export(out, "cpu").fingerprint != identity
        found = model(wave)[1]
        for state, expected in zip(found[:-1], states, strict=False):
            near = 0.9 if "prune" in method else 0.999
            assert cosine(state, expected) > near and state.dtype == torch.float32
        teacher, quantizer = load_layer(f"{out}:1"), ResidualQuantizer(64, 4, 8, 2)
        folder = tmp_path / f"{out.name}-targets"
        save_targets(folder, quantizer, model.features, teacher)
        inputs = torch.randn(1, 4, 512), torch.tensor([4])
        assert torch.equal(load_targets(folder).teacher(*inputs), teacher(*inputs))
        assert make_encoders(f"random:{out}")[0].layers == encoder.layers
    assert torch.equal(found[0], states[0]) and len(found) == 2  # of layers:1
    assert torch.equal(found[1], original.encoder.norm(states[1]))
    assert shares["bf16"] == pytest.approx(0.5, abs=0.03)
    assert shares["int8"] < 0.36 and shares["layers:1"] < 0.6 and shares["prune:0.5"] < 0.75


REFUSED = {
    "--method int4": "method is 'int4': choose int8, bf16, layers:K with K from 1",
    "--method layers:0": "method is 'layers:0': choose int8, bf16",
    "--method layers:2": "method is 'layers:2': choose int8, bf16",
    "--method layers:-1": "from 1 to less than the 2 blocks of the encoder",
    "--method layers:two": "from 1 to less than the 2 blocks",
    "--method prune:0": "method is 'prune:0': choose int8, bf16, layers:K",
    "--method prune:0.0": "or prune:SHARE with SHARE between 0 and 1",
    "--method prune:1": "or prune:SHARE with SHARE between 0 and 1",
    "--method prune:-0.5": "or prune:SHARE with SHARE between 0 and 1",
    "--method prune:nan": "or prune:SHARE with SHARE between 0 and 1",
}


@pytest.mark.parametrize("words", REFUSED)
def test_unknown_method_is_one_sentence(export, tmp_path, capsys, words):
    assert run(export, *words.split(), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and REFUSED[words] in error
    assert not (tmp_path / "out").exists()


def test_existing_out_and_compressed_exports_are_refused(export, tmp_path, capsys):
    for method in ("int8", "bf16", "layers:1", "prune:0.5"):
        out = tmp_path / method.partition(":")[0]
        assert run(export, "--method", method, "--out", out) == 0
        assert run(export, "--method", method, "--out", out) == 2
        assert "which exists: choose a new folder" in capsys.readouterr().err
        assert run(out, "--method", "int8", "--out", tmp_path / "twice") == 2
        assert "is compressed already: compress the original" in capsys.readouterr().err
    with pytest.raises(UserError, match="'layers:1': choose int8"):
        compress(make_model(num_layers=1), "layers:1")
    assert run("nowhere/export", "--method", "int8", "--out", tmp_path / "new") == 2


def test_int8_weights_cannot_be_trained_or_halved(export, tmp_path):
    run(export, "--method", "int8", "--out", tmp_path / "int8")
    (encoder,) = make_encoders(tmp_path / "int8")
    features = SimpleNamespace(encoder=encoder, splits={})
    with pytest.raises(UserError, match="pass an export, not of int8 weights"):
        fine_tune(None, None, None, features, SimpleNamespace(hparams={}))
    with pytest.raises(UserError, match="'bfloat16': choose float32 .its weights are int8"):
        MusicEncoder.from_export(tmp_path / "int8", "cpu", dtype="bfloat16")


SCALE = "encoder.layers.0.merge_proj.scale"
WEIGHT = "encoder.layers.0.merge_proj.weight"
FAULTS = {
    "float weight": (in_weights(lambda w: w.update({WEIGHT: w[WEIGHT].float()})), "not torch.int8"),
    "no scale": (in_weights(lambda w: w.pop(SCALE)), f'Missing key(s) in state_dict: "{SCALE}"'),
    "bad scale": (in_weights(lambda w: w[SCALE].fill_(torch.nan)), "non-finite"),
    "not said": (in_config(lambda c: c["encoder"].pop("int8")), "do not fit"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_int8_export_is_one_sentence(tmp_path, name):
    model = make_model()
    save_export(tmp_path / "int8", compress(model, "int8"), model.features)
    spoil_folder, words = FAULTS[name]
    spoil_folder(tmp_path / "int8")
    spoil.refused(load_export, tmp_path / "int8", words)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("block, mixer", SYSTEMS)
def test_half_precision_is_near_and_gives_float32(tmp_path, dtype, block, mixer):
    folder = save(make_model(block, mixer), tmp_path / "export")
    wave, lengths = 0.1 * torch.randn(2, 36000), torch.tensor([1.0, 0.6])
    full = MusicEncoder.from_export(folder, "cpu")
    half = MusicEncoder.from_export(folder, "cpu", dtype=dtype)
    expected = full.encode_batch(wave, lengths, layers="all").values
    found = half.encode_batch(wave, lengths, layers="all")
    assert found.values.dtype == torch.float32 and not torch.equal(found.values, expected)
    valid = torch.arange(38) < found.lengths[:, None]
    assert cosine(found.values.transpose(1, 2)[valid], expected.transpose(1, 2)[valid]) > 0.998
    assert half.mods.features.normalize.mean.dtype == torch.float32
    assert half.fingerprint != full.fingerprint
    alone = half.encode_batch(wave[1:, :21600], layers="all").values
    assert cosine(found.values[1, :, :23], alone[0]) > 0.998


def test_dtype_of_commands(export, tone_folder, tmp_path, capsys):
    with pytest.raises(UserError, match="dtype is 'int8': choose float32, bfloat16, float16"):
        MusicEncoder.from_export(export, "cpu", dtype="int8")
    out = str(tmp_path / "half.npz")
    words = ["--model", str(export), "--dtype", "bfloat16", "--device", "cpu"]
    assert main(["embed", str(tone_folder), *words, "--out", out]) == 0
    song = tmp_path / "song.wav"
    song.write_bytes(sorted(tone_folder.rglob("*.wav"))[0].read_bytes())
    assert main(["similar", str(song), "--in", out, *words[:2]]) == 2
    assert "is not the model that made" in capsys.readouterr().err
    assert main(["similar", str(song), "--in", out, *words]) == 0


def test_shipped_encoder_in_int8_keeps_its_embeddings():
    """0.30 of the bytes, near embeddings: the export of docs/results/compression.md."""
    model = load_export(SHIPPED)
    encoder = compress(model, "int8")
    wave = torch.sin(torch.arange(48000) * torch.tensor([[0.05], [0.11]])) * 0.1
    with torch.no_grad():
        expected = model(wave)[0].mean(1)
        found = WaveEncoder(model.features, encoder, {})(wave)[0].mean(1)
    assert cosine(found, expected) > 0.99
