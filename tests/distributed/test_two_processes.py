"""Two processes compute what one does; killed processes are resumed exactly."""

from functools import partial

import pytest
import tiny
import torch

from recipes.distill import train as distill
from recipes.pretrain import train as pretrain
from recipes.tokenizer import train as tokenizer
from speechbrain_music.utils.errors import UserError

FAULTY = tiny.ROOT / "tests/faulty_run.py"


TOKENIZER = {"dead_code_threshold": 0.3, "lr": 0.01, "keep_in_memory": False}


@pytest.mark.parametrize(
    "recipe, arguments, options, figures",
    [
        pytest.param(
            pretrain,
            tiny.arguments,
            {"dropout": 0.0, "warmup_steps": 1, "cqt_weight": 0.5},
            [(kind, f"{cqt}cross_entropy") for kind in ("train", "valid") for cqt in ("", "cqt_")],
            id="pretrain",
        ),
        pytest.param(
            tokenizer,
            partial(tiny.tokenizer_arguments, "rvq"),
            TOKENIZER,
            [("valid", "mel_mse")],
            id="tokenizer",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_equal_one(recipe, arguments, options, figures, tone_folder, tmp_path):
    recipe.main(arguments(tone_folder, tmp_path / "one", batch_size=2, **options))
    command = arguments(tone_folder, tmp_path / "two", batch_size=1, **options)
    done = tiny.torchrun(recipe.__file__, command)
    assert done.returncode == 0, done.stderr[-3000:]

    model = tiny.assert_near_models(tmp_path / "one", tmp_path / "two")
    if recipe is tokenizer:
        assert model["reinitialised"].min() >= 3
    for kind, key in figures:
        first, second = (
            [row[key] for row in tiny.rows(tmp_path / name, kind)] for name in ("one", "two")
        )
        assert torch.allclose(torch.tensor(first), torch.tensor(second), atol=1e-4), kind


def test_two_processes_initialise_as_one(tone_folder, tmp_path):
    sizes = {"ffn_units": 32, "frontend_channels": 2}
    options = {"init_from": tiny.untrained_export(tmp_path / "export", **sizes), "nhead": 2}
    options |= {"init_lr_scale": 0.5, "init_freeze_steps": 2, "dropout": 0.0}
    pretrain.main(tiny.arguments(tone_folder, tmp_path / "one", **options))
    command = tiny.arguments(tone_folder, tmp_path / "two", **options | {"batch_size": 1})
    done = tiny.torchrun(pretrain.__file__, command)
    assert done.returncode == 0, done.stderr[-3000:]
    tiny.assert_near_models(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distill_tiny", "transplant"])
def test_two_processes_distill_as_one(name, tone_folder, tmp_path):
    teacher = tiny.untrained_export(tmp_path / "teacher", mixer="attention", dropout=0.0)
    arguments = partial(tiny.distill_arguments, name, teacher, tone_folder)
    distill.main(arguments(tmp_path / "one", batch_size=2))
    done = tiny.torchrun(distill.__file__, arguments(tmp_path / "two", batch_size=1))
    assert done.returncode == 0, done.stderr[-3000:]
    # The gradient of L1 jumps where rounding changes the sign of an error.
    tiny.assert_near_models(tmp_path / "one", tmp_path / "two", tolerance=1e-4)


def test_invalid_torchrun(tone_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(UserError, match="Not enough GPUs .* --distributed_backend gloo"):
        pretrain.main(tiny.arguments(tone_folder, tmp_path))
    assert not list(tmp_path.iterdir())


def job(fault, folder, output, **options):
    """The recipe in three processes (of two, sums do not depend on their order), with dropout."""
    changes = {"batch_size": 1, "dropout": 0.1, "num_workers": 1}
    changes |= {"ckpt_interval_minutes": 0, "ckpt_interval_steps": 2}  # after every step
    arguments = [fault, *tiny.arguments(folder, output, **changes)]
    return tiny.torchrun(FAULTY, arguments, nproc_per_node=3, **options)


def dropout_masks(output, rank):
    """The masks of dropout: (step, micro-batch) -> their digests, of all attempts."""
    digests = {}
    for line in (output / f"dropout_{rank}.txt").read_text().splitlines():
        step, micro, digest = line.split()
        digests.setdefault((int(step), int(micro)), set()).add(digest)
    return digests


def failure(done):
    """Torchrun's summary of a job that failed."""
    assert done.returncode == 1, done.stdout
    return done.stderr.rpartition(" FAILED\n")[2]


def step_of(output):
    return tiny.last_checkpoint(output)["CKPT.yaml"]["step"]


@pytest.mark.slow
def test_killed_ranks(tone_folder, tmp_path):
    """Each failure ends the job with its reason; the resumed job ends as one without failures."""
    whole, output = tmp_path / "whole", tmp_path / "run"
    done = job("none", tone_folder, whole)
    assert done.returncode == 0, done.stderr[-3000:]

    done = job("kill backward 7 on 1", tone_folder, output)
    assert "Signal 9 (SIGKILL) received" in failure(done)
    assert step_of(output) == 2
    done = job("fail backward 6 on 2", tone_folder, output)
    assert "the device is gone" in failure(done)
    assert step_of(output) == 3
    # A checkpoint that only the first process can read: both end.
    done = job("fail load 1 on 1", tone_folder, output)
    assert "the device is gone" in failure(done)

    done = job("kill change 25 on 0", tone_folder, output, max_restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Resuming after step 3\n") == 2  # killed while it saved the fourth
    tiny.assert_same_end(whole, output)

    masks = [dropout_masks(whole, rank) for rank in range(3)]
    assert masks == [dropout_masks(output, rank) for rank in range(3)]
    for digests in zip(*(masks[rank].values() for rank in range(3)), strict=True):
        assert len(set().union(*digests)) == 3  # one a process, also where a step was done twice
    assert len(masks[0]) == 12
