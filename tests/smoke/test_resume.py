"""A killed and resumed run ends with the weights of an undisturbed one, bit for bit."""

import re
from multiprocessing import get_context

import faulty_run
import numpy as np
import pytest
import tiny
import torch
import yaml

from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.utils.checkpoints import AtomicCheckpointer, CheckpointError


def start(fault, folder, output, **changes):
    """The recipe in a process of its own: dropout, two workers, three micro-batches a step."""
    options = {"dropout": 0.1, "num_workers": 2}
    options |= {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 3} | changes
    arguments = tiny.arguments(folder, output, **options)
    processes = get_context("forkserver")  # imports once
    processes.set_forkserver_preload(["recipes.pretrain.train", "torch._dynamo"])
    process = processes.Process(
        target=faulty_run.start, args=(fault, arguments, output.with_suffix(".txt"))
    )
    process.start()
    return process


def end(process, output):
    """The exit code, and what the run has said."""
    process.join(300)
    return process.exitcode, output.with_suffix(".txt").read_text()


def step_of(output):
    """Optimiser steps of the newest checkpoint, which must be whole; 0 if there is none yet."""
    if not list(output.glob("save/CKPT*")):
        return 0
    newest = tiny.last_checkpoint(output)
    assert newest.keys() == {"CKPT.yaml", *tiny.STATES}
    return newest["CKPT.yaml"]["step"]


def kill_and_compare(faults, whole, folder, output, **changes):
    """Kills a run again and again, each time as it goes on; at last lets it end."""
    step = step_of(output)
    for fault in faults:
        code, said = end(start(f"kill {fault}", folder, output, **changes), output)
        assert code < 0, f"{fault} was not reached: {said}"
        before, step = step, step_of(output)
        assert step >= before, f"{fault} lost a checkpoint"
    code, said = end(start("none", folder, output, **changes), output)
    assert code == 0, said
    assert f"Resuming after step {step}\n" in said
    tiny.assert_same_end(whole, output)
    assert not [path for path in output.rglob(".*") if path.name != ".saving"]
    assert len(list(output.glob("save/*"))) == len(list(output.glob("save/CKPT*/optimizer.ckpt")))


@pytest.fixture(scope="module")
def whole(tone_folder, tmp_path_factory):
    """A run that was let alone."""
    output = tmp_path_factory.mktemp("whole") / "run"
    code, said = end(start("none", tone_folder, output), output)
    assert code == 0, said
    return output


def test_killed_run_ends_bit_identical(whole, tone_folder, tmp_path):
    faults = ["change 18", "backward 8", "change 29", "bytes 300000", "change 57", "backward 6"]
    kill_and_compare(faults, whole, tone_folder, tmp_path / "run")


@pytest.mark.slow
def test_run_killed_23_times(tone_folder, tmp_path):
    """At every third change of the disk, as each go counts them, and at three random moments."""
    # 30 steps: the kills end at about the 16th, and later where the machine is busy.
    whole, longer = tmp_path / "whole", {"number_of_epochs": 15}
    code, said = end(start("none", tone_folder, whole, **longer), whole)
    assert code == 0, said
    seconds = float(re.search(r"processor time: (\S+) s", said)[1])
    faults = [f"change {number}" for number in range(4, 64, 3)]
    shares = np.random.default_rng(0).uniform(0.05, 0.2, 3)
    for place, share in zip((3, 10, 17), shares, strict=True):
        faults.insert(place, f"cpu {share * seconds:.3f}")
    assert len(faults) == 23
    kill_and_compare(faults, whole, tone_folder, tmp_path / "run", **longer)


def test_full_disk_keeps_previous_checkpoint(whole, tone_folder, tmp_path):
    output = tmp_path / "run"
    end(start("kill backward 7", tone_folder, output), output)
    assert step_of(output) == 1
    code, said = end(start("fail bytes 300000", tone_folder, output), output)
    assert code == 2
    assert said.splitlines()[-1].startswith("error: no checkpoint could be written to ")
    assert "File too large" in said and "Traceback" not in said
    kill_and_compare([], whole, tone_folder, output)


def test_orphaned_worker_exits():
    with pytest.raises(SystemExit):
        make_loader([]).worker_init_fn(0)  # here, where the parent is another


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
def test_damaged_checkpoint_falls_back(saved, damage):
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


def test_no_readable_checkpoint(saved):
    _, checkpointer, checkpoints = saved
    for checkpoint in checkpoints:
        checkpoint.paramfiles["model"].write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        checkpointer.recover_if_possible()


def test_recover_best_checkpoint(saved):
    model, checkpointer, (best, _) = saved
    assert checkpointer.recover_if_possible(min_key="loss").path == best.path
    assert value_of(model) == 1
    assert isinstance(yaml.safe_load((best.path / "CKPT.yaml").read_text())["loss"], float)


def test_failed_save_keeps_previous_checkpoints(saved, monkeypatch):
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


def test_half_deleted_checkpoint_is_removed(saved, monkeypatch):
    model, checkpointer, (oldest, newest) = saved

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", killed)
        checkpointer.delete_checkpoints(num_to_keep=1)
    assert oldest.path.exists()  # a part of it
    assert [found.path for found in checkpointer.find_checkpoints()] == [newest.path]
    checkpointer.remove_remains()
    assert list(checkpointer.checkpoints_dir.iterdir()) == [newest.path]
