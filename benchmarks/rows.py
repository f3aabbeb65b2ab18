"""The rows: what is measured against what. A builder takes a size and a device."""

from contextlib import nullcontext
from functools import partial

import torch
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoderLayer
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.nnet import quantisers
from speechbrain.nnet.attention import RelPosEncXL, RelPosMHAXL
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest import Claim, Contest, Disagreement, fold
from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.encoder import from_speechbrain
from speechbrain_music.nnet.probes import ProbeStack
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
from speechbrain_music.nnet.summary_mixing import SummaryMixing
from speechbrain_music.optim.stacked import StackedAdam

D_MODEL, NHEAD = 512, 4
DROPOUT = 0.1  # of a block's training step, on both sides


def machine(size="full", device="cpu"):
    """The rate of matrix products in float32, to read the other rows by."""
    width = {"full": 2048, "quick": 1024, "tiny": 64}[size]
    left, right = torch.randn(2, width, width, device=device)
    name = f"product of {width} x {width} matrices"
    return Contest({name: lambda: left @ right}, flops={name: 2 * width**3})


def quantizer(size="full", device="cpu"):
    """Tokens of 30 s (on a GPU of eight times 30 s), 8192 x 16, against SpeechBrain's quantizer."""
    steps = fold(device) * {"full": 750, "quick": 250, "tiny": 4}[size]
    torch.manual_seed(0)
    x = torch.randn(1, steps, 512, device=device)
    ours = RandomProjectionQuantizer(512).to(device)
    theirs = quantisers.RandomProjectionQuantizer(512, cb_dim=16, cb_vocab=8192).to(device)
    theirs.P.copy_(ours.projection[0])
    theirs.CB.copy_(ours.codebook[0])

    def check(contenders):
        mine, other = contenders["ours"](), contenders["SpeechBrain's"]()
        differ = int((mine != other).sum())
        if differ:
            raise Disagreement(f"quantizer: {differ} of {steps} tokens differ from SpeechBrain's")

    what = f"quantizer, 8192 x 16, {steps} frames"
    return Contest(
        {"ours": lambda: ours(x), "SpeechBrain's": torch.no_grad()(lambda: theirs(x))},
        [
            Claim(what, "ours", "SpeechBrain's", 15),
            Claim(f"{what}, extra memory", "ours", "SpeechBrain's", 10, of="memory"),
        ],
        check,
    )


