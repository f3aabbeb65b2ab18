"""Encoders of other projects: equal to their packages, identities, hostile files, messages.

Models are small and have random weights. What needs the package `muq` or `omar_rq` is skipped
without it; MusicFM is a stub with the interface of its clone.
"""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from speechbrain_music.models.frozen import make_encoders
from speechbrain_music.utils.errors import UserError

LAYERS, WIDTH = 3, 16


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    yield
    forget_musicfm()


def forget_musicfm():
    for name in [name for name in sys.modules if name.split(".")[0] == "musicfm"]:
        del sys.modules[name]


def randomise(model, seed):
    """Replace all weights: MuQ seeds torch itself, so that two of its models are equal."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not name.endswith(("freqs", "window", "fb")):
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else 0.2 * noise)


def muq_folder(folder, seed=0, label_rate=25):
    muq = pytest.importorskip("muq")
    if int(transformers.__version__.split(".")[0]) > 4:
        pytest.skip("muq needs transformers below 5")
    conformer = transformers.Wav2Vec2ConformerConfig(
        num_attention_heads=2,
        intermediate_size=24,
        hidden_size=WIDTH,
        conv_depthwise_kernel_size=5,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        position_embeddings_type="rotary",
    )
    model = muq.MuQ(
        muq.MuQConfig(
            label_rate=label_rate,
            conv_dim=8,
            encoder_dim=WIDTH,
            encoder_depth=LAYERS,
            codebook_size=8,
            stat={"melspec_2048_mean": 6.5, "melspec_2048_std": 18.0},
            w2v2_config=json.loads(conformer.to_json_string()),
        )
    )
    randomise(model, seed)
    model.save_pretrained(folder)
    return f"muq:{folder}"


def muq_states(spec, wave):
    import muq

    return muq.MuQ.from_pretrained(spec.partition(":")[2]).eval()(wave).hidden_states


WAVEFORM = """
build_module.representation = [@nets.melspectrogram.MelSpectrogram, @nets.waveform.Waveform]
MaskingModel.input_representation = @nets.waveform.Waveform
nets.waveform.Waveform.sr = 24000
nets.waveform.Waveform.norm_mean = 0.1
nets.waveform.Waveform.norm_std = 0.5
nets.waveform.Waveform.patch_size = (1, 960)
"""
MEL = """
build_module.representation = @nets.melspectrogram.MelSpectrogram
"""
MEL += "".join(
    f"nets.melspectrogram.MelSpectrogram.{key} = {value!r}\n"
    for key, value in {
        "sr": 16000,
        "win_len": 512,
        "hop_len": 256,
        "power": 2,
        "n_mel": 96,
        "stretch_factor": 1,
        "freq_mask_param": 0,
        "time_mask_param": 0,
        "norm": "slaney",
        "mel_scale": "slaney",
        "norm_mean": 2.0,
        "norm_std": 1.3,
        "patch_size": (96, 4),
    }.items()
)
OMAR_RQ = f"""
build_module.module = @modules.maskingmodel.MaskingModel
build_module.net = @nets.conformer.Conformer
build_module.ckpt_path = "elsewhere/model.ckpt"
build_dev_datamodule.datamodule = @discotube
train.params = {{"max_steps": 400000}}
MaskingModel.num_codebooks = 1
MaskingModel.lr = 1e-4
MaskingModel.weight_decay = 1e-2
MaskingModel.codebook_size = 8
MaskingModel.codebook_dim = 4
MaskingModel.mask_seconds = 0.4
MaskingModel.mask_prob = 0.6
MaskingModel.seed = 0
MaskingModel.diff_input = False
Conformer.embed_dim = {WIDTH}
Conformer.depth = {LAYERS}
Conformer.conv_kernel_size = 5
Conformer.num_heads = 2
Conformer.mlp_ratio = 4.0
Conformer.mlp_residual_factor = 4.0
Conformer.dropout = 0.2
Conformer.input_dropout = 0.1
Conformer.use_deepnorm = True
Conformer.alpha_deepnorm = 2.6
Conformer.beta_deepnorm = 0.02
Conformer.use_rope = True
Conformer.num_patches = None
"""


def omar_rq_folder(folder, seed=0, front=WAVEFORM):
    omar_rq, gin = pytest.importorskip("omar_rq"), pytest.importorskip("gin")
    folder.mkdir()
    (folder / "config.gin").write_text(front + OMAR_RQ)
    gin.clear_config()
    model = omar_rq.get_model(config_file=folder / "config.gin", load_weights=False)
    randomise(model, seed)
    torch.save(model.state_dict(), folder / "model.ckpt")
    return f"omar_rq:{folder}"


def omar_rq_mel_folder(folder, seed=0):
    return omar_rq_folder(folder, seed, MEL)


def omar_rq_states(spec, wave):
    import gin
    import omar_rq

    gin.clear_config()
    model = omar_rq.get_model(config_file=Path(spec.partition(":")[2]) / "config.gin")
    return model.extract_embeddings(wave, layers=set(range(LAYERS)))


STUB = f"""
import json
import random
from pathlib import Path
import torch
from torch import nn
from musicfm.modules.features import MelSTFT

