"""Single modules: the quantizer, SummaryMixing and the blocks, against SpeechBrain's."""

from functools import partial

import torch
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoderLayer
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.nnet import quantisers
from speechbrain.nnet.attention import RelPosEncXL, RelPosMHAXL
from torch.nn import functional as F

from perf.benchmark import (
    Benchmark,
    Comparison,
    Mismatch,
    assert_same,
    count_flops,
    forward_backward,
    gpu_batch,
)
from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.encoder import MIXERS, from_speechbrain
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
from speechbrain_music.nnet.summary_mixing import SummaryMixing

D_MODEL, NHEAD, DROPOUT = 512, 4, 0.1
TARGETS = {"summary": 2, "attention": 1.3, "rope": None}  # of a block, by mixer
SAME = "outputs and gradients within 1e-4"


def matmul(size="full", device="cpu"):
    """The rate of matrix products in float32: the scale for the other benchmarks."""
    width = {"full": 2048, "quick": 1024, "tiny": 64}[size]
    left, right = torch.randn(2, width, width, device=device)
    label = f"product of {width} x {width} matrices"
    return Benchmark(label, {"torch": lambda: left @ right}, flops={"torch": 2 * width**3})


def quantizer(size="full", device="cpu"):
    """Tokens of 30 s of frames, against SpeechBrain's quantizer of the same weights."""
    steps = gpu_batch(device) * {"full": 750, "quick": 250, "tiny": 4}[size]
    torch.manual_seed(0)
    x = torch.randn(1, steps, 512, device=device)
    ours = RandomProjectionQuantizer(512).to(device)
    theirs = quantisers.RandomProjectionQuantizer(512, cb_dim=16, cb_vocab=8192).to(device)
    theirs.P.copy_(ours.projection[0])
    theirs.CB.copy_(ours.codebook[0])

    def check(candidates):
        differ = int((candidates["ours"]() != candidates["SpeechBrain"]()).sum())
        if differ:
            raise Mismatch(f"quantizer: {differ} of {steps} tokens differ from SpeechBrain's")

    return Benchmark(
        f"quantizer, 8192 x 16, {steps} frames",
        {"ours": lambda: ours(x), "SpeechBrain": torch.no_grad()(lambda: theirs(x))},
        [
            Comparison("time", "ours", "SpeechBrain", 15),
            Comparison("extra memory", "ours", "SpeechBrain", 10, of="memory"),
        ],
        check,
        "equal tokens",
    )


def summary_mixing(size="full", device="cpu"):
    """SummaryMixing forward and backward, against its matrix products and RelPosMHAXL."""
    batch, steps = {"full": (8, 750), "quick": (2, 750), "tiny": (2, 8)}[size]
    batch *= gpu_batch(device)
    torch.manual_seed(0)
    x = torch.randn(batch, steps, D_MODEL, device=device)
    mixing = SummaryMixing(D_MODEL, NHEAD).to(device)
    attention = RelPosMHAXL(D_MODEL, NHEAD).to(device)
    positions = RelPosEncXL(D_MODEL).to(device).make_pe(steps)
    ours = forward_backward(mixing, x)
    products = matrix_products(
        # (groups, rows, in, out) of each layer of f and s, and of the two halves of the merge
        [(NHEAD, batch * steps, D_MODEL // NHEAD, D_MODEL // NHEAD)] * 4
        + [(1, batch * steps, D_MODEL, D_MODEL), (1, batch, D_MODEL, D_MODEL)],
        device,
    )
    flops = count_flops(ours)

    def check(candidates):
        expected = by_equations(mixing, x)
        assert_same("SummaryMixing and its equations", candidates["SummaryMixing"](), expected)
        if flops != (alone := count_flops(candidates["matrix products"])):
            raise Mismatch(f"SummaryMixing has {flops} FLOP, its matrix products {alone}")

    attend = forward_backward(lambda x: attention(x, x, x, positions)[0], x, attention.parameters())
    return Benchmark(
        f"SummaryMixing, ({batch}, {steps}, {D_MODEL}), forward + backward",
        {"SummaryMixing": ours, "matrix products": products, "RelPosMHAXL": attend},
        [
            Comparison("against its matrix products", "SummaryMixing", "matrix products", 0.8),
            Comparison("against attention", "SummaryMixing", "RelPosMHAXL", 2),
        ],
        check,
        f"the written-out equations: {SAME}; equal FLOP",
        flops={"SummaryMixing": flops, "matrix products": flops},
    )


def branchformer(size="full", device="cpu"):
    """A Branchformer block forward and backward, against SpeechBrain's."""
    theirs = partial(BranchformerEncoderLayer, D_MODEL, NHEAD, dropout=DROPOUT)
    return _blocks("Branchformer", BranchformerLayer, theirs, size, device)


def conformer(size="full", device="cpu"):
    """A Conformer block forward and backward, against SpeechBrain's."""
    theirs = partial(ConformerEncoderLayer, D_MODEL, d_ffn=2048, nhead=NHEAD, dropout=DROPOUT)
    return _blocks("Conformer", ConformerLayer, theirs, size, device)


def _blocks(name, make, make_theirs, size, device):
    batch, steps = {"full": (4, 750), "quick": (1, 250), "tiny": (2, 16)}[size]
    batch *= gpu_batch(device)
    torch.manual_seed(0)
    x = torch.randn(batch, steps, D_MODEL, device=device)
    positions = RelPosEncXL(D_MODEL).to(device).make_pe(steps)
    theirs = make_theirs().to(device)
    blocks = {
        mixer: make(
            D_MODEL, partial(MIXERS[mixer], D_MODEL, NHEAD, dropout=DROPOUT), dropout=DROPOUT
        ).to(device)
        for mixer in TARGETS
    }
    blocks["attention"].load_state_dict(from_speechbrain(theirs.state_dict()))
    candidates = {mixer: forward_backward(block, x) for mixer, block in blocks.items()}
    candidates["SpeechBrain"] = forward_backward(
        lambda x: theirs(x, pos_embs=positions)[0], x, theirs.parameters()
    )

    def check(candidates):
        pair = (theirs, blocks["attention"])
        for module in pair:
            module.eval()  # dropout draws differ
        try:
            found, expected = candidates["attention"](), candidates["SpeechBrain"]()
        finally:
            for module in pair:
                module.train()
        assert_same(f"{name}: ours with attention and SpeechBrain's", found, expected)

    return Benchmark(
        f"{name} block, ({batch}, {steps}, {D_MODEL}), forward + backward",
        candidates,
        [Comparison(mixer, mixer, "SpeechBrain", TARGETS[mixer]) for mixer in TARGETS],
        check,
        f"attention: {SAME}",
    )


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


def by_equations(mixing, x):
    """SummaryMixing forward and backward as written: GELU(W [f(x_t); mean of s(x_t)] + b)."""

    def mlp(layers, h):
        for layer in layers[::2]:
            h = F.gelu(F.linear(h, torch.block_diag(*layer.weight).T, layer.bias))
        return h

    def forward(x):
        summary = mlp(mixing.s, x).mean(dim=1, keepdim=True).expand_as(x)
        return F.gelu(mixing.merge(torch.cat([mlp(mixing.f, x), summary], dim=-1)))

    return forward_backward(forward, x, mixing.parameters())()
