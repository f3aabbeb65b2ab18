"""An encoder on disk comes back to the bit, or with one sentence that says why not."""

from itertools import product

import pytest
import spoil
import torch
from spoil import change_config, in_config, in_weights, little_memory, with_header

from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import WaveEncoder, load_export, save_export
from speechbrain_music.models.safe_folder import ExportError
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.attention import MIXINGS
from speechbrain_music.utils import atomic


def make_parts(block="branchformer", mixer="summary", seed=0, normalization="band", **choice):
    torch.manual_seed(seed)
    features = LogMel(normalization)
    features.normalize.set_statistics(torch.randn(128) - 5, torch.rand(128) + 1)
    return make_encoder(block, mixing, 2, 16, 2, 24, 5, 2, **choice), features


@pytest.fixture
def folder(tmp_path):
    save_export(tmp_path / "export", *make_parts(), steps=10)
    return tmp_path / "export"


CHOICES = [{"block": b, "mixing": m} for b, m in product(("branchformer", "conformer"), MIXINGS)]
CHOICES += [{"merge": merge} for merge in ("average", "global", "local")]
CHOICES += [{"frame_rate": 50}]
CHOICES += [{"normalization": kind} for kind in ("scalar", "none", "instance")]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(map(str, choice.values())))
@torch.no_grad()
def test_what_comes_back_is_the_same_to_the_bit(tmp_path, choice):
    encoder, features = make_parts(**choice)
    facts = {"steps": 10, "corpora": ["a", "b"], "lr": 1e-4}
    torch.manual_seed(1)  # what is drawn while loading must not matter
    save_export(tmp_path / "export", encoder, features, **facts)
    model = load_export(tmp_path / "export")
    wave, samples = 0.1 * torch.randn(2, 30000), torch.tensor([30000, 12345])
    expected = WaveEncoder(features, encoder, {}).eval()(wave, samples)
    result = model(wave, samples)
    assert len(result[1]) == 3
    for ours, theirs in zip(result[1], expected[1], strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(result[2], expected[2])
    assert model.config["training"] == facts and model.config["encoder"] == encoder.config
    assert not model.training


def test_an_export_of_before_there_was_a_choice_of_normalization_loads(folder):
    change_config(folder, lambda config: config["features"].pop("normalization"))
    assert load_export(folder).features.normalize.kind == "band"


def in_encoder(**values):
    return in_config(lambda config: config["encoder"].update(values))


NORM = "encoder.norm.norm.weight"
PAST = "encoder.layers.2.norm_mhsa.norm.weight"


def named_layers(count):
    """As many layers as the configuration says, each an empty tensor."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}

    def spoil(folder):
        with_header({f"encoder.layers.{i}.norm.weight": empty for i in range(count)})(folder)
        change_config(folder, lambda c: c["encoder"].update(num_layers=count))

    return spoil


FAULTS = spoil.FAULTS | {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "is no export: it needs"),
    "no config": (lambda f: (f / "config.json").unlink(), "is no export: it needs"),
    "no encoder": (in_config(lambda c: c.pop("encoder")), "config.json is damaged"),
    "unknown block": (in_encoder(block="lstm"), "lstm"),
    "unknown key": (in_encoder(depth=9), "describes no encoder"),
    "no heads": (in_encoder(nhead=0), "describes no encoder"),
    "negative width": (in_encoder(d_model=-16), "no encoder"),
    "other width": (in_encoder(d_model=32), "do not fit"),
    "names a class": (in_encoder(block="builtins.exec"), "builtins.exec"),
    "a class for a number": (in_encoder(d_model={"_target_": "os.system"}), "it must be int"),
    "code of its own": (in_config(lambda c: c.update(auto_map={"A": "a.A"})), "auto_map is unk"),
    "words for a number": (in_encoder(dropout="0.1"), "dropout is '0.1'"),
    "truth for a number": (in_encoder(nhead=True), "nhead is True"),
    "negative depth": (in_encoder(num_layers=-2), "num_layers is -2"),
    "no depth": (in_config(lambda c: c["encoder"].pop("num_layers")), "num_layers is missing"),
    "not a number": (in_encoder(dropout=float("nan")), "dropout is nan"),
    "absurd depth": (in_encoder(num_layers=10**6), "encoder.layers.2.mixing.f.0.weight is missing"),
    "absurd width": (in_encoder(d_model=10**9), "do not fit"),
    "absurd units": (in_encoder(ffn_units=10**14), "do not fit"),
    "beyond any machine": (in_encoder(frontend_channels=10**9), "describes no encoder"),
    "beyond any integer": (in_encoder(d_model=10**30), "describes no encoder"),
    "many layers": (named_layers(10**5), "norm.weight is"),
    "claims more than it holds": (
        with_header({NORM: {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}),
        "model.safetensors cannot be read",
    ),
    "extra weight": (in_weights(lambda w: w.update(extra=torch.ones(1))), "extra"),
    "missing weight": (in_weights(lambda w: w.pop(NORM)), NORM),
    "other shape": (in_weights(lambda w: w.update({NORM: torch.ones(4)})), NORM),
    "other type": (in_weights(lambda w: w.update({NORM: torch.ones(16).half()})), "F16 of shape"),
    "layer past the last": (in_weights(lambda w: w.update({PAST: torch.ones(16)})), PAST),
    "weight that is no number": (in_weights(lambda w: w[NORM].fill_(torch.nan)), "not finite"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_sentence_that_names_the_folder(folder, name):
    spoil, words = FAULTS[name]
    spoil(folder)
    with pytest.raises(ExportError) as caught, little_memory():
        load_export(folder)
    message = str(caught.value)
    assert str(folder) in message and words in message and "\n" not in message
    assert len(message) < len(str(folder)) + 600
    assert not (folder / "owned").exists()  # no code ran


def test_an_export_that_is_not_there(tmp_path):
    with pytest.raises(ExportError, match="nowhere is no export"):
        load_export(tmp_path / "nowhere")


@pytest.mark.parametrize("fault", ["disk full", "a fact that is no plain value"])
def test_an_interrupted_save_leaves_the_old_export_whole(folder, monkeypatch, fault):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def disk_full(staging):
        assert (staging / "model.safetensors").stat().st_size > 0  # the fault comes half-way
        raise OSError(28, "No space left on device")

    facts = {}
    if fault == "disk full":
        monkeypatch.setattr(atomic, "sync_folder", disk_full)
    else:
        facts["optimizer"] = object()
    with pytest.raises((OSError, TypeError)):
        save_export(folder, *make_parts(seed=1), **facts)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["export"]
    load_export(folder)
    monkeypatch.undo()
    save_export(folder, *make_parts(seed=1))
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]


def test_whoever_may_read_the_config_may_read_the_weights(folder):
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1