(Path(__file__).parent / "ran").touch()


class Conformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU({WIDTH}, {WIDTH}, batch_first=True) for _ in range(3))
        self.layer_norm = nn.LayerNorm({WIDTH})

    def forward(self, x):
        states = [x]
        for layer in self.layers:
            x = x + layer(x)[0]
            states.append(x)
        return [*states[:-1], self.layer_norm(x)]


class MusicFM25Hz(nn.Module):
    def __init__(self, is_flash=False, stat_path="stats.json", model_path="pretrained.pt"):
        super().__init__()
        random.seed(142)
        torch.manual_seed(142)
        with open(stat_path, "r") as file:
            self.stat = json.load(file)
        self.preprocessor_melspec_2048 = MelSTFT()
        self.conv = nn.Conv1d(128, {WIDTH}, 3, stride=4, padding=1)
        self.conformer = Conformer()
        self.cls_token = nn.Parameter(torch.randn({WIDTH}))
        if model_path:
            weights = torch.load(model_path)["state_dict"]
            self.load_state_dict({{k[6:]: v for k, v in weights.items()}}, strict=True)

    def get_predictions(self, x):
        x = self.preprocessor_melspec_2048.float()(x.float())[..., :-1]
        x = (x - self.stat["melspec_2048_mean"]) / self.stat["melspec_2048_std"]
        states = self.conformer(self.conv(x).transpose(1, 2))
        return {{"melspec_2048": states[-1]}}, states
"""
FEATURES = """
import torchaudio
from torch import nn


class MelSTFT(nn.Module):
    def __init__(self):
        super().__init__()
        options = {"sample_rate": 24000, "n_fft": 2048, "hop_length": 240, "n_mels": 128}
        self.mel_stft = torchaudio.transforms.MelSpectrogram(**options)
        self.amplitude_to_db = torchaudio.transforms.AmplitudeToDB()

    def forward(self, wave):
        return self.amplitude_to_db(self.mel_stft(wave))
