"""Frozen encoders: features by hand, identities, untrained encoders, specs, hostile models."""

import json
import random
import shutil
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
import torchaudio
import transformers
from safetensors.torch import load_file
from spoil import in_config, in_weights

from speechbrain_music.inference import MusicEncoder
from speechbrain_music.models import frozen
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.frozen import ExportEncoder, MelEncoder, make_encoders, untrained
from speechbrain_music.models.peers import PeerEncoder
from speechbrain_music.utils.errors import UserError

LENGTHS = torch.tensor([1, 960, 5000, 24000])


def waves(count, samples, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(count, samples, generator=generator)


def export(folder, seed=0, num_layers=2, mixer="summary"):
    torch.manual_seed(seed)
    features = LogMel()
    features.normalize.set_statistics(torch.randn(128) - 5, torch.rand(128) + 1)
    encoder = make_encoder("branchformer", mixer, num_layers, 16, 2, 24, 5, 2, dropout=0.5)
    save_export(folder, encoder, features)
    return folder


@pytest.fixture
def folder(tmp_path):
    return export(tmp_path / "one")


def refusal(spec, **options):
    """Return the one sentence with which a spec is refused."""
    with pytest.raises(UserError) as caught:
        make_encoders(spec, **options)
    message = str(caught.value)
    assert "\n" not in message and message
    return message


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_that_of_music_encoder(folder, dtype, tmp_path):
    other = export(tmp_path / "two", seed=1)
    half, second = make_encoders([f"{dtype}:{folder}", f"{dtype}:{other}"])
    wave, samples = waves(2, 9000), torch.tensor([9000, 9000])
    expected = MusicEncoder.from_export(folder, "cpu", dtype=dtype)
    values = expected.encode_batch(wave, layers="all", pool="mean").values
    torch.testing.assert_close(half(wave, samples), values, atol=1e-6, rtol=0)
    (full,) = make_encoders(str(folder))
    assert 0 < (half(wave, samples) - full(wave, samples)).abs().max() < 0.1
    assert half.identity == expected.fingerprint != full.identity
    assert (half.name, second.name) == (f"{dtype}-one", f"{dtype}-two")


def test_int8_has_no_half_precision(folder, tmp_path):
    model = load_export(folder)
    save_export(tmp_path / "int8", model.encoder.quantize(), model.features)
    message = refusal(f"bfloat16:{tmp_path}/int8")
    assert "dtype is 'bfloat16': choose float32 (its weights are int8)" in message
    assert "nowhere is no export" in refusal("float16:nowhere")
    assert "encoder is 'bfloat16:': choose" in refusal("bfloat16:")


@pytest.mark.parametrize("pooling, width", [("mean", 16), ("mean_std", 32)])
def test_export_features_are_pooled_over_valid_tokens(folder, pooling, width):
    (encoder,) = make_encoders(str(folder), pooling=pooling)
    wave, samples = waves(3, 9000), torch.tensor([9000, 1, 2000])
    torch.nn.ModuleList([encoder]).train().requires_grad_(True)  # neither has an effect
    result = encoder(wave, samples)
    assert not result.requires_grad
    with torch.no_grad():
        _, hidden, tokens = load_export(folder)(wave, samples)
    assert tokens.tolist() == [10, 1, 3] and result.shape == (3, 3, width)
    for item, count in enumerate(tokens):
        for layer, state in enumerate(hidden):
            own = state[item, :count]
            expected = torch.cat([own.mean(0), own.std(0, correction=0)])[:width]
            torch.testing.assert_close(result[item, layer], expected)
    assert (encoder.sample_rate, encoder.layers, encoder.dim) == (24000, ("0", "1", "2"), width)
    assert result.dtype == torch.float32


def test_mel_statistics_equal_numpy():
    wave, samples = waves(2, 24000), torch.tensor([24000, 5000])
    wave[:, :12000] *= 0.01  # the level changes, or the deviation would be noise's alone
    encoder = MelEncoder()
    result = encoder(wave, samples)
    assert result.shape == (2, 1, 256) and result.dtype == torch.float32
    assert (encoder.sample_rate, encoder.layers, encoder.dim) == (24000, ("mel",), 256)
    for out_of_range in (0, 24001):
        with pytest.raises(ValueError, match="for waves of 24000 samples"):
            encoder(wave, torch.tensor([960, out_of_range]))
    filters = torchaudio.functional.melscale_fbanks(1025, 0.0, 12000.0, 128, 24000).numpy()
    window = np.sin(np.pi * np.arange(2048) / 2048) ** 2
    for item, (signal, length) in enumerate(zip(wave.numpy(), samples.tolist(), strict=True)):
        signal = np.pad(signal[:length].astype(float), 1024)
        starts = range(0, length, 240)  # 100 frames for 24000 samples, 21 for 5000
        power = [abs(np.fft.rfft(window * signal[start : start + 2048])) ** 2 for start in starts]
        mel = np.log(np.maximum(np.stack(power) @ filters, 1e-5))
        expected = np.concatenate([mel.mean(0), mel.std(0)])
        np.testing.assert_allclose(result[item, 0].numpy(), expected, atol=2e-4)


def test_mel_deviation_of_one_frame_and_of_large_levels():
    encoder = MelEncoder()
    assert (encoder(waves(1, 240), torch.tensor([240]))[0, 0, 128:] == 0).all()
    level = 8192 + torch.tensor([0.0, 1.0, 2.0, 4.0]) / 1024  # steps of float32 there
    encoder.features.raw = lambda wave, samples: (level.view(1, 4, 1).expand(1, 4, 128), None)
    result = encoder(torch.zeros(1, 960), torch.tensor([960]))[0, 0, 128:]
    torch.testing.assert_close(result, torch.full((128,), level.double().numpy().std()).float())


@pytest.mark.parametrize("mixer", ["summary", "attention", "rope", "mel"])
def test_padding_changes_no_features(tmp_path, mixer):
    spec = mixer if mixer == "mel" else export(tmp_path / "export", mixer=mixer)
    (encoder,) = make_encoders(spec)
    assert encoder.padding_safe
    wave = waves(4, 24000)
    padded = encoder(wave, LENGTHS)
    assert padded.isfinite().all()
    for item, length in enumerate(LENGTHS):
        alone = encoder(wave[item : item + 1, :length], LENGTHS[item : item + 1])[0]
        assert (padded[item] - alone).abs().max() <= 1e-5 * max(1, alone.abs().max())


def test_identity_is_of_weights_and_configuration_only(folder, tmp_path, monkeypatch):
    def identity(folder):
        return make_encoders(folder)[0].identity

    before = identity(folder)
    assert int(before, 16) and before != make_encoders(folder, pooling="mean_std")[0].identity
    in_config(lambda config: config.update(training={"step": 11, "corpus": "/x"}))(folder)
    assert identity(folder) == before
    seen = {before}
    for name, index in (("encoder.norm.norm.bias", 0), ("features.normalize.mean", 127)):
        copy, mask = shutil.copytree(folder, tmp_path / name), torch.arange(128) == index
        change = lambda w, n=name, mask=mask: w[n].add_(1e-6 * mask[: len(w[n])])  # noqa: E731
        in_weights(change)(copy)
        seen.add(identity(copy))
    rope = export(tmp_path / "rope", mixer="rope")
    seen.add(identity(rope))
    in_config(lambda config: config.pop("weights"))(rope)  # the hash, of the configuration, too
    in_config(lambda config: config["encoder"]["block"]["mixer"].update(nhead=4))(rope)
    seen.add(identity(rope))  # although the weights fit
    seen |= {identity("mel"), identity("mel")}
    monkeypatch.setitem(frozen.FEATURES, "hop", 480)
    seen.add(identity("mel"))
    assert len(seen) == 7
    assert frozen.fingerprint({"a": 1, "b": 2}, {}) == frozen.fingerprint({"b": 2, "a": 1}, {})


def random_state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def test_untrained_encoders(folder):
    model = load_export(folder)
    before = random_state()
    encoders = make_encoders(f"random:{folder}")
    assert random_state() == before
    again = untrained(model, seed=0)
    assert len({encoder.identity for encoder in encoders}) == 3
    assert encoders[0].identity == again.identity
    wave, samples = waves(1, 9000), torch.tensor([9000])
    results = [e(wave, samples) for e in (*encoders, again, ExportEncoder(model, "trained"))]
    assert torch.equal(results[0], results[3])
    for one, two in ((0, 1), (0, 2), (1, 2), (0, 4)):
        assert (results[one] - results[two]).abs().max() > 0.01
    for encoder in encoders:
        assert encoder.name == "random" and encoder.layers == ("0", "1", "2")
        assert encoder.model.encoder.config == model.encoder.config
        state = encoder.model.features.state_dict()
        torch.testing.assert_close(state, model.features.state_dict(), rtol=0, atol=0)


def test_specs_of_exports(tmp_path, folder):
    two = export(tmp_path / "two", seed=1)
    training = {"system": "brn_sum_tiny", "seed": 1234}
    in_config(lambda config: config.update(training=training))(two)
    assert [encoder.name for encoder in make_encoders(two)] == ["brn_sum_tiny-1234"]
    encoders = make_encoders([str(folder), two])
    assert [encoder.name for encoder in encoders] == ["one", "brn_sum_tiny-1234"]
    assert [type(encoder) for encoder in make_encoders("mel")] == [MelEncoder]
    (shipped,) = make_encoders("shipped")
    assert (shipped.name, shipped.dim) == ("shipped", 160)


def test_untrained_as_the_shipped_encoder():
    shipped, *others = make_encoders("shipped"), *make_encoders("random:shipped")
    assert len({each.identity for each in [*shipped, *others]}) == 4
    assert {(each.layers, each.dim) for each in others} == {(shipped[0].layers, shipped[0].dim)}


def test_wrong_specs(tmp_path, folder, monkeypatch):
    for spec in ("mell", "random:", "hf:", "random", 3, None, [], {"a": 1}):
        message = refusal(spec)
        assert repr(spec) in message and "random:FOLDER" in message and "mel" in message
    (tmp_path / "empty").mkdir()
    deeper = export(tmp_path / "deeper", num_layers=3)
    for spec, words in (
        ("", "is no export"),
        ("nowhere/export", "it does not exist: check the path"),
        (f"{folder}x", f"did you mean {folder}"),
        (str(tmp_path / "empty"), "is no export"),
        (f"random:{tmp_path}/empty", "is no export"),
        (f"random:{tmp_path}/nowhere", "is no export"),
        (["mel"], "is no export"),
        ([folder, 3], "a list holds folders"),
        ([[folder]], "a list holds folders"),
        ([folder, deeper], "one has 3 layers of 16 and deeper 4"),
        ([folder, shutil.copytree(folder, tmp_path / "copy")], "holds one twice"),
        (f"hf:{tmp_path}/nowhere", "cannot be loaded"),
        ("hf:./nowhere", "cannot be loaded"),
        ("hf:nobody/nothing", "hf:nobody/nothing cannot be loaded"),
    ):
        assert words in refusal(spec)
    assert "pooling is 'max': choose mean or mean_std" in refusal("mel", pooling="max")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install -e '.[hf]'" in refusal("hf:facebook/hubert-base-ls960")
    assert make_encoders("mel")


SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 4),
    "conv_stride": (5, 4),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    # Code that a model brings is copied to here.
    modules = str(tmp_path / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", sys.path.copy())  # transformers adds the folder to it


def hf_model(folder, kind="Wav2Vec2", seed=0, do_normalize=True, sampling_rate=8000, **sizes):
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**SIZES | sizes)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        sampling_rate=sampling_rate, do_normalize=do_normalize
    ).save_pretrained(folder)
    return folder


