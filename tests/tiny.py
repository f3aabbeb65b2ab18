"""The pre-training recipe at the size of a test."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

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


def arguments(data_folder, output_folder, system="brn_sum", **changes):
    """A command line for `recipes/pretrain/train.py`: three epochs of two steps of 3 x 2."""
    options = {"data_folder": data_folder, "output_folder": output_folder} | SIZE | changes
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    return [str(ROOT / f"hparams/{system}_tiny.yaml"), *pairs, "--noprogressbar"]


def rows(output_folder, kind):
    """What the run wrote into metrics.jsonl."""
    lines = (Path(output_folder) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def last_checkpoint(output_folder):
    """The newest checkpoint's model, optimiser and all, by file name."""
    folders = list((Path(output_folder) / "save").glob("CKPT*"))
    newest = max(folders, key=lambda folder: (folder / "CKPT.yaml").stat().st_mtime_ns)
    return {
        file.name: torch.load(file, weights_only=True)
        for file in newest.glob("*.ckpt")
        if file.name != "brain.ckpt"  # text
    }


def exported(output_folder):
    """The exported weights."""
    return load_file(Path(output_folder) / "export" / "model.safetensors")
