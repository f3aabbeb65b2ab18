"""Whole training steps against SpeechBrain's BEST-RQ recipe."""

from functools import partial

import torch

from perf import SIZES
from perf.benchmark import Benchmark, Comparison, gpu_batch
from perf.speechbrain_recipe import RecipeStep, collate
from perf.training import TrainingStep, make_batch, make_waves
from speechbrain_music.models.frontend import STACK, LogMel, token_count
from speechbrain_music.models.targets import Teacher, save_targets
from speechbrain_music.nnet.quantizer import RandomFiniteScalarQuantizer
from speechbrain_music.nnet.residual_quantizer import ResidualQuantizer

SYSTEMS = {"branchformer": ("brn_sum", "brn_att"), "conformer": ("cnf_sum", "cnf_att")}
TARGET = 2  # of the systems with SummaryMixing
BASELINE = "SpeechBrain recipe, {}"


def step(size="full", device="cpu", folder=None):
    """Whole training steps, against those of SpeechBrain's recipe.

    Equal on both sides: waves, masked frames, sizes, dropout, mel bands, AdamW, clipping, precision
    (float32, on a GPU bfloat16). The recipe differs: relative attention only, a wider front-end
    with layer normalisation, a token head on all frames, its own quantizer, no mel head.
    """
    items, seconds, options = SIZES["step"][size]
    waves = make_waves(items * gpu_batch(device), seconds, device)
    recipe_batch = [part.to(device) for part in collate(waves)]
    batch = make_batch(waves, masked=recipe_batch[-1][::STACK] // STACK)
    steps, candidates, comparisons = {}, {}, []
    for block, systems in SYSTEMS.items():
        baseline = BASELINE.format(block)
        for system, target in zip(systems, (TARGET, None), strict=True):
            steps[system] = TrainingStep(system, device, **options)
            candidates[system] = partial(steps[system], batch)
            comparisons.append(Comparison(system, system, baseline, target))
        hparams = steps[system].hparams
        steps[baseline] = RecipeStep(device, block, hparams)
        candidates[baseline] = partial(steps[baseline], recipe_batch)

    return Benchmark(
        f"training step, {len(waves)} x {seconds} s, {hparams['num_layers']} blocks",
        candidates,
        comparisons,
    )


def targets(size="full", device="cpu", folder=None):
    """Each option in a training step of a tiny system, against the step of its yaml.

    20% of tokens are masked, or 60%. Residual quantization: 8 codebooks of 1,024; its teacher is an
    encoder like the trained one. Compiled: by `--compile`, at --size full.
    """
    items, seconds, options = SIZES["targets"][size]
    waves = make_waves(items * gpu_batch(device), seconds, device)
    few, tokens = make_batch(waves), torch.arange(token_count(waves.shape[1]))
    many = make_batch(waves, masked=tokens[tokens // 10 % 5 < 3])
    save_targets(f"{folder}/rvq", ResidualQuantizer(512, num_codebooks=8), LogMel())
    encoder = TrainingStep("brn_sum_tiny", **options).hparams["encoder"]
    teacher = Teacher(encoder, encoder.config["num_layers"], LogMel().normalize)
    quantizer = ResidualQuantizer(teacher.dim, num_codebooks=8)
    save_targets(f"{folder}/iterated", quantizer, LogMel(), teacher)
    batches, steps = {}, {}
    for name, batch, changes in (
        ("plain", few, {}),
        ("constant-Q targets", few, {"cqt_weight": 1.0}),
        ("4 codebooks", few, {"num_codebooks": 4}),
        ("random FSQ", few, {"codebook_size": 7776}),
        ("residual quantization", few, {"targets": f"{folder}/rvq"}),
        ("residual quantization of a layer", few, {"targets": f"{folder}/iterated"}),
        *([("compiled", few, {"compiled": True})] if size == "full" else []),
        ("60% masked", many, {}),
        ("60% masked, constant-Q targets", many, {"cqt_weight": 1.0}),
    ):
        steps[name] = TrainingStep("brn_sum_tiny", device, **options | changes)
        batches[name] = batch
    steps["random FSQ"].modules["quantizer"] = RandomFiniteScalarQuantizer(512).to(device)
    return Benchmark(
        f"training step of brn_sum_tiny with other targets, {len(waves)} x {seconds} s",
        {name: partial(step, batches[name]) for name, step in steps.items()},
        [Comparison(name, name, "plain", bound="<=") for name in steps if name != "plain"],
    )
