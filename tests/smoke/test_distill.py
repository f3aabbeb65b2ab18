"""The distillation recipe on the command line: a new student, one of an export, a transplant."""

import json

import pytest
import tiny
import torch

from recipes.distill.train import OBJECT_OPTIONS, OPTIONS, main
from recipes.pretrain.train import main as pretrain
from speechbrain_music.inference.cli.export import export_best
from speechbrain_music.models.compression import compress
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.reporting.model_card import model_card
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import UserError

SAME = {"d_model": 16, "nhead": 2, "ffn_units": 16, "kernel_size": 5, "frontend_channels": 32}
SAME |= {"frontend_bypass": False, "frontend_norm": False}
ROPE = "speechbrain_music.nnet.attention.RotaryAttention"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny.untrained_export(tmp_path_factory.mktemp("teacher"))


def test_student_learns_each_layer(teacher, tone_folder, tmp_path):
    options = {"segments_per_epoch": 60, "lr": 0.01, "log_interval": 10, "number_of_epochs": 4}
    main(tiny.distill_arguments("distill_tiny", teacher, tone_folder, tmp_path, **SAME, **options))
    train, valid = tiny.rows(tmp_path, "train"), tiny.rows(tmp_path, "valid")
    assert train[-1]["loss"] < train[0]["loss"] and valid[-1]["loss"] < valid[0]["loss"]
    assert train[-1]["l1"] < train[0]["l1"] and train[-1]["cosine"] > train[0]["cosine"]
    assert min(valid[-1]["r2_layer_1"], valid[-1]["r2_layer_2"]) > 0.5
    assert (tmp_path / "curves.png").exists()
    described = json.loads((tmp_path / "export/config.json").read_text())["training"]
    identity = ExportEncoder(load_export(teacher), "").identity
    assert described["distillation"] == f"layers 1, 2 of the encoder with fingerprint {identity}"
    card = model_card(tmp_path / "export", "me/mine")
    assert f"fingerprint {identity} |" in card and "distilled from another encoder" in card
    assert export_best(tmp_path, tmp_path / "again") == described["step"]
    assert not [name for name in tiny.exported(tmp_path) if "maps" in name]


