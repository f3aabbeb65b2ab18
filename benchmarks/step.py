"""The row of whole training steps: ours against SpeechBrain's BEST-RQ recipe."""

import math
from copy import deepcopy

import torch

from benchmarks.contest import Claim, Contest, Disagreement, fold
from benchmarks.recipe import RecipeStep, collate
from benchmarks.rows import count_flops
from benchmarks.training import TrainingStep, make_batch, make_waves
from speechbrain_music.models.frontend import STACK

SIZES = {  # blocks, items of a batch, their seconds, what else the yaml is told
    "full": (4, 2, 30, {}),
    "quick": (1, 1, 10, {}),
    "tiny": (1, 1, 1, {"d_model": 16, "ffn_units": 32, "codebook_size": 64}),
}
# (block, its systems with the ratio that each is to reach)
BLOCKS = {
    "branchformer": {"brn_sum": 2, "brn_att": None},
    "conformer": {"cnf_sum": 2, "cnf_att": None},
}
NOTE = (
    "Equal on both sides: the waves, masked frames (20%, blocks of 400 ms), d_model, heads, "
    "blocks ({layers}; the systems have 12), the width inside them, kernels, dropout as in "
    "training, codebook, 128 bands by an FFT of 2048, AdamW, clipping, float32 (on a GPU bfloat16 "
    "where autocast takes it, as in a run). The blocks of the attention systems have as many "
    "parameters and operations as SpeechBrain's. Different, as the two are: the recipe has "
    "relative attention only, 128 and 32 channels in its front-end with layer normalisation (ours "
    "32 and 32 without), a token head on all frames of which it then takes the masked, its own "
    "quantizer, normalisation by item, a window of 25 ms, 751 tokens for 750, GELU in the "
    "Conformer's feed-forward modules (ours Swish), an optimiser that is not fused; and it has no "
    "mel head."
)


def step(size="full", device="cpu"):
    """Mel, quantizer, masking, encoder, heads, loss, backward, clipping and the optimiser.

    Example
    -------
    >>> contest = step("tiny")
    >>> losses = [call()[0] for call in contest.contenders.values()]
    >>> len(losses), max(losses).item() < 6  # codebooks of 64, guessed at
    (6, True)
    """
    layers, items, seconds, changes = SIZES[size]
    items *= fold(device)
    waves = make_waves(items, seconds, device)
    theirs = [part.to(device) for part in collate(waves)]
    ours = make_batch(waves, masked=theirs[-1][::STACK] // STACK)
    steps, contenders, claims = {}, {}, []
    for block, systems in BLOCKS.items():
        rival = f"SpeechBrain's recipe, {block}"
        for system, reach in systems.items():
            made = TrainingStep(system, device, num_layers=layers, **changes)
            steps[system] = made
            contenders[system] = lambda made=made: made(ours)
            width = made.model.encoder.config["d_model"]
            what = f"training step of {items} x {seconds} s, {layers} x {width}, {system}"
            claims.append(Claim(what, system, rival, reach))
        encoder = made.model.encoder.config
        steps[rival] = RecipeStep(
            device,
            block=block,
            num_layers=layers,
            d_model=encoder["d_model"],
            nhead=encoder["nhead"],
            units=encoder["ffn_units"],
            codebook_size=made.model.quantizer.config["codebook_size"],
            dropout=encoder["dropout"],
        )
        contenders[rival] = lambda made=steps[rival]: made(theirs)

    def check(contenders):
        for name, call in contenders.items():
            _check_training(name, steps[name], call, made.model.quantizer.config["codebook_size"])
        counts = {name: call()[-1].item() for name, call in contenders.items()}
        if len(set(counts.values())) > 1:
            raise Disagreement(f"masked tokens differ: {counts}")
        for block, systems in BLOCKS.items():
            attention = steps[list(systems)[-1]].model.encoder
            rival = steps[f"SpeechBrain's recipe, {block}"].model.encoder.transformer
            _check_blocks(block, deepcopy(attention).cpu(), deepcopy(rival).cpu())

    return Contest(contenders, claims, check, note=NOTE.format(layers=layers))


def _check_training(name, step, call, codebook_size):
    """One call must move every parameter, from a loss near that of guessing."""
    before = [parameter.detach().clone() for parameter in step.parameters]
    loss, norm, _ = call()
    still = sum(map(torch.equal, before, step.parameters))
    if still:
        raise Disagreement(f"{name}: {still} of {len(before)} parameters are not trained")
    guess = math.log(codebook_size)
    if not (abs(loss - guess) < 2 and 0 < norm < math.inf):
        raise Disagreement(f"{name}: loss {loss:.2f}, guessing {guess:.2f}, gradient norm {norm}")


def _check_blocks(block, ours, theirs):
    """Ours with attention and SpeechBrain's: as many parameters, as many operations on a CPU.

    On a GPU ours has some more, as it convolves edges that it cuts off.
    """
    x = torch.randn(1, 50, ours.config["d_model"])
    positions = theirs.positional_encoding(x)

    def forward():
        out = x
        for layer in ours.layers:
            out = layer(out)
        ours.norm(out)

    facts = []
    for module, call in (
        (theirs.encoder, lambda: theirs.encoder(x, pos_embs=positions)),
        (torch.nn.ModuleList([ours.layers, ours.norm]), forward),
    ):
        parameters = sum(parameter.numel() for parameter in module.parameters())
        facts.append((parameters, count_flops(call)))
    if facts[0] != facts[1]:
        raise Disagreement(
            f"{block}: SpeechBrain's blocks have (parameters, FLOP) {facts[0]}, ours {facts[1]}"
        )