"""


def musicfm_folder(folder, seed=0, mean=6.5):
    for name, text in {"model/musicfm_25hz.py": STUB, "modules/features.py": FEATURES}.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    (folder / "data").mkdir()
    stat = {"melspec_2048_mean": mean, "melspec_2048_std": 18.0}
    (folder / "data" / "msd_stats.json").write_text(json.dumps(stat))
    forget_musicfm()
    sys.modules["musicfm"] = ModuleType("musicfm")
    sys.modules["musicfm"].__path__ = [str(folder)]
    model = musicfm_class()(stat_path=folder / "data" / "msd_stats.json", model_path=None)
    forget_musicfm()
    (folder / "model" / "ran").unlink()
    randomise(model, seed)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, folder / "data" / "pretrained_msd.pt")
    return f"musicfm:{folder}"


def musicfm_class():
    from musicfm.model.musicfm_25hz import MusicFM25Hz

    return MusicFM25Hz


def musicfm_states(spec, wave):
    data = Path(spec.partition(":")[2]) / "data"
    files = {"stat_path": data / "msd_stats.json", "model_path": data / "pretrained_msd.pt"}
    with torch.random.fork_rng(devices=[]):
        return musicfm_class()(**files).eval().get_predictions(wave)[1]


# A model's folder, what its package gives, sample rate and frame rate, and name of the encoder.
PEERS = {
    "muq": (muq_folder, muq_states, 24000, 25, "muq-one"),
    "omar_rq": (omar_rq_folder, omar_rq_states, 24000, 25, "omar_rq-one"),
    "omar_rq, mel": (omar_rq_mel_folder, omar_rq_states, 16000, 15.625, "omar_rq-one"),
    "musicfm": (musicfm_folder, musicfm_states, 24000, 25, "musicfm-msd"),
}


def make(spec, **options):
    (encoder,) = make_encoders(spec, trust_remote_code=spec.startswith("musicfm"), **options)
    return encoder


def waves(count, samples):
    return 0.3 * torch.randn(count, samples, generator=torch.Generator().manual_seed(3))


def refusal(spec, **options):
    """Return the one sentence with which a spec is refused."""
    with pytest.raises(UserError) as caught:
        make_encoders(spec, **options)
    message = str(caught.value)
    assert "\n" not in message and message
    return message


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_states_equal_the_package(tmp_path, name):
    folder, states, rate, frame_rate, label = PEERS[name]
    spec, generator = folder(tmp_path / "one"), torch.get_rng_state()
    encoder = make(spec)
    assert torch.equal(torch.get_rng_state(), generator)
    assert (encoder.name, encoder.sample_rate, encoder.frame_rate) == (label, rate, frame_rate)
    assert not encoder.padding_safe and not encoder.training
    for samples in (encoder.shortest, encoder.shortest + 1, 1919, 5000, rate, 3 * rate + 77):
        wave, lengths = waves(2, samples), torch.tensor([samples, samples])
        expected = torch.stack(list(states(spec, wave)), 2)
        frames, counts = encoder.frames(wave, lengths)
        assert frames.shape[2:] == (len(encoder.layers), WIDTH)
        assert counts.tolist() == [expected.shape[1]] * 2
        assert abs(counts[0] - samples / rate * frame_rate) <= 1
        torch.testing.assert_close(frames, expected, atol=1e-5, rtol=1e-5)
        pooled = encoder(wave, lengths)
        torch.testing.assert_close(pooled, expected.mean(1), atol=1e-5, rtol=1e-5)
    short = torch.nn.functional.pad(waves(2, 7), (0, encoder.shortest - 7))
    expected = torch.stack(list(states(spec, short)), 2)
    frames, counts = encoder.frames(waves(2, 7), torch.tensor([7, 7]))
    assert counts.tolist() == [1, 1]
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.frames(waves(2, 7), torch.tensor([7, 7]))[0], frames)


@pytest.mark.parametrize("name", PEERS)
def test_frames_stand_at_their_times(tmp_path, name):
    encoder = make(PEERS[name][0](tmp_path / "one"))
    quiet = 0.01 * waves(1, 4 * encoder.sample_rate)
    for second in (0.5, 1.7, 3.3):
        click, start = quiet.clone(), round(second * encoder.sample_rate)
        click[:, start : start + 64] += 1
        lengths = torch.tensor([click.shape[1]])
        before, after = (encoder.frames(wave, lengths)[0][0, :, 0] for wave in (quiet, click))
        found = (after - before).abs().sum(1).argmax().item()
        assert abs(found / encoder.frame_rate - second) <= 2 / encoder.frame_rate


@pytest.mark.parametrize("name", PEERS)
def test_identity_is_of_configuration_and_weights(tmp_path, name):
    folder = PEERS[name][0]
    spec = folder(tmp_path / "one")
    kind = spec.partition(":")[0]
    copy = shutil.copytree(tmp_path / "one", tmp_path / "copy")
    identity = make(spec).identity
    assert make(f"{kind}:{copy}").identity == identity
    others = {make(folder(tmp_path / "seed", seed=1)).identity}
    others.add(make(spec, pooling="mean_std").identity)
    if kind == "musicfm":
        others.add(make(folder(tmp_path / "mean", mean=7.0)).identity)
    assert len(others | {identity}) == 3 + (kind == "musicfm")


@pytest.mark.parametrize("label_rate", [25, 50])
def test_muq_frame_rate_and_unused_weights(tmp_path, label_rate):
    folder = tmp_path / "one"
    encoder = make(muq_folder(folder, label_rate=label_rate))
    _, counts = encoder.frames(waves(1, 24000), torch.tensor([24000]))
    assert encoder.frame_rate == counts.item() == label_rate
    weights = load_file(folder / "model.safetensors")
    weights = {name: value.half() for name, value in weights.items()}
    del weights["model.cls_token"], weights["model.linear.bias"]
    save_file(weights, folder / "model.safetensors")
    half = make(f"muq:{folder}")
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}
    assert half.identity == make(f"muq:{folder}").identity != encoder.identity
    del weights["model.conformer.layers.1.ffn1.output_dense.bias"]
    save_file(weights, folder / "model.safetensors")
    assert "(model.conformer.layers.1.ffn1.output_dense.bias)" in refusal(f"muq:{folder}")


def test_omar_rq_models_do_not_mix(tmp_path):
    first = make(omar_rq_folder(tmp_path / "one"))
    mel = make(omar_rq_mel_folder(tmp_path / "mel"))
    again = make(f"omar_rq:{tmp_path / 'one'}")
    assert first.identity == again.identity != mel.identity
    assert (first.sample_rate, mel.sample_rate) == (24000, 16000)


class Touch:
    """Code in a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("statement", ["from __gin__ import dynamic_registration", "include 'x'"])