def extracted(folder, wave):
    """Compute means and deviations of hidden states with transformers alone, item by item."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    pooled = []
    for signal in wave.numpy():
        inputs = extractor(signal, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        with torch.no_grad():
            hidden = model(inputs.input_values, output_hidden_states=True).hidden_states
        states = torch.cat(hidden)
        pooled.append(torch.cat([states.mean(1), states.std(1, correction=0)], dim=1))
    return torch.stack(pooled)


@pytest.mark.parametrize(
    "kind, norm, do_normalize",
    [
        ("Wav2Vec2", "group", True),
        ("Wav2Vec2", "layer", False),
        ("Hubert", "group", False),
        ("Hubert", "layer", True),
    ],
)
def test_hugging_face_features_equal_transformers(tmp_path, kind, norm, do_normalize):
    folder = hf_model(tmp_path / "small", kind, do_normalize=do_normalize, feat_extract_norm=norm)
    wave, samples = waves(2, 4000) + 0.5, torch.tensor([4000, 4000])
    (both,) = make_encoders(f"hf:{folder}", pooling="mean_std")
    expected = extracted(folder, wave)
    torch.testing.assert_close(both(wave, samples), expected, atol=1e-5, rtol=1e-5)
    (encoder,) = make_encoders(f"hf:{folder}")
    assert both.dim == 2 * encoder.dim and both.identity != encoder.identity
    result = encoder(wave, samples)
    torch.testing.assert_close(result, expected[..., :16], atol=1e-5, rtol=1e-5)
    assert (encoder.name, encoder.sample_rate, encoder.dim) == ("hf-small", 8000, 16)
    assert encoder.layers == ("0", "1", "2") and not encoder.padding_safe
    assert not encoder.training and not result.requires_grad
    shifted = encoder(wave + 0.5, samples)
    if norm == "layer":  # group normalisation takes a shift away by itself
        assert torch.allclose(shifted, result, atol=1e-4) == do_normalize


def test_hugging_face_lengths(tmp_path):
    encoder = PeerEncoder("hf", hf_model(tmp_path / "small"))
    wave = waves(2, 4000)
    with pytest.raises(ValueError, match="lengths 3999 to 4000 in one batch of hf-small"):
        encoder(wave, torch.tensor([4000, 3999]))
    beyond = encoder(wave, torch.tensor([3000, 3000]))  # of both, the rest is not read
    assert torch.equal(beyond, encoder(wave[:, :3000], torch.tensor([3000, 3000])))
    assert encoder.shortest == (4 - 1) * 5 + 10
    for samples in (1, 24, 25):  # one frame
        assert encoder(wave[:, :samples], torch.tensor([samples] * 2)).isfinite().all()


def test_hugging_face_identity(tmp_path):
    folder = hf_model(tmp_path / "small")
    identity = PeerEncoder("hf", folder).identity
    copy = shutil.copytree(folder, tmp_path / "copy")
    # Made at random each time, and used in training only.
    in_weights(lambda weights: weights.pop("masked_spec_embed"))(copy)
    assert PeerEncoder("hf", copy).identity == identity == PeerEncoder("hf", copy).identity

    def rename(weights):
        for new, old in {"original0": "weight_g", "original1": "weight_v"}.items():  # as in MERT
            key = f"encoder.pos_conv_embed.conv.parametrizations.weight.{new}"
            weights[f"encoder.pos_conv_embed.conv.{old}"] = weights.pop(key)

    in_weights(rename)(copy)
    assert PeerEncoder("hf", copy).identity == identity
    seen, changes = {identity}, {"layer_norm_eps": 1e-3, "sampling_rate": 16000}
    for key, value in (changes | {"seed": 1, "do_normalize": False}).items():
        seen.add(PeerEncoder("hf", hf_model(tmp_path / key, **{key: value})).identity)
    assert len(seen) == 5


def as_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def change_json(name, **values):
    def change(folder):
        config = json.loads((folder / name).read_text()) | values
        config = {key: value for key, value in config.items() if value is not None}
        (folder / name).write_text(json.dumps(config))

    return change


NORM = "encoder.layers.1.final_layer_norm.bias"


def bring_code(folder):
    names = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    change_json("config.json", model_type="own", auto_map=names)(folder)
    code = f"""