def summary_mixing(size="full", device="cpu"):
    """SummaryMixing forward and backward, against its own products alone and RelPosMHAXL."""
    batch, steps = {"full": (8, 750), "quick": (2, 750), "tiny": (2, 8)}[size]
    batch *= fold(device)
    torch.manual_seed(0)
    x = torch.randn(batch, steps, D_MODEL, device=device)
    mixing = SummaryMixing(D_MODEL, NHEAD).to(device)
    attention = RelPosMHAXL(D_MODEL, NHEAD).to(device)
    positions = RelPosEncXL(D_MODEL).to(device).make_pe(steps)
    ours = training_step(mixing, x)
    products = matrix_products(
        # (groups, rows, in, out) of each layer of f and s, and of the two halves of the merge
        [(NHEAD, batch * steps, D_MODEL // NHEAD, D_MODEL // NHEAD)] * 4
        + [(1, batch * steps, D_MODEL, D_MODEL), (1, batch, D_MODEL, D_MODEL)],
        device,
    )
    flops = count_flops(ours)

    def check(contenders):
        same("SummaryMixing and its equations", contenders["ours"](), by_equations(mixing, x))
        if flops != (alone := count_flops(contenders["products"])):
            raise Disagreement(f"SummaryMixing has {flops} FLOP, its products alone {alone}")

    what = f"SummaryMixing at ({batch}, {steps}, {D_MODEL}), forward + backward"
    attend = training_step(lambda x: attention(x, x, x, positions)[0], x, attention.parameters())
    return Contest(
        {"ours": ours, "products": products, "RelPosMHAXL": attend},
        [
            Claim(f"{what}, beside its matrix products alone", "ours", "products", 0.8),
            Claim(f"{what}, beside RelPosMHAXL", "ours", "RelPosMHAXL", 2),
        ],
        check,
        flops={"ours": flops, "products": flops},
    )


def branchformer(size="full", device="cpu"):
    """A Branchformer block's training step, against SpeechBrain's."""
    theirs = partial(BranchformerEncoderLayer, D_MODEL, NHEAD, dropout=DROPOUT)
    return _blocks("Branchformer", BranchformerLayer, theirs, size, device)


def conformer(size="full", device="cpu"):
    """A Conformer block's training step, against SpeechBrain's."""
    theirs = partial(ConformerEncoderLayer, D_MODEL, d_ffn=2048, nhead=NHEAD, dropout=DROPOUT)
    return _blocks("Conformer", ConformerLayer, theirs, size, device)


def _blocks(name, make, make_theirs, size, device):
    batch, steps = {"full": (4, 750), "quick": (1, 250), "tiny": (2, 16)}[size]
    batch *= fold(device)
    torch.manual_seed(0)
    x = torch.randn(batch, steps, D_MODEL, device=device)
    positions = RelPosEncXL(D_MODEL).to(device).make_pe(steps)
    theirs = make_theirs().to(device)
    blocks = {
        mixing: make(D_MODEL, NHEAD, mixing, dropout=DROPOUT).to(device)
        for mixing in ("summary", "attention", "rope")
    }
    blocks["attention"].load_state_dict(from_speechbrain(theirs.state_dict()))
    contenders = {mixing: training_step(block, x) for mixing, block in blocks.items()}
    contenders["SpeechBrain's"] = training_step(
        lambda x: theirs(x, pos_embs=positions)[0], x, theirs.parameters()
    )

    def check(contenders):
        for module in (theirs, blocks["attention"]):
            module.eval()  # without dropout the two give the same numbers
        try:
            mine, other = contenders["attention"](), contenders["SpeechBrain's"]()
        finally:
            for module in (theirs, blocks["attention"]):
                module.train()
        same(f"{name}: ours with attention and SpeechBrain's", mine, other)

    what = f"{name} block at ({batch}, {steps}, {D_MODEL}), forward + backward"
    reach = {"summary": 2, "attention": 1.3, "rope": None}
    return Contest(
        contenders,
        [Claim(f"{what}, {mixing}", mixing, "SpeechBrain's", reach[mixing]) for mixing in reach],
        check,
    )


def probes(size="full", device="cpu"):
    """A training step of a sweep's probes on single layers, stacked, against one by one."""
    layers, dim, rates, seeds, batch = {
        "full": (13, 512, 6, 3, 64),
        "quick": (4, 256, 3, 2, 64),
        "tiny": (2, 8, 2, 1, 4),
    }[size]
    choices = [(k, seed) for seed in range(seeds) for k in range(layers) for _ in range(rates)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(seeds, batch, layers, dim, generator=generator).to(device)
    targets = torch.randint(10, (seeds, batch), generator=generator).to(device)
    stack = ProbeStack(choices, layers, dim, 10).to(device)
    optimiser = StackedAdam(stack.parameters(), torch.full((len(choices),), 1e-3))
    of = stack.batch_of(seeds)

    def stacked():
        logits = stack(x)
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets[of].flatten(), reduction="none"
        ).view(len(choices), batch)
        optimiser.zero_grad()
        losses.sum().div(batch).backward()
        optimiser.step()
        return [losses.detach().mean(dim=1)]

    alone = []
    for row, (layer, seed) in enumerate(choices):
        probe = torch.nn.Sequential(
            torch.nn.Linear(dim, stack.hidden), torch.nn.ReLU(), torch.nn.Linear(stack.hidden, 10)
        ).to(device)
        with torch.no_grad():
            for linear, number in ((probe[0], 1), (probe[2], 2)):
                linear.weight.copy_(getattr(stack, f"weight{number}")[row].T)
                linear.bias.copy_(getattr(stack, f"bias{number}")[row, 0])
        adam = torch.optim.Adam(probe.parameters(), 1e-3, fused=True)
        alone.append((probe, adam, layer, seed))

    def one_by_one():
        losses = []
        for probe, adam, layer, seed in alone:
            loss = F.cross_entropy(probe(x[seed][:, layer]), targets[seed])
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.detach())
        return [torch.stack(losses)]

    def check(contenders):
        for _ in range(2):  # after a step of both the weights must agree, too
            same("probes", contenders["stacked"](), contenders["one by one"]())

    what = f"{len(choices)} probes of {layers} x {dim}, a training step on {batch}"
    return Contest(
        {"stacked": stacked, "one by one": one_by_one},
        [Claim(what, "stacked", "one by one", 1)],
        check,
    )


def training_step(module, x, parameters=None, context=nullcontext):
    """A call that runs a module forward and backward, to its input and its parameters.

    Arguments
    ---------
    module : callable
        From a tensor to a tensor.
    x : torch.Tensor
        Its input.
    parameters : iterable, optional
        Those of `module` where that is a plain function.
    context : callable
        Makes the context of the forward pass.

    Returns
    -------
    callable
        Returns the output, then the gradients, as one list, and leaves none behind.
    """
    x = x.clone().requires_grad_()
    wanted = [x, *(module.parameters() if parameters is None else parameters)]
    generator = torch.Generator().manual_seed(1)
    upstream = None

    def step():
        nonlocal upstream
        with context():
            out = module(x)
        if upstream is None:
            upstream = torch.randn(out.shape, generator=generator).to(out)
        out.backward(upstream)
        results = [out.detach(), *(tensor.grad for tensor in wanted)]
        for tensor in wanted:
            tensor.grad = None
        return results

    return step


def matrix_products(shapes, device):
    """A call with the products of (groups, rows, in, out) layers, forward and both backward."""
    work = [
        (
            torch.randn(groups, rows, fan_in, device=device),
            torch.randn(groups, fan_in, fan_out, device=device),
            torch.randn(groups, rows, fan_out, device=device),
        )
        for groups, rows, fan_in, fan_out in shapes
    ]

    def call():
        for x, weight, gradient in work:
            torch.bmm(x, weight)
            torch.bmm(gradient, weight.transpose(1, 2))
            torch.bmm(x.transpose(1, 2), gradient)

    return call


def count_flops(call):
    """Floating point operations of a call's matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def by_equations(mixing, x):
    """SummaryMixing forward and backward, written out: GELU(W [f(x_t); mean of s(x_t)] + b)."""

    def mlp(layers, h):
        for layer in layers[::2]:
            h = F.gelu(F.linear(h, torch.block_diag(*layer.weight).T, layer.bias))
        return h

    def forward(x):
        summary = mlp(mixing.s, x).mean(dim=1, keepdim=True).expand_as(x)
        return F.gelu(mixing.merge(torch.cat([mlp(mixing.f, x), summary], dim=-1)))

    return training_step(forward, x, mixing.parameters())()


def same(what, ours, theirs, tolerance=1e-4):
    """Raises Disagreement unless two lists of tensors are equal within rounding.

    The allowance is for each tensor, relative to its largest value: sums over thousands of frames
    in another order differ by more than one number does.
    """
    for mine, other in zip(ours, theirs, strict=True):
        error = (mine - other).abs().max() / other.abs().max().clamp(min=1e-3)
        if not error <= tolerance:
            raise Disagreement(f"{what} differ by {error:.1e} of the largest value")
