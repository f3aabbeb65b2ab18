"""An encoder on disk comes back to the bit, or with one sentence that says why not."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.export import ExportError, WaveEncoder, load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.utils import atomic


def make_parts(block="branchformer", mixing="summary", seed=0):
    torch.manual_seed(seed)
    features = LogMel()
    features.normalize.set_statistics(torch.randn(128) - 5, torch.rand(128) + 1)
    return Encoder(block, mixing, 2, 16, 2, 24, kernel_size=5, frontend_channels=2), features


@pytest.fixture
def folder(tmp_path):
    save_export(tmp_path / "export", *make_parts(), steps=10)
    return tmp_path / "export"


@pytest.mark.parametrize("block", ["branchformer", "conformer"])
@pytest.mark.parametrize("mixing", ["summary", "attention", "rope"])
@torch.no_grad()
def test_what_comes_back_is_the_same_to_the_bit(tmp_path, block, mixing):
    encoder, features = make_parts(block, mixing)
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


def change_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def truncate(name, share):
    def spoil(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return spoil


def as_pickle(folder):
    class Hostile:
        def __reduce__(self):
            return open, (str(folder / "owned"), "w")

    (folder / "model.safetensors").write_bytes(pickle.dumps({"encoder": Hostile()}))


def in_config(change):
    return lambda folder: change_config(folder, change)


def in_weights(change):
    return lambda folder: change_weights(folder, change)


NORM = "encoder.norm.norm.weight"
FAULTS = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "is no export: it needs"),
    "no config": (lambda f: (f / "config.json").unlink(), "is no export: it needs"),
    "cut config": (truncate("config.json", 0.5), "config.json is damaged"),
    "empty config": (truncate("config.json", 0), "config.json is damaged"),
    "config is a list": (lambda f: (f / "config.json").write_text("[1]"), "is damaged"),
    "config is binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "no encoder": (in_config(lambda c: c.pop("encoder")), "config.json is damaged"),
    "other format": (in_config(lambda c: c.update(format_version=2)), "format 2, this version"),
    "other features": (in_config(lambda c: c["features"].update(hop=480)), "'hop': 480"),
    "unknown block": (in_config(lambda c: c["encoder"].update(block="lstm")), "lstm"),
    "unknown key": (in_config(lambda c: c["encoder"].update(depth=9)), "describes no encoder"),
    "no heads": (in_config(lambda c: c["encoder"].update(nhead=0)), "describes no encoder"),
    "negative width": (in_config(lambda c: c["encoder"].update(d_model=-16)), "no encoder"),
    "other width": (in_config(lambda c: c["encoder"].update(d_model=32)), "do not fit"),
    "cut weights": (truncate("model.safetensors", 0.5), "model.safetensors cannot be read"),
    "empty weights": (truncate("model.safetensors", 0), "model.safetensors cannot be read"),
    "pickle": (as_pickle, "model.safetensors cannot be read"),
    "extra weight": (in_weights(lambda w: w.update(extra=torch.ones(1))), "extra"),
    "missing weight": (in_weights(lambda w: w.pop(NORM)), NORM),
    "missing statistics": (in_weights(lambda w: w.pop("features.normalize.std")), "std"),
    "other shape": (in_weights(lambda w: w.update({NORM: torch.ones(4)})), NORM),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_sentence_that_names_the_folder(folder, name):
    spoil, words = FAULTS[name]
    spoil(folder)
    with pytest.raises(ExportError) as caught:
        load_export(folder)
    message = str(caught.value)
    assert str(folder) in message and words in message and "\n" not in message
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
