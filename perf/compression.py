"""Embedding by compressed forms of the shipped encoder: their bytes, speed and embeddings."""

import os
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import cosine_similarity

from perf.benchmark import Benchmark, Comparison, describe_model
from perf.data import make_music
from speechbrain_music.data_prep.files import find_audio
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.models.compression import compress
from speechbrain_music.models.export import SHIPPED, load_export, save_export
from speechbrain_music.models.safe_folder import WEIGHTS

TARGETS = {"bf16": None, "int8": 1.5, "layers:2": None}  # times the speed of float32


def compression(seconds, device, folder):
    """The first seconds of each file in the folder $SBMUSIC_REAL_AUDIO (without it of composed
    music), in memory, are embedded one by one. Cosines are of means of the last hidden state."""
    root, samples = os.environ.get("SBMUSIC_REAL_AUDIO"), seconds * SAMPLE_RATE
    files = [Path(root, name) for name in find_audio(root)[0]] if root else []
    waves = [torch.from_numpy(read_segment(file, 0, samples))[None] for file in files]
    waves = waves or [torch.from_numpy(make_music(seconds)[:samples, 0]).float()[None]]
    model, exports = load_export(SHIPPED), {"float32": SHIPPED}
    for method in TARGETS:
        exports[method] = Path(folder, method)
        save_export(exports[method], compress(model, method), model.features)
    encoders = {name: MusicEncoder.from_export(export, device) for name, export in exports.items()}
    candidates = {name: partial(_embed, encoder, waves) for name, encoder in encoders.items()}
    expected, models = candidates["float32"](), {}
    for name, encoder in encoders.items():
        size = (exports[name] / WEIGHTS).stat().st_size
        cosine = cosine_similarity(candidates[name](), expected)
        what = f"{size:,} bytes; cosine {cosine.mean():.5f}, smallest {cosine.min():.5f}"
        models[name] = describe_model(encoder, encoder.token_rate, what)
    details = {"audio_seconds": sum(map(torch.numel, waves)) / SAMPLE_RATE, "models": models}
    label = f"the shipped encoder, {len(waves)} x {seconds} s"
    comparisons = [Comparison(f"{name}, time", name, "float32", TARGETS[name]) for name in TARGETS]
    return Benchmark(label, candidates, comparisons, details=details)


def _embed(encoder, waves):
    return torch.cat([encoder.encode_batch(wave, pool="mean").values for wave in waves])
