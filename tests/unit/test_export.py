"""Exports: equal after loading, and one sentence for a damaged one."""

import os
from itertools import product

import pytest
import spoil
import torch
from spoil import in_config, in_weights, with_header

from speechbrain_music.models.encoder import MIXERS, make_encoder
from speechbrain_music.models.export import WaveEncoder, load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.utils.errors import UserError


def make_parts(block="branchformer", mixer="summary", seed=0, normalization="band", **choice):
    torch.manual_seed(seed)
    features = LogMel(normalization)
    features.normalize.set_statistics(torch.randn(128) - 5, torch.rand(128) + 1)
    return make_encoder(block, mixer, 2, 16, 2, 24, 5, 2, **choice), features


@pytest.fixture
def folder(tmp_path):
    save_export(tmp_path / "export", *make_parts(), steps=10)
    return tmp_path / "export"


CHOICES = [{"block": b, "mixer": m} for b, m in product(("branchformer", "conformer"), MIXERS)]
CHOICES += [{"normalization": "scalar"}, {"frame_rate": 50}]
CHOICES += [{"frontend_norm": True, "frontend_bypass": True}]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(map(str, choice.values())))
@torch.no_grad()
def test_saved_and_loaded_outputs_are_equal(tmp_path, choice):
    encoder, features = make_parts(**choice)
    metadata = {"steps": 10, "corpora": ["a", "b"], "lr": 1e-4}
    torch.manual_seed(1)  # what is drawn while loading must not matter
    save_export(tmp_path / "export", encoder, features, **metadata)
    model = load_export(tmp_path / "export")
    wave, samples = 0.1 * torch.randn(2, 30000), torch.tensor([30000, 12345])
    expected = WaveEncoder(features, encoder, {}).eval()(wave, samples)
    result = model(wave, samples)
    assert len(result[1]) == 3
    for ours, theirs in zip(result[1], expected[1], strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(result[2], expected[2])
    assert model.config["training"] == metadata and model.config["encoder"] == encoder.config
    assert not model.training


def in_part(*keys, **values):
    """Changes the encoder's configuration, or a nested part of it."""

    def change(config):
        part = config["encoder"]
        for key in keys:
            part = part[key]
        part.update(values)

    return in_config(change)


NORM = "encoder.norm.norm.weight"
PAST = "encoder.layers.2.norm_mhsa.norm.weight"


def named_layers(count):
    """As many layers as the configuration says, each an empty tensor."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}

    def spoil(folder):
        with_header({f"encoder.layers.{i}.norm.weight": empty for i in range(count)})(folder)
        in_part(num_layers=count)(folder)

    return spoil


FAULTS = spoil.faults("encoder", NORM) | {
    "unknown argument": (in_part("block", depth=9), "describes no encoder"),
    "no heads": (in_part("block", "mixer", nhead=0), "describes no encoder"),
    "negative width": (in_part(d_model=-16), "no encoder"),
    "other width": (in_part(d_model=32), "do not fit"),
    "names a class": (in_part("block", **{"class": "builtins.exec"}), "'builtins.exec' is not of"),
    "a mixer that runs code": (
        in_part("block", mixer={"class": "os.system", "command": "touch owned"}),
        "'os.system' is not of",
    ),
    "a class that is no text": (in_part("block", **{"class": ["exec"]}), "names no class"),
    "a class for a number": (
        in_part("block", kernel_size={"class": "SummaryMixing", "d_model": 16}),
        "kernel_size of BranchformerLayer",
    ),
    "a number for a part": (in_part("block", mixer=3), "mixer of BranchformerLayer is 3"),
    "words for a number": (in_part("block", dropout="0.1"), "dropout of BranchformerLayer"),
    "another merge": (in_part("block", merge="average"), "merge is 'average': set concat"),
    "truth for a number": (in_part("block", "mixer", nhead=True), "nhead of SummaryMixing is True"),
    "negative depth": (in_part(num_layers=-2), "num_layers is -2"),
    "no depth": (in_config(lambda c: c["encoder"].pop("num_layers")), "num_layers is None"),
    "not a number": (in_part("block", dropout=float("nan")), "dropout of BranchformerLayer is nan"),
    "absurd depth": (
        in_part(num_layers=10**6),
        "num_layers is 1000000: it must be a whole number from 0 to 256",
    ),
    "absurd width": (in_part("block", d_model=10**9), "do not fit"),
    "absurd units": (in_part("block", ffn_units=10**14), "do not fit"),
    "absurd list": (in_part("block", "mixer", hidden=[16] * 10**5), "hidden of SummaryMixing"),
    "beyond any machine": (in_part("frontend", channels=10**9), "describes no encoder"),
    "beyond any integer": (in_part("block", d_model=10**30), "describes no encoder"),
    "many layers": (named_layers(10**5), "num_layers is 100000: it must"),
    "claims more than it holds": (
        with_header({NORM: {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}),
        "model.safetensors cannot be read",
    ),
    "output not finite": (
        in_weights(lambda w: w[NORM].fill_(3e38)),
        "test tone (they are not finite)",
    ),
    "layer past the last": (in_weights(lambda w: w.update({PAST: torch.ones(16)})), PAST),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_export_is_one_sentence(folder, name):
    spoil_folder, words = FAULTS[name]
    spoil_folder(folder)
    spoil.refused(load_export, folder, words)


@pytest.mark.parametrize(
    "damage, is_refused",
    [
        (spoil.truncate("config.json", 0.5), False),
        (spoil.truncate("config.json", 0), False),
        (in_config(lambda c: c.pop("features")), False),
        (spoil.truncate("model.safetensors", 0.5), False),
        (spoil.in_text(b'{"model_type": "wav2vec2", "encoder": {}}'), True),
        (lambda f: (f / "config.json").unlink(), True),
        (lambda f: (f / "model.safetensors").unlink() or (f / "README.md").touch(), False),
    ],
)
def test_damaged_export_is_exported_over_but_no_other_folder(folder, damage, is_refused):
    damage(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if is_refused:
        with pytest.raises(UserError, match="holds files that are no encoder's"):
            save_export(folder, *make_parts())
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    else:
        save_export(folder, *make_parts())
        load_export(folder)
        assert {path.name for path in folder.iterdir()} >= before.keys()


def test_changed_configuration_is_refused_even_if_the_weights_fit(folder):
    in_config(lambda config: config["encoder"]["frontend"].update(norm=True))(folder)
    spoil.refused(load_export, folder, "is not the file that config.json was written with")


def test_mixed_files_of_two_exports_are_refused(folder, tmp_path):
    save_export(tmp_path / "other", *make_parts(seed=1))
    os.replace(tmp_path / "other/model.safetensors", folder / "model.safetensors")
    spoil.refused(load_export, folder, "not the file that config.json was written with")
    in_config(lambda c: c.pop("weights"))(folder)
    load_export(folder)  # as older exports, which have no hash


def test_failed_save_keeps_old_export(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError):
        save_export(folder, *make_parts(seed=1), optimizer=object())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["export"]
    save_export(folder, *make_parts(seed=1))
    assert (folder / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
