"""A killed and resumed run ends with the weights of an undisturbed one, bit for bit."""

import functools
import math
import os
from multiprocessing import get_context
from unittest.mock import Mock

import faulty_run
import pytest
import tiny
import torch
import yaml

from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.errors import UserError


def run(fault, folder, output, **changes):
    """Run the recipe in a process of its own; return the exit code and what the runs have printed.

    With dropout, two workers, three micro-batches a step.
    """
    options = {"dropout": 0.1, "num_workers": 2}
    options |= {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 3} | changes
    arguments, log = tiny.arguments(folder, output, **options), output.with_suffix(".txt")
    processes = get_context("forkserver")  # imports once
    processes.set_forkserver_preload(["recipes.pretrain.train", "torch._dynamo"])
    process = processes.Process(target=faulty_run.start, args=(fault, arguments, log))
    process.start()
    process.join(300)
    return process.exitcode, log.read_text()


def step_of(output):
    """Optimiser steps of the newest checkpoint, which must be whole; 0 if there is none yet."""
    if not list(output.glob("save/CKPT*/CKPT.yaml")):
        return 0
    newest = tiny.last_checkpoint(output)
    assert newest.keys() == {"CKPT.yaml", *tiny.STATES}
    return newest["CKPT.yaml"]["step"]


def check_end(whole, folder, output, **changes):
    """Let a killed run end; it must equal the run that was not."""
    step = step_of(output)
    code, printed = run("none", folder, output, **changes)
    assert code == 0, printed
    assert f"Resuming after step {step}\n" in printed
    tiny.assert_same_end(whole, output)
    assert not list(output.rglob(".*"))
    assert len(list(output.glob("save/*"))) == len(list(output.glob("save/CKPT*/optimizer.ckpt")))


@pytest.fixture(scope="module")
def whole(tone_folder, tmp_path_factory):
    """A function: changed options -> the output of a run that was not killed."""

    @functools.cache
    def whole(**changes):
        output = tmp_path_factory.mktemp("whole") / "run"
        code, printed = run("none", tone_folder, output, **changes)
        assert code == 0, printed
        return output

    return whole


FAULTS = ["change 18", "backward 8", "bytes 300000"]
EVERY_FIFTH_CHANGE = [f"change {number}" for number in range(4, 64, 5)]


@pytest.mark.parametrize(
    "faults, changes",
    [
        pytest.param(FAULTS, {}, id="3"),
        pytest.param(EVERY_FIFTH_CHANGE, {"number_of_epochs": 15}, id="12", marks=pytest.mark.slow),
    ],
)
def test_killed_run_ends_bit_identical(faults, changes, whole, tone_folder, tmp_path):
    """Each time as it goes on."""
    output, step = tmp_path / "run", 0
    for fault in faults:
        code, printed = run(f"kill {fault}", tone_folder, output, **changes)
        assert code < 0, f"{fault} was not reached: {printed}"
        before, step = step, step_of(output)
        assert step >= before, f"{fault} lost a checkpoint"
    check_end(whole(**changes), tone_folder, output, **changes)


def test_full_disk_keeps_previous_checkpoint(whole, tone_folder, tmp_path):
    output = tmp_path / "run"
    run("kill backward 7", tone_folder, output)
    assert step_of(output) == 1
    code, printed = run("fail bytes 300000", tone_folder, output)
    assert code == 2
    assert printed.splitlines()[-1].startswith(
        "error: a file cannot be read or written (File too large)"
    )
    assert "Traceback" not in printed
    check_end(whole(), tone_folder, output)


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
        meta = {"loss": torch.tensor(value), "step": int(value)}
        checkpoints.append(checkpointer.save_checkpoint(meta=meta))
    torch.nn.init.zeros_(model.weight)
    return model, checkpointer, checkpoints