def test_omar_rq_imports_need_trust(tmp_path, statement):
    spec = omar_rq_folder(tmp_path / "one")
    config = tmp_path / "one" / "config.gin"
    call = f"import os\nbuild_module.net = @os.mkdir\nos.mkdir.path = '{tmp_path}/called'\n"
    config.write_text(f"{statement}\n{config.read_text()}{call}")
    assert "imports code in its config.gin" in refusal(spec)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "name, file", [("omar_rq", "model.ckpt"), ("musicfm", "pretrained_msd.pt")]
)
def test_pickles_run_no_code(tmp_path, name, file):
    spec = PEERS[name][0](tmp_path / "one")
    (file,) = (tmp_path / "one").rglob(file)
    torch.save({"state_dict": Touch(tmp_path / "called")}, file)
    for options in ({"trust_remote_code": True}, {"trust_remote_code": name == "musicfm"}):
        assert "take weights without pickled objects, which may run code" in refusal(
            spec, **options
        )
    assert not (tmp_path / "called").exists()


def test_musicfm_runs_its_clone_only_with_trust(tmp_path):
    spec = musicfm_folder(tmp_path / "one")
    assert "allow it with --trust_remote_code True" in refusal(spec)
    assert not (tmp_path / "one" / "model" / "ran").exists()
    encoder, other = make(spec), make(musicfm_folder(tmp_path / "two", seed=1))
    assert (tmp_path / "one" / "model" / "ran").exists()
    assert type(encoder.model) is not type(other.model)  # each by the code of its own clone
    data = tmp_path / "one" / "data"
    shutil.copy(data / "pretrained_msd.pt", data / "pretrained_fma.pt")
    assert "no clone of MusicFM with one data/pretrained_NAME.pt" in refusal(spec)
    assert "is no clone of MusicFM" in refusal(f"musicfm:{tmp_path}")


