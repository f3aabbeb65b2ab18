"""Whole training steps against SpeechBrain's BEST-RQ recipe, and the parts of a step."""

import math
from functools import partial

import torch
from torch.nn import functional as F

from perf import SIZES
from perf.benchmark import Benchmark, Comparison, Mismatch, count_flops, forward_backward, gpu_batch
from perf.speechbrain_recipe import RecipeStep, collate
from perf.training import TrainingStep, make_batch, make_waves
from speechbrain_music.models.frontend import STACK
from speechbrain_music.models.ssl import stack_frames, tokenize
from speechbrain_music.nnet.convolution import depthwise_conv

SYSTEMS = {"branchformer": ("brn_sum", "brn_att"), "conformer": ("cnf_sum", "cnf_att")}
TARGET = 2  # of the systems with SummaryMixing
BASELINE = "SpeechBrain recipe, {}"
WHOLE, SUM = "whole step", "sum of the parts"


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

    def check(candidates):
        uniform = math.log(hparams["codebook_size"])
        counts = {
            _check_training(name, steps[name], call, uniform) for name, call in candidates.items()
        }
        if len(counts) > 1:
            raise Mismatch(f"numbers of masked tokens differ: {counts}")

    return Benchmark(
        f"training step, {len(waves)} x {seconds} s, {hparams['num_layers']} blocks",
        candidates,
        comparisons,
        check,
        "every parameter is trained; equal masked tokens",
    )


def _check_training(name, step, call, uniform):
    """One call must change every parameter, from a loss near `uniform`; return its tokens."""
    before = [parameter.detach().clone() for parameter in step.parameters]
    loss, norm, count = call()
    if unchanged := sum(map(torch.equal, before, step.parameters)):
        raise Mismatch(f"{name}: {unchanged} of {len(before)} parameters are not trained")
    if not (abs(loss - uniform) < 2 and 0 < norm < math.inf):
        raise Mismatch(f"{name}: loss {loss:.2f}, uniform {uniform:.2f}, gradient norm {norm}")
    return count


def parts(size="full", device="cpu", folder=None):
    """Each part runs the step's own modules on tensors of its shapes, forward and backward.

    "linears" are those of the local branch and the merge. Not in any part: normalisation,
    activations, dropout, sums, masking.
    """
    items, seconds, options = SIZES["parts"][size]
    items *= gpu_batch(device)
    step = TrainingStep("brn_sum", device, **options)
    batch = make_batch(make_waves(items, seconds, device))
    calls = split_step(step, batch)

    def check(candidates):
        flops = {name: count_flops(call) for name, call in candidates.items()}
        whole, _ = flops.pop(WHOLE), flops.pop(SUM)
        if sum(flops.values()) != whole:
            raise Mismatch(f"the step has {whole} FLOP, its parts {sum(flops.values())}")

    return Benchmark(
        f"training step of brn_sum, {items} x {seconds} s, {step.hparams['num_layers']} blocks",
        {WHOLE: partial(step, batch), **calls},
        [Comparison(name, name, WHOLE, of="share", bound="<=") for name in calls],
        check,
        "the parts' FLOP add up to the step's",
    )


def split_step(step, batch):
    """The parts of a Branchformer step with SummaryMixing: name -> call that leaves no gradient."""
    modules, encoder = step.modules, step.modules.encoder
    with torch.no_grad():
        mel, _ = modules.features(batch.wave, batch.samples)
    targets = stack_frames(mel)[batch.mask]
    tokens = tokenize(modules.quantizer, targets).flatten()
    x = torch.randn(*batch.mask.shape, step.hparams["d_model"], device=mel.device)
    half = torch.randn(*batch.mask.shape, step.hparams["ffn_units"] // 2, device=mel.device)
    autocast = lambda: step.brain.training_ctx  # noqa: E731
    part = partial(forward_backward, context=autocast)
    run_all = lambda calls: [call() for call in calls]  # noqa: E731
    linears, depthwise, mixing = [], [], []
    for layer in encoder.layers:
        branch, conv = layer.convolution_branch, layer.convolution_branch.csgu.conv.conv
        linears.append(part(branch.pre_channel_proj, x))
        linears.append(part(branch.post_channel_proj, half))
        linears.append(part(layer.merge_proj, torch.cat([x, x], dim=-1)))
        options = {"weight": conv.weight, "bias": conv.bias, "padding_mode": "reflect"}
        depthwise.append(part(partial(depthwise_conv, **options), half, conv.parameters()))
        mixing.append(part(layer.mixer, x))

    def frontend():  # backward to the parameters only: the mel needs no gradient
        with autocast():
            out = encoder.frontend(mel)
        out.backward(x.to(out))
        encoder.frontend.zero_grad(set_to_none=True)

    def token_loss(masked):
        logits = modules.token_head(masked)
        return F.cross_entropy(logits.flatten(0, 1), tokens, reduction="sum")

    def mel_loss(masked):
        return (modules.mel_head(masked) - targets).square().mean(dim=-1).sum()

    def optimize():
        for parameter in step.parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
        step.update(1)

    calls = {
        "mel": torch.no_grad()(lambda: modules.features(batch.wave, batch.samples)),
        "front-end": frontend,
        "linears": partial(run_all, linears),
        "depthwise": partial(run_all, depthwise),
        "mixing": partial(run_all, mixing),
        "token head": part(token_loss, x[batch.mask], modules.token_head.parameters()),
        "mel head": part(mel_loss, x[batch.mask], modules.mel_head.parameters()),
        "quantizer": lambda: tokenize(modules.quantizer, stack_frames(mel)[batch.mask]),
        "optimizer": optimize,
    }
    return {**calls, SUM: partial(run_all, calls.values())}