DAMAGE = {
    "weights": lambda found: cut_end(found.paramfiles["model"]),
    "one bit": lambda found: flip_bit(found.paramfiles["model"]),
    "one bit of metadata": lambda found: flip_bit(found.path / "CKPT.yaml"),
    "no weights": lambda found: found.paramfiles["model"].unlink(),
    "weights that block": lambda found: as_pipe(found.paramfiles["model"]),
    "metadata": lambda found: (found.path / "CKPT.yaml").write_text("{["),
    "metadata of another kind": lambda found: (found.path / "CKPT.yaml").write_text("42"),
    "text for numbers": lambda found: replace(found.path / "CKPT.yaml", "loss: 2.0", "loss: two"),
    "another step": lambda found: replace(found.path / "CKPT.yaml", "step: 2", "step: 9"),
    "metadata that block": lambda found: as_pipe(found.path / "CKPT.yaml"),
}


def flip_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def as_pipe(file):
    file.unlink()
    os.mkfifo(file)


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def cut_end(file):
    file.write_bytes(file.read_bytes()[:-200])


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_falls_back(saved, damage):
    model, checkpointer, (oldest, newest) = saved
    DAMAGE[damage](newest)
    checkpointer.recover_if_possible()
    assert value_of(model) == 1
    checkpointer.save_and_keep_only(meta={"loss": 3.0, "step": 2})
    assert newest.path.exists() and len(checkpointer.list_checkpoints()) == 1
    oldest = checkpointer.find_checkpoint()
    cut_end(oldest.paramfiles["model"])
    with pytest.raises(UserError, match="none of the . checkpoints"):
        checkpointer.recover_if_possible()


def test_recover_best_checkpoint(saved):
    model, checkpointer, (best, _) = saved
    assert checkpointer.recover_if_possible(min_key="loss").path == best.path
    assert value_of(model) == 1
    assert isinstance(yaml.safe_load((best.path / "CKPT.yaml").read_text())["loss"], float)


def test_newest_checkpoint_has_the_most_steps(saved, monkeypatch):
    """Whatever the clock says."""
    model, checkpointer, _ = saved
    monkeypatch.setattr("time.time", lambda: 1e9)
    torch.nn.init.constant_(model.weight, 3.0)
    checkpointer.save_and_keep_only(meta={"loss": math.inf, "step": 3}, num_to_keep=2)
    assert [found.meta["step"] for found in checkpointer.find_checkpoints()] == [3, 2]
    checkpointer.recover_if_possible()
    assert value_of(model) == 3
    assert checkpointer.recover_if_possible(min_key="loss").meta["step"] == 2
    checkpointer.delete_checkpoints(num_to_keep=1)
    with pytest.raises(UserError, match="no checkpoint in .* has a finite loss"):
        checkpointer.recover_if_possible(min_key="loss")


def test_failed_save_keeps_previous_checkpoints(saved, monkeypatch):
    model, checkpointer, checkpoints = saved
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left on device"):
            checkpointer.save_checkpoint()
    assert {c.path for c in checkpointer.list_checkpoints()} == {c.path for c in checkpoints}
    checkpointer.remove_remains()
    assert set(checkpointer.checkpoints_dir.iterdir()) == {c.path for c in checkpoints}
    checkpointer.recover_if_possible()
    assert value_of(model) == 2


@pytest.mark.parametrize("gone", ["CKPT.yaml", "model.ckpt"])
def test_half_deleted_checkpoint_is_removed(saved, gone):
    model, checkpointer, (oldest, newest) = saved
    (oldest.path / gone).unlink()
    checkpointer.recover_if_possible()
    assert value_of(model) == 2
    checkpointer.save_and_keep_only(meta={"step": 3}, num_to_keep=1)
    assert list(checkpointer.checkpoints_dir.iterdir()) == [checkpointer.find_checkpoint().path]


def test_half_written_checkpoint_is_none(saved, monkeypatch):
    model, checkpointer, (oldest, newest) = saved
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", Mock(side_effect=KeyboardInterrupt))
        checkpointer.save_checkpoint(meta={"step": 3})
    assert len(list(checkpointer.checkpoints_dir.iterdir())) == 3
    assert [found.path for found in checkpointer.find_checkpoints()] == [newest.path, oldest.path]
    checkpointer.remove_remains()
    assert set(checkpointer.checkpoints_dir.iterdir()) == {newest.path, oldest.path}