@pytest.mark.parametrize("name", ["distill_tiny", "transplant"])
def test_resumed_run_equals_one_run(name, tone_folder, tmp_path):
    teacher = tiny.untrained_export(tmp_path / "teacher", block="conformer", mixer="attention")
    for run, *stops in (("whole", 6), ("parts", 1, 4, 6, 6)):
        for stop in stops:
            options = {"warmup_steps": 100, "max_steps": stop}
            main(tiny.distill_arguments(name, teacher, tone_folder, tmp_path / run, **options))
    log = (tmp_path / "parts" / "log.txt").read_text()
    assert "All 6 steps are done: nothing to train" in log
    for state in tiny.STATES:
        states = [tiny.last_checkpoint(tmp_path / run)[state] for run in ("whole", "parts")]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    files = [tmp_path / run / "export/model.safetensors" for run in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(UserError, match="of a run with other options.*cosine_weight was"):
        options = {"cosine_weight": 7, "warmup_steps": 100}
        main(tiny.distill_arguments(name, teacher, tone_folder, tmp_path / "whole", **options))
    tiny.untrained_export(teacher, block="conformer", mixer="rope")  # over the one of this run
    with pytest.raises(UserError, match="of a run with other options.*teacher_encoder was"):
        options = {"warmup_steps": 100, "max_steps": 6}
        main(tiny.distill_arguments(name, teacher, tone_folder, tmp_path / "whole", **options))


def test_student_of_an_export(teacher, tone_folder, tmp_path):
    """A teacher without its last block, as sbmusic compress makes it, recovers."""
    model = load_export(teacher)
    save_export(tmp_path / "cut", compress(model, "layers:1"), model.features, compression="cut")
    options = {"own_sizes": False, "student": tmp_path / "cut", "teacher_layers": "[2]"}
    options |= {"segments_per_epoch": 60, "lr": 0.005}
    run = tmp_path / "run"
    main(tiny.distill_arguments("distill_tiny", teacher, tone_folder, run, **options))
    first, *_, last = tiny.rows(run, "valid")
    assert 0.5 < first["r2_layer_2"] < last["r2_layer_2"]
    student = load_export(run / "export")
    assert student.encoder.config == load_export(tmp_path / "cut").encoder.config
    assert torch.equal(student.features.normalize.mean, model.features.normalize.mean)
    assert torch.equal(student.features.normalize.std, model.features.normalize.std)
    assert "compression" not in student.config["training"]
    assert student.config["training"]["init_from"] == str(tmp_path / "cut")
    save_export(tmp_path / "int8", compress(model, "int8"), model.features)
    options |= {"teacher": tmp_path / "int8"}  # which need not be trained
    # A repeated layer counts once, and what the student has no value of may be set.
    options |= {"teacher_layers": "[2, 2]", "gradient_checkpointing": True}
    main(
        tiny.distill_arguments(
            data_folder=tone_folder,
            output_folder=tmp_path / "of_int8",
            name="distill_tiny",
            **options | {"max_steps": 1},
        )
    )
    for changes, words in (
        ({"num_layers": 1}, "the student has its own num_layers: leave out --num_layers"),
        ({"mixer": "any.Mixer"}, "any.Mixer"),
        ({"mixer": ROPE}, "the student has its own mixer: leave out --mixer"),
        ({"student": tmp_path / "int8"}, "student .*int8 has int8 weights: pass the original"),
        ({"student": "missing"}, "missing is no export, it does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            main(
                tiny.distill_arguments(
                    name="distill_tiny",
                    data_folder=tone_folder,
                    output_folder=tmp_path / "other",
                    **options | changes,
                )
            )


@pytest.mark.parametrize(
    "sizes",
    [{"mixer": "attention"}, {"block": "conformer", "mixer": "rope", "frame_rate": 50}],
    ids=["brn", "cnf"],
)
def test_transplant_trains_mixers_only(sizes, tone_folder, tmp_path):
    sizes |= {"ffn_units": 32, "frontend_channels": 2}
    teacher, run = tiny.untrained_export(tmp_path / "teacher", **sizes), tmp_path / "run"
    options = {"segments_per_epoch": 60, "lr": 0.01}
    main(tiny.distill_arguments("transplant", teacher, tone_folder, run, **options))
    first, *_, last = tiny.rows(run, "valid")
    assert last["l1"] < 0.8 * first["l1"] and last["cosine"] > first["cosine"]
    before, after = load_export(teacher), load_export(run / "export")
    assert after.encoder.config["block"]["mixer"]["class"] == "SummaryMixing"
    weights = after.state_dict()
    for name, value in before.state_dict().items():
        if ".mixer." not in name:
            torch.testing.assert_close(weights[name], value, rtol=0, atol=0)
    parts = {"init_from": run / "export", "init_parts": "blocks,norm,statistics", "nhead": 2}
    system = "cnf_sum" if "block" in sizes else "brn_sum"
    rate = {"frame_rate": sizes.get("frame_rate", 25), "max_steps": 1}
    pretrain(tiny.arguments(tone_folder, tmp_path / "next", system, **parts, **rate))
    rows = json.loads((tmp_path / "next" / "init.json").read_text())
    assert {row["status"] for row in rows if row["part"] in ("blocks", "norm")} == {"loaded"}


@pytest.mark.parametrize("name", ["distill_tiny", "transplant"])
def test_yaml_keys_and_options_agree(name, tmp_path):
    teacher = tiny.untrained_export(tmp_path / "teacher", mixer="attention")
    argv = tiny.distill_arguments(name, teacher, "music", tmp_path / "run")
    hparams = load_experiment(argv, OPTIONS, OBJECT_OPTIONS)[1]
    assert set(OPTIONS) <= set(hparams) and hparams["system"] == name
    for part in ("features", "encoder"):
        assert hparams[part] is hparams["modules"][part]
    assert hparams["model"]["encoder"] is hparams["encoder"]


def test_invalid_values(teacher, tone_folder, tmp_path):
    for changes, words in (
        ({"teacher": "missing"}, "missing is no export, it does not exist"),
        ({"teacher_layers": "[1, 3]"}, r"teacher_layers is \[1, 3\]: .* has layers 0 to 2"),
        ({"teacher_layers": "[]"}, r"teacher_layers is \[\]: it must be a list"),
        ({"teacher_layers": 2}, "teacher_layers is 2: it must be a list"),
        ({"init_from": teacher}, "unknown option --init_from: did you mean --"),
        ({"cosine_weight": -1}, "cosine_weight is -1: it must be 0 or more"),
        ({"d_model": 0}, "d_model is 0"),
        ({"d_model": 15}, "15"),
        ({"frame_rate": 75}, "frame_rate is 75: it must be 25 or 50"),
    ):
        changes = {"teacher": teacher} | changes
        folders = {"data_folder": tone_folder, "output_folder": tmp_path / "run"}
        with pytest.raises(UserError, match=words):
            main(tiny.distill_arguments("distill_tiny", **folders | changes))
    with pytest.raises(UserError, match="teacher is not set: pass --teacher"):
        main([str(tiny.ROOT / "hparams/distill_tiny.yaml"), "--output_folder", str(tmp_path)])
    with pytest.raises(UserError, match="has no self-attention to replace: pass the export of"):
        main(tiny.distill_arguments("transplant", teacher, tone_folder, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
