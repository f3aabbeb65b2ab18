"""The row that takes a training step of brn_sum apart."""

from functools import partial

import torch
from torch.nn import functional as F

from benchmarks.contest import AT_MOST, Claim, Contest, Disagreement, fold
from benchmarks.rows import count_flops, training_step
from benchmarks.training import TrainingStep, make_batch, make_waves
from speechbrain_music.models.ssl import stack_frames
from speechbrain_music.nnet.convolution import depthwise_conv

SIZES = {  # items of a batch, their seconds, what the yaml is told
    "full": (2, 30, {}),
    "quick": (1, 10, {"num_layers": 2}),
    "tiny": (1, 1, {"num_layers": 1, "d_model": 16, "ffn_units": 32, "codebook_size": 64}),
}
WHOLE, TOGETHER = "whole step", "all of these"
NOTE = (
    "Each part is the step's own modules on tensors of the step's shapes, forward and backward "
    "where the step goes backward, alone and in turns with the whole step; their operations add "
    "up to the step's, which was checked. Linears are those of the local branch and the merge, "
    "mixing has its own. What the parts leave of the step is normalisation, activations, dropout, "
    "sums, masking, and what is dearer in company, such as memory."
)


def parts(size="full", device="cpu"):
    """Shares of mel, front-end, linears, depthwise, mixing, heads, quantizer, optimiser.

    Example
    -------
    >>> contest = parts("tiny")
    >>> len(contest.sums[TOGETHER]), len(contest.contenders)  # and the whole
    (9, 10)
    """
    items, seconds, changes = SIZES[size]
    items *= fold(device)
    step = TrainingStep("brn_sum", device, **changes)
    batch = make_batch(make_waves(items, seconds, device))
    calls = take_apart(step, batch)
    whole = partial(step, batch)
    layers, width = (step.model.encoder.config[key] for key in ("num_layers", "d_model"))
    what = f"training step of {items} x {seconds} s, {layers} x {width}, brn_sum"

    def check(contenders):
        alone = {name: count_flops(call) for name, call in contenders.items()}
        sum_of_parts = sum(alone.values()) - alone[WHOLE]
        if sum_of_parts != alone[WHOLE]:
            raise Disagreement(f"the step has {alone[WHOLE]} FLOP, its parts {sum_of_parts}")

    return Contest(
        {WHOLE: whole, **calls},
        [Claim(f"{what}: {name}", name, WHOLE, bound=AT_MOST) for name in [*calls, TOGETHER]],
        check,
        sums={TOGETHER: list(calls)},
        note=NOTE,
    )


def take_apart(step, batch):
    """The parts of a training step of a Branchformer with SummaryMixing.

    Arguments
    ---------
    step : TrainingStep
        Whose modules are used.
    batch : SegmentBatch
        Whose shapes are used.

    Returns
    -------
    dict
        Name -> a call that runs the part once, and leaves no gradient behind.

    Example
    -------
    >>> step = TrainingStep("brn_sum_tiny", num_layers=1)
    >>> list(take_apart(step, make_batch(make_waves(1, 1))))[:4]
    ['mel', 'front-end', 'linears', 'depthwise']
    """
    model, encoder = step.model, step.model.encoder
    with torch.no_grad():
        mel, _ = step.features(batch.wave, batch.samples)
    targets = stack_frames(mel)[batch.mask]
    tokens = model.quantizer(targets.unsqueeze(0)).flatten()
    x = torch.randn(*batch.mask.shape, encoder.config["d_model"], device=mel.device)
    hidden = torch.randn(*batch.mask.shape, encoder.config["ffn_units"], device=mel.device)
    half = hidden.chunk(2, dim=-1)[0]
    pair = torch.cat([x, x], dim=-1)

    part = partial(training_step, context=step.autocast)
    linears, depthwise, mixing = [], [], []
    for layer in encoder.layers:
        branch, conv = layer.convolution_branch, layer.convolution_branch.csgu.conv.conv
        linears += [
            part(branch.pre_channel_proj, x),
            part(branch.post_channel_proj, half),
            part(layer.merge_proj, pair),
        ]
        convolve = partial(_convolve, conv)
        depthwise.append(part(convolve, half, conv.parameters()))
        mixing.append(part(layer.mixing, x))

    def token_loss(masked):
        logits = model.token_head(masked).unflatten(-1, (model.codebooks, -1))
        return F.cross_entropy(logits.flatten(0, 1), tokens, reduction="sum")

    def mel_loss(masked):
        return (model.mel_head(masked) - targets).square().mean(dim=-1).sum()

    masked = x[batch.mask]
    gradients = [1e-3 * torch.randn_like(parameter) for parameter in step.parameters]

    def optimise():
        for parameter, gradient in zip(step.parameters, gradients, strict=True):
            parameter.grad = gradient
        step.update(1)

    return {
        "mel": torch.no_grad()(lambda: step.features(batch.wave, batch.samples)),
        "front-end": _frontend(encoder.frontend, mel, x, step.autocast),
        "linears": partial(_each, linears),
        "depthwise": partial(_each, depthwise),
        "mixing": partial(_each, mixing),
        "token head": part(token_loss, masked, model.token_head.parameters()),
        "mel head": part(mel_loss, masked, model.mel_head.parameters()),
        "quantizer": lambda: model.quantizer(stack_frames(mel)[batch.mask].unsqueeze(0)),
        "optimiser": optimise,
    }


def _each(calls):
    for call in calls:
        call()


def _convolve(conv, x):
    return depthwise_conv(x, conv.weight, conv.bias, padding_mode="reflect")


def _frontend(frontend, mel, upstream, autocast):
    """Forward, and backward to the parameters only: nobody asks for the mel's gradient."""

    def call():
        with autocast():
            out = frontend(mel)
        out.backward(upstream.to(out))
        for parameter in frontend.parameters():
            parameter.grad = None

    return call
