"""Recipes and encoders at the size of a test."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from speechbrain_music.evaluation.tasks import find_task
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import save_export
from speechbrain_music.models.frontend import LogMel

ROOT = Path(__file__).parents[1]
SIZE = {
    "num_layers": 2,
    "d_model": 16,
    "ffn_units": 32,
    "kernel_size": 5,
    "frontend_channels": 2,
    "codebook_size": 32,
    "segment_seconds": 2,
    "batch_size": 2,
    "effective_batch": 6,
    "segments_per_epoch": 12,
    "number_of_epochs": 3,
    "warmup_steps": 2,
    "statistics_segments": 8,
    "valid_segments": 4,
    "log_interval": 1,
}
OF_THE_MODEL = "num_layers d_model ffn_units kernel_size frontend_channels codebook_size".split()
QUANTIZERS = {
    "rvq": {"codebook_dim": 4, "codebook_size": 8, "num_codebooks": 2},
}
STATES = ("model.ckpt", "features.ckpt", "optimizer.ckpt")  # of a checkpoint


def arguments(data_folder, output_folder, system="brn_sum", **changes):
    """A command line for `recipes/pretrain/train.py`: three epochs of two steps of 3 x 2."""
    options = {"data_folder": data_folder, "output_folder": output_folder} | SIZE | changes
    return _command(f"{system}_tiny", options)


def tokenizer_arguments(kind, data_folder, output_folder, **changes):
    """The same for `recipes/tokenizer/train.py`; kind is rvq."""
    size = {key: value for key, value in SIZE.items() if key not in OF_THE_MODEL}
    options = {"data_folder": data_folder, "output_folder": output_folder}
    return _command(kind, options | size | QUANTIZERS[kind] | changes)


def distill_arguments(name, teacher, data_folder, output_folder, own_sizes=True, **changes):
    """The same for `recipes/distill/train.py`; name is distill_tiny or transplant."""
    unused = {"codebook_size"} if own_sizes and name == "distill_tiny" else {*OF_THE_MODEL}
    options = {key: value for key, value in SIZE.items() if key not in unused}
    options |= {"teacher": teacher, "data_folder": data_folder, "output_folder": output_folder}
    if name == "distill_tiny":
        options["teacher_layers"] = "[1, 2]"
    return _command(name, options | changes)


def _command(name, options):
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    return [str(ROOT / f"hparams/{name}.yaml"), *pairs, "--noprogressbar"]


PROBES = {
    "hidden": 8,
    "number_of_epochs": 3,
    "fine_tune_epochs": 2,
    "fine_tune_batch": 4,
    "effective_batch": 8,
    "resamples": 20,
    "extract_batch": 4,
    "quick": True,
}


def task_arguments(task, folder, **changes):
    """A command line for a task's recipe."""
    folders = {"output_folder": folder / "out", "feature_folder": folder / "f"}
    return _command(task, PROBES | folders | changes)


def run_task(task, folder, **changes):
    """A task's recipe in this process; returns its results, the test logits and its folder."""
    out = import_module(find_task(task).recipe).main(task_arguments(task, folder, **changes))
    with np.load(out / "predictions.npz") as stored:
        return json.loads((out / "results.json").read_text()), stored["logits"], out


ON_CPU = ("--distributed_backend", "gloo", "--device", "cpu")


def torchrun(script, argv, where=ON_CPU, **options):
    """Runs a script in processes, on CPUs through gloo; returns what `subprocess.run` does."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--{name}={value}" for name, value in ({"nproc_per_node": 2} | options).items()),
        *(str(script), *argv, *where),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def rows(output_folder, kind):
    """What the run wrote into metrics.jsonl."""
    lines = (Path(output_folder) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def last_checkpoint(output_folder):
    """The newest checkpoint's metadata, model, optimiser and all, by file name."""
    metadata = (Path(output_folder) / "save").glob("CKPT*/CKPT.yaml")
    newest = max(metadata, key=lambda path: path.stat().st_mtime_ns)
    return {newest.name: yaml.safe_load(newest.read_text())} | {
        file.name: torch.load(file, weights_only=True)
        for file in newest.parent.glob("*.ckpt")
        if file.name != "brain.ckpt"  # text
    }


def exported(output_folder):
    """The exported weights."""
    return load_file(Path(output_folder) / "export" / "model.safetensors")


def assert_near_models(one, two, tolerance=1e-5):
    """Two runs ended with the same weights but for rounding; returns those of the first."""
    one, two = (last_checkpoint(folder)["model.ckpt"] for folder in (one, two))
    assert one.keys() == two.keys()
    for name, value in one.items():
        scale = max(1.0, value.abs().max().item())
        assert (value - two[name]).abs().max().item() <= tolerance * scale, name
    return one


def assert_same_end(one, two):
    """Two runs wrote the same figures and ended with the same weights, moments and export."""
    for name in STATES:
        states = [last_checkpoint(folder)[name] for folder in (one, two)]
        torch.testing.assert_close(*states, rtol=0, atol=0)
    torch.testing.assert_close(exported(one), exported(two), rtol=0, atol=0)
    for kind in ("train", "valid"):
        first, second = (
            [row | {"tokens_per_second": None} for row in rows(folder, kind)]
            for folder in (one, two)
        )
        assert first and first == second


def untrained_model(**sizes):
    """Front-end with plain statistics, and an encoder of two layers; always the same weights."""
    torch.manual_seed(0)
    features = LogMel()
    features.normalize.set_statistics(torch.full((128,), -4.0), torch.full((128,), 3.5))
    sizes = {"d_model": 16, "nhead": 2, "ffn_units": 16, "kernel_size": 5} | sizes
    return features, make_encoder(num_layers=2, **sizes)


def untrained_export(folder, **sizes):
    """Exports it; returns the folder."""
    features, encoder = untrained_model(**sizes)
    save_export(folder, encoder, features, system="small", seed=0)
    return folder
