"""A run that was killed ends with the weights of one that was not, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from speechbrain_music.utils.checkpoints import AtomicCheckpointer, CheckpointError

KILLS = ["replace:1", "backward:8", "save:3", "replace:9", "backward:6", "fsync:20"]


def start(kill, folder, output):
    """The recipe in a process of its own: dropout, two workers, three micro-batches a step."""
    arguments = tiny.arguments(
        folder,
        output,
        dropout=0.1,
        num_workers=2,
        ckpt_interval_minutes=0,
        ckpt_interval_steps=3,
    )
    script = Path(__file__).with_name("killed_run.py")
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT)}
    return subprocess.Popen(
        [sys.executable, str(script), kill, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killed_and_resumed_bit_for_bit(tone_folder, tmp_path):
    whole = start("never", tone_folder, tmp_path / "whole")
    for kill in KILLS:
        process = start(kill, tone_folder, tmp_path / "killed")
        output, _ = process.communicate(timeout=300)
        assert process.returncode == -9, f"{kill} was not reached: {output}"
    output, _ = (last := start("never", tone_folder, tmp_path / "killed")).communicate(timeout=300)
    assert last.returncode == 0, output
    assert "Resuming after step" in output
    output, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, output

    expected, found = (tiny.last_checkpoint(tmp_path / name) for name in ("whole", "killed"))
    assert expected.keys() == found.keys()
    assert len(expected["model.ckpt"]) > 20
    for name, value in expected["model.ckpt"].items():
        assert torch.equal(value, found["model.ckpt"][name]), name
    for name, value in tiny.exported(tmp_path / "whole").items():
        assert torch.equal(value, tiny.exported(tmp_path / "killed")[name]), name
    steps = [row["step"] for row in tiny.rows(tmp_path / "killed", "train")]
    assert steps == [1, 2, 3, 4, 5, 6]
    litter = [p for p in (tmp_path / "killed").rglob(".*") if p.name != ".saving"]
    assert not litter


def value_of(model):
    return model.weight.item()


@pytest.fixture
def saved(tmp_path):
    """A model and a checkpointer with two checkpoints: the weight 1, then the weight 2."""
    model = torch.nn.Linear(1, 1)
    checkpointer = AtomicCheckpointer(tmp_path / "save", {"model": model})
    checkpoints = []
    for value in (1.0, 2.0):
        torch.nn.init.constant_(model.weight, value)
        checkpoints.append(checkpointer.save_checkpoint(meta={"loss": torch.tensor(value)}))
    torch.nn.init.zeros_(model.weight)
    return model, checkpointer, checkpoints


@pytest.mark.parametrize("damage", ["weights", "metadata", "gone", "garbled metadata"])
def test_falls_back_to_the_checkpoint_before(saved, damage):
    model, checkpointer, (_, newest) = saved
    if damage == "weights":
        file = newest.paramfiles["model"]
        file.write_bytes(file.read_bytes()[:-200])
    elif damage == "metadata":
        (newest.path / "CKPT.yaml").write_text("{[")
    elif damage == "garbled metadata":
        (newest.path / "CKPT.yaml").write_text("42")
    else:
        newest.paramfiles["model"].unlink()
    checkpointer.recover_if_possible()
    assert value_of(model) == 1


def test_says_so_when_nothing_can_be_read(saved):
    _, checkpointer, checkpoints = saved
    for checkpoint in checkpoints:
        checkpoint.paramfiles["model"].write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        checkpointer.recover_if_possible()


def test_best_and_newest(saved):
    model, checkpointer, (best, _) = saved
    assert checkpointer.recover_if_possible(min_key="loss").path == best.path
    assert value_of(model) == 1
    assert isinstance(yaml.safe_load((best.path / "CKPT.yaml").read_text())["loss"], float)


def test_a_failed_save_keeps_those_before(saved, monkeypatch):
    model, checkpointer, checkpoints = saved

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        checkpointer.save_checkpoint()
    monkeypatch.undo()
    assert {c.path for c in checkpointer.list_checkpoints()} == {c.path for c in checkpoints}
    assert not (checkpointer.checkpoints_dir / ".saving").exists()
    checkpointer.recover_if_possible()
    assert value_of(model) == 2
