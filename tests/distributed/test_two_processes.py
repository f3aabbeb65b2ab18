"""Two processes compute what one does."""

import subprocess
import sys

import tiny
import torch

from recipes.pretrain.train import main


def test_same_weights_as_one_process(tone_folder, tmp_path):
    options = {"dropout": 0.0, "warmup_steps": 1}
    main(tiny.arguments(tone_folder, tmp_path / "one", batch_size=2, **options))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        str(tiny.ROOT / "recipes/pretrain/train.py"),
        *tiny.arguments(tone_folder, tmp_path / "two", batch_size=1, **options),
        *("--distributed_backend", "gloo", "--device", "cpu"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]

    one, two = (tiny.last_checkpoint(tmp_path / name)["model.ckpt"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        scale = max(1.0, value.abs().max().item())
        assert (value - two[name]).abs().max().item() <= 1e-5 * scale, name
    for kind, key in (("train", "cross_entropy"), ("valid", "loss")):
        first, second = (
            [row[key] for row in tiny.rows(tmp_path / name, kind)] for name in ("one", "two")
        )
        assert torch.allclose(torch.tensor(first), torch.tensor(second), atol=1e-4), kind