from pathlib import Path
from transformers import HubertConfig, HubertModel
Path({str(folder / "owned")!r}).touch()
class OwnConfig(HubertConfig):
    model_type = "own"
class OwnModel(HubertModel):
    config_class = OwnConfig
"""
    (folder / "own.py").write_text(code)


def forget_states(number):
    """Bring code that gives `number` hidden states, as code from before transformers 5 gives 0."""

    def change(folder):
        bring_code(folder)
        with open(folder / "own.py", "a") as file:
            file.write(f"""
    def forward(self, *args, **options):
        output = super().forward(*args, **options)
        output.hidden_states = output.hidden_states[:{number}] or None
        return output
""")

    return change


EXTRACTOR = "preprocessor_config.json"
MODEL_FAULTS = {
    "no rate": (change_json(EXTRACTOR, sampling_rate=None), "says no sampling_rate"),
    "spectrogram": (
        change_json(EXTRACTOR, feature_extractor_type="ASTFeatureExtractor"),
        "takes no raw wave",
    ),
    "no convolutions": (
        change_json("config.json", model_type="bert", conv_kernel=None),
        "takes no raw wave",
    ),
    "missing config": (lambda f: (f / "config.json").unlink(), "cannot be loaded"),
    "damaged config": (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no safetensors weights"),
    "pickle": (as_pickle, "allow them with --trust_remote_code True"),
    "damaged weights": (lambda f: (f / "model.safetensors").write_bytes(b"x"), "cannot be loaded"),
    "a weight is lost": (in_weights(lambda w: w.pop(NORM)), f"1 of its weights ({NORM})"),
    "own code": (bring_code, "allow it with --trust_remote_code True"),
}


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    return hf_model(tmp_path_factory.mktemp("hubert") / "small", "Hubert")


@pytest.mark.parametrize("name", MODEL_FAULTS)
def test_damaged_hugging_face_model_is_one_sentence(hubert, tmp_path, name):
    spoil, words = MODEL_FAULTS[name]
    folder = shutil.copytree(hubert, tmp_path / "small")
    spoil(folder)
    message = refusal(f"hf:{folder}")
    assert str(folder) in message and words in message
    assert not (folder / "owned").exists()


def test_half_precision_weights_are_computed_in_float32(hubert, tmp_path):
    folder = shutil.copytree(hubert, tmp_path / "small")
    change_json("config.json", dtype="float16")(folder)
    in_weights(lambda w: w.update({name: value.half() for name, value in w.items()}))(folder)
    weights = PeerEncoder("hf", folder).model.parameters()
    assert {value.dtype for value in weights} == {torch.float32}


@pytest.mark.parametrize("spoil", [as_pickle, bring_code])
def test_trust_remote_code(hubert, tmp_path, spoil):
    folder = shutil.copytree(hubert, tmp_path / "small")
    wave, samples = waves(1, 4000), torch.tensor([4000])
    expected = PeerEncoder("hf", folder)(wave, samples)
    spoil(folder)
    (encoder,) = make_encoders(f"hf:{folder}", trust_remote_code=True)
    assert torch.equal(encoder(wave, samples), expected)
    assert (folder / "owned").exists() == (spoil is bring_code)


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_states_that_own_code_does_not_return(tmp_path, stable, number):
    folder = hf_model(tmp_path / "small", "Hubert", do_stable_layer_norm=stable)
    wave, samples = waves(2, 4000), torch.tensor([4000, 4000])
    expected = PeerEncoder("hf", folder)(wave, samples)
    forget_states(number)(folder)
    (encoder,) = make_encoders(f"hf:{folder}", trust_remote_code=True)
    torch.testing.assert_close(encoder(wave, samples), expected)


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert"])
def test_last_hidden_state_is_the_output(tmp_path, kind):
    folder = hf_model(tmp_path / "small", kind, do_normalize=False, do_stable_layer_norm=True)
    encoder, wave = PeerEncoder("hf", folder), waves(2, 4000)
    with torch.no_grad():  # a norm unlike the identity, which the last layer's state shows
        encoder.model.encoder.layer_norm.bias.fill_(3.0)
        expected = encoder.model(wave).last_hidden_state.mean(1)
    result = encoder(wave, torch.tensor([4000, 4000]))
    torch.testing.assert_close(result[:, -1], expected)
    assert (result[:, -2] - expected).abs().max() > 1