def test_muq_needs_transformers_4(tmp_path):
    muq = pytest.importorskip("muq")
    if int(transformers.__version__.split(".")[0]) < 5:
        pytest.skip("for transformers 5")
    conformer = json.loads(transformers.Wav2Vec2ConformerConfig().to_json_string())
    config = {"encoder_dim": WIDTH, "encoder_depth": 1, "conv_dim": 8, "codebook_size": 8}
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 24}
    stat = {"melspec_2048_mean": 6.5, "melspec_2048_std": 18.0}
    conformer |= sizes
    muq.MuQ(muq.MuQConfig(**config, w2v2_config=conformer, stat=stat)).save_pretrained(tmp_path)
    assert "install the versions that it needs, pip install -e '.[muq]'" in refusal(
        f"muq:{tmp_path}"
    )


def test_licence_is_logged(tmp_path, caplog):
    make(musicfm_folder(tmp_path / "one"))
    assert "musicfm-msd: the licence of the weights is its clone's" in caplog.text


def test_missing_packages(monkeypatch):
    for kind in ("muq", "omar_rq"):
        monkeypatch.setitem(sys.modules, kind, None)
        message = refusal(f"{kind}:me/model")
        assert f"{kind}:me/model cannot be loaded (ModuleNotFoundError: " in message
        assert message.endswith(f"install the versions that it needs, pip install -e '.[{kind}]'")


@pytest.mark.parametrize("kind, file", [("muq", "config.json"), ("omar_rq", "config.gin")])
def test_models_that_cannot_be_fetched(tmp_path, monkeypatch, kind, file):
    monkeypatch.setitem(sys.modules, kind, ModuleType(kind))
    monkeypatch.setitem(sys.modules, "gin", ModuleType("gin"))
    assert f"has no {file}: pass a folder with {file} and" in refusal(f"{kind}:{tmp_path}")
    assert "is no folder" in refusal(f"{kind}:./nowhere")
    message = refusal(f"{kind}:nobody/nothing")
    assert f"{kind}:nobody/nothing cannot be loaded" in message and "the network" in message


def snapshot(monkeypatch, folder):
    """Let a folder be what the hub gives, at a commit of 40 digits."""
    commit = folder.with_name("0123456789" * 4)
    folder.rename(commit)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(commit))


@pytest.mark.parametrize("name", ["muq", "omar_rq"])
def test_commit_of_the_hub_is_in_the_name(tmp_path, monkeypatch, name):
    spec = PEERS[name][0](tmp_path / "one")
    identity = make(spec).identity
    snapshot(monkeypatch, tmp_path / "one")
    encoder = make(f"{name}:them/large-model")
    assert encoder.name == f"{name}-large-model-0123456" and encoder.identity == identity


def test_mert_is_a_model_of_hugging_face(tmp_path, monkeypatch, caplog):
    commit = tmp_path / "models--m-a-p--MERT-v1-95M" / "snapshots" / ("0123456789" * 4)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24, "conv_dim": (8, 8), "conv_kernel": (10, 4)}
    sizes |= {"conv_stride": (5, 4), "num_conv_pos_embeddings": 8}
    config = transformers.HubertConfig(**sizes, num_conv_pos_embedding_groups=2)
    transformers.HubertModel(config).save_pretrained(commit)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=24000).save_pretrained(commit)
    (commit.parents[1] / "refs").mkdir()
    (commit.parents[1] / "refs" / "main").write_text(commit.name)
    for place in (huggingface_hub.constants, transformers.utils.hub):
        for name in ("HF_HUB_CACHE", "TRANSFORMERS_CACHE"):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, str(tmp_path))
    (encoder,) = make_encoders("mert:95M")
    (same,) = make_encoders(f"hf:{commit}")
    assert encoder.name == "mert-95M-0123456" and encoder.identity == same.identity
    assert "mert-95M-0123456: the licence of the weights is CC BY-NC 4.0" in caplog.text
    assert "mert:330M cannot be loaded" in refusal("mert:330M")
    for spec in ("mert:7B", "mert:", "muq:", "omar_rq:", "musicfm:"):
        assert "mert:95M" in refusal(spec)
