"""On a GPU: the numbers of a CPU, and NCCL. Skipped without a GPU."""

import pytest
import tiny
import torch
from speechbrain import Stage

from perf.training import make_batch, make_brain, make_waves
from recipes.pretrain.train import main
from speechbrain_music.dataio.loading import to_device
from speechbrain_music.inference.encoder import MusicEncoder
from speechbrain_music.models.ssl import stack_frames
from speechbrain_music.nnet.precision import full_float32

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")


@pytest.mark.parametrize("system", SYSTEMS)
def test_step_equals_cpu(system):
    """Tokens, loss and every gradient of one training step at full width, two blocks."""
    options = {"num_layers": 2, "dropout": 0.0, "precision": "fp32"}
    waves, found = make_waves(2, 6), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        batch = to_device(make_batch(waves), device)
        brain = make_brain(system, device, **options)
        with full_float32(device):  # else the ten bits of TF32 are what is measured
            mel, _ = brain.modules.features(batch.wave, batch.samples)
            tokens = brain.modules.quantizer(stack_frames(mel))
            predictions = brain.compute_forward(batch, Stage.TRAIN)
            loss = brain.compute_objectives(predictions, batch, Stage.TRAIN)
            loss.backward()
        groups = brain.optimizer.param_groups
        gradients = [p.grad for group in groups for p in group["params"]]
        found.append([x.cpu() for x in (tokens, loss, mel, *gradients)])
    (tokens, *numbers), (gpu_tokens, *gpu_numbers) = found
    assert (tokens == gpu_tokens).float().mean() > 0.99  # of two near entries rounding decides
    for ours, theirs in zip(numbers, gpu_numbers, strict=True):
        assert (ours - theirs).abs().max() <= 2e-3 * ours.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("precision", ("fp32", "bf16"))
def test_training_and_embedding_equal_cpu(precision, tone_folder, tmp_path):
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


def test_resume(tone_folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main(tiny.arguments(tone_folder, whole, warmup_steps=100, dropout=0.1))
    for steps in (3, 6):
        main(tiny.arguments(tone_folder, parts, warmup_steps=100, dropout=0.1, max_steps=steps))
    tiny.assert_near_models(whole, parts)


def test_nccl(tone_folder, tmp_path):
    """One process of torchrun with its default backend ends as a run without it."""
    main(tiny.arguments(tone_folder, tmp_path / "alone"))
    script = tiny.ROOT / "recipes/pretrain/train.py"
    arguments = tiny.arguments(tone_folder, tmp_path / "nccl")
    done = tiny.torchrun(script, arguments, where=(), nproc_per_node=1)
    assert done.returncode == 0, done.stderr[-3000:]
    tiny.assert_near_models(tmp_path / "alone", tmp_path / "nccl")
