"""Whole training steps against SpeechBrain's BEST-RQ recipe."""

from functools import partial

from perf import speechbrain_recipe
from perf.benchmark import Benchmark, gpu_batch
from perf.training import make_batch, make_brain, make_waves
from speechbrain_music.models.frontend import STACK

SYSTEMS = {"branchformer": ("brn_sum", "brn_att"), "conformer": ("cnf_sum", "cnf_att")}


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
    candidates = {}
    for block, systems in SYSTEMS.items():
        for system in systems:
            ours = make_brain(system, device, **options)
            candidates[system] = partial(ours.fit_batch, batch)
        theirs = speechbrain_recipe.make_brain(block, ours.hparams, device)
        candidates[f"SpeechBrain recipe, {block}"] = partial(theirs.fit_batch, recipe_batch)
    with_cqt = make_brain("brn_sum", device, **options, cqt_weight=1.0)
    candidates["brn_sum, constant-Q targets"] = partial(with_cqt.fit_batch, batch)
    label = f"training step, {len(waves)} x {seconds} s, {ours.hparams.num_layers} blocks"
    return Benchmark(label, candidates)
