"""Training steps of the systems, on noise in place of music, against SpeechBrain's recipe."""

from functools import partial
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml

from perf import speechbrain_recipe
from perf.benchmark import Benchmark, gpu_batch
from recipes.pretrain.train import BestRQBrain
from speechbrain_music.brains.base import Plan
from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.dataio.segments import SegmentBatch
from speechbrain_music.models.frontend import BANDS, STACK, token_count

HPARAMS = Path(__file__).parents[1] / "hparams"
SYSTEMS = {"branchformer": ("brn_sum", "brn_att"), "conformer": ("cnf_sum", "cnf_att")}


def make_waves(items, seconds, device="cpu"):
    """Noise, (items, samples) at 24 kHz; speed does not depend on the signal."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(items, round(seconds * SAMPLE_RATE), generator=generator).to(device)


def make_batch(waves, masked=None):
    """A batch of full items with the same masked tokens: by default, ten of every fifty."""
    items, samples = waves.shape
    tokens = token_count(samples)
    if masked is None:
        masked = torch.where(torch.arange(tokens) // 10 % 5 == 0)[0]
    mask = torch.zeros(items, tokens, dtype=torch.bool, device=waves.device)
    mask[:, masked.to(waves.device)] = True
    return SegmentBatch(
        wave=waves,
        samples=torch.full((items,), samples, device=waves.device),
        mask=mask,
        noise=0.1 * torch.randn(int(mask.sum()) * STACK, BANDS, device=waves.device),
        errors=[],
    )


def make_brain(system, device="cpu", compiled=False, **overrides):
    """The Brain that trains a system of hparams/; `overrides` are top-level keys of its yaml."""
    torch.manual_seed(0)
    with open(HPARAMS / f"{system}.yaml", encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    hparams |= {"checkpointer": lambda: None, "learning_rate_factor": lambda step, total: 1.0}
    options = {"device": device, "compile": compiled}
    brain = BestRQBrain.of_run(hparams, options, Plan(1, 1, 1), statistics=None)
    brain._compile()  # as SpeechBrain does at the start of `fit`
    brain.init_optimizers()
    brain.modules.train()
    return brain


def step(size, device, folder):
    """Whole training steps, against those of SpeechBrain's recipe.

    Equal on both sides: waves, masked frames, sizes, dropout, mel bands, AdamW, clipping, precision
    (float32, on a GPU bfloat16). The recipe differs: relative attention only, a wider front-end
    with layer normalisation, a token head on all frames, its own quantizer, no mel head.
    """
    items, seconds, options, variants = size
    waves = make_waves(items * gpu_batch(device), seconds, device)
    recipe_batch = [part.to(device) for part in speechbrain_recipe.collate(waves)]
    batch = make_batch(waves, masked=recipe_batch[-1][::STACK] // STACK)
    candidates = {}
    for block, systems in SYSTEMS.items():
        for system in systems:
            ours = make_brain(system, device, **options)
            candidates[system] = partial(ours.fit_batch, batch)
        theirs = speechbrain_recipe.make_brain(block, ours.hparams, device)
        candidates[f"SpeechBrain recipe, {block}"] = partial(theirs.fit_batch, recipe_batch)
    for name, more in variants.items():
        brain = make_brain("brn_sum", device, **more, **options)
        candidates[f"brn_sum, {name}"] = partial(brain.fit_batch, batch)
    label = f"training step, {len(waves)} x {seconds} s, {ours.hparams.num_layers} blocks"
    return Benchmark(label, candidates)
