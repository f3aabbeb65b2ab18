"""On a GPU: the numbers of a CPU, and what only a GPU has. Skipped where there is none."""

import os
import subprocess
import sys

import pytest
import tiny
import torch

from benchmarks.training import TrainingStep, make_batch, make_waves
from recipes.pretrain.train import main
from speechbrain_music.inference.encoder import MusicEncoder
from speechbrain_music.nnet.precision import full_float32

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("mixing", (None, "rope"))
def test_a_step_has_the_numbers_of_a_cpu(system, mixing):
    """Tokens, loss and every gradient of one training step at full width, two blocks."""
    options = {"num_layers": 2, "dropout": 0.0} | ({"mixing": mixing} if mixing else {})
    waves = make_waves(2, 6)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        batch = make_batch(waves).to(device)
        step = TrainingStep(system, device, **options)
        with full_float32(device):  # else the ten bits of TF32 are what is measured
            mel, _ = step.features(batch.wave, batch.samples)
            tokens = step.model.quantizer(mel.unflatten(1, (-1, 4)).flatten(2))
            loss = step.accumulate(batch)
        gradients = [p.grad for p in step.parameters]
        found.append([x.cpu() for x in (tokens, loss, mel, *gradients)])
    (tokens, *numbers), (gpu_tokens, *gpu_numbers) = found
    assert (tokens == gpu_tokens).float().mean() > 0.99  # of two near entries rounding decides
    for ours, theirs in zip(numbers, gpu_numbers, strict=True):
        assert (ours - theirs).abs().max() <= 2e-3 * ours.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("precision", ("fp32", "bf16"))
def test_trains_and_embeds_as_a_cpu_does(precision, tone_folder, tmp_path):
    main(tiny.arguments(tone_folder, tmp_path / "run", precision=precision))
    valid = tiny.rows(tmp_path / "run", "valid")
    assert valid[-1]["loss"] < valid[0]["loss"]
    wave = torch.randn(2, 3 * 24000)
    cpu, gpu = (
        MusicEncoder.from_export(tmp_path / "run" / "export", device=device)
        .encode_batch(wave)
        .values.cpu()
        for device in ("cpu", "cuda")
    )
    assert (cpu - gpu).abs().max() <= 1e-4 * cpu.abs().max()


def test_stopped_and_continued(tone_folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main(tiny.arguments(tone_folder, whole, warmup_steps=100, dropout=0.1))
    for steps in (3, 6):
        main(tiny.arguments(tone_folder, parts, warmup_steps=100, dropout=0.1, max_steps=steps))
    tiny.assert_near_models(whole, parts)


def test_nccl(tone_folder, tmp_path):
    """One process of torchrun with its default backend ends as a run without it."""
    script, run = tiny.ROOT / "recipes/pretrain/train.py", [tmp_path / "alone", tmp_path / "nccl"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tiny.ROOT), *sys.path])}
    for start, folder in zip(([sys.executable], launch), run, strict=True):
        command = [*start, str(script), *tiny.arguments(tone_folder, folder)]
        subprocess.run(command, env=environment, check=True, timeout=300)
    tiny.assert_near_models(*run)
