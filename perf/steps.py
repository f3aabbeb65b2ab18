"""Whole training steps against SpeechBrain's BEST-RQ recipe."""

from functools import partial

import torch

from perf import speechbrain_recipe
from perf.benchmark import Benchmark, Comparison, gpu_batch
from perf.training import make_batch, make_brain, make_waves
from speechbrain_music.models.frontend import STACK, LogMel, token_count
from speechbrain_music.models.targets import Teacher, save_targets
from speechbrain_music.nnet.quantizer import RandomFiniteScalarQuantizer
from speechbrain_music.nnet.residual_quantizer import ResidualQuantizer

SYSTEMS = {"branchformer": ("brn_sum", "brn_att"), "conformer": ("cnf_sum", "cnf_att")}
TARGET = 2  # of the systems with SummaryMixing


def step(size, device, folder):
    """Whole training steps, against those of SpeechBrain's recipe.

    Equal on both sides: waves, masked frames, sizes, dropout, mel bands, AdamW, clipping, precision
    (float32, on a GPU bfloat16). The recipe differs: relative attention only, a wider front-end
    with layer normalisation, a token head on all frames, its own quantizer, no mel head.
    """
    items, seconds, options = size
    waves = make_waves(items * gpu_batch(device), seconds, device)
    recipe_batch = [part.to(device) for part in speechbrain_recipe.collate(waves)]
    batch = make_batch(waves, masked=recipe_batch[-1][::STACK] // STACK)
    candidates, comparisons = {}, []
    for block, systems in SYSTEMS.items():
        baseline = f"SpeechBrain recipe, {block}"
        for system, target in zip(systems, (TARGET, None), strict=True):
            ours = make_brain(system, device, **options)
            candidates[system] = partial(ours.fit_batch, batch)
            comparisons.append(Comparison(system, system, baseline, target))
        theirs = speechbrain_recipe.make_brain(block, ours.hparams, device)
        candidates[baseline] = partial(theirs.fit_batch, recipe_batch)
    label = f"training step, {len(waves)} x {seconds} s, {ours.hparams.num_layers} blocks"
    return Benchmark(label, candidates, comparisons)


def targets(size, device, folder):
    """Each option in a training step of a tiny system, against the step of its yaml.

    20% of tokens are masked, or 60%. Residual quantization: 8 codebooks of 1,024; its teacher is an
    encoder like the trained one. Compiled: by `--compile`, at --size full.
    """
    items, seconds, options, with_compiled = size
    waves = make_waves(items * gpu_batch(device), seconds, device)
    few, tokens = make_batch(waves), torch.arange(token_count(waves.shape[1]))
    many = make_batch(waves, masked=tokens[tokens // 10 % 5 < 3])
    save_targets(f"{folder}/rvq", ResidualQuantizer(512, num_codebooks=8), LogMel())
    encoder = make_brain("brn_sum_tiny", **options).hparams.encoder
    teacher = Teacher(encoder, encoder.config["num_layers"], LogMel().normalize)
    quantizer = ResidualQuantizer(teacher.dim, num_codebooks=8)
    save_targets(f"{folder}/iterated", quantizer, LogMel(), teacher)
    candidates = {}
    for name, batch, changes in (
        ("plain", few, {}),
        ("constant-Q targets", few, {"cqt_weight": 1.0}),
        ("4 codebooks", few, {"num_codebooks": 4}),
        ("random FSQ", few, {"codebook_size": 7776}),
        ("residual quantization", few, {"targets": f"{folder}/rvq"}),
        ("residual quantization of a layer", few, {"targets": f"{folder}/iterated"}),
        *([("compiled", few, {"compiled": True})] if with_compiled else []),
        ("60% masked", many, {}),
        ("60% masked, constant-Q targets", many, {"cqt_weight": 1.0}),
    ):
        ours = make_brain("brn_sum_tiny", device, **options | changes)
        if name == "random FSQ":
            ours.modules["quantizer"] = RandomFiniteScalarQuantizer(512).to(device)
        candidates[name] = partial(ours.fit_batch, batch)
    label = f"training step of brn_sum_tiny with other targets, {len(waves)} x {seconds} s"
    comparisons = [Comparison(name, name, "plain", bound="<=") for name in [*candidates][1:]]
    return Benchmark(label, candidates, comparisons)
