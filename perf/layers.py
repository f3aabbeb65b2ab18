"""Single modules: the quantizer, SummaryMixing and the blocks, against SpeechBrain's."""

from functools import partial

import torch
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoderLayer
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.nnet import quantisers
from speechbrain.nnet.attention import RelPosEncXL, RelPosMHAXL

from perf import SIZES
from perf.benchmark import Benchmark, Comparison, forward_backward, gpu_batch
from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.encoder import MIXERS
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
from speechbrain_music.nnet.summary_mixing import SummaryMixing

D_MODEL, NHEAD, DROPOUT = 512, 4, 0.1
TARGETS = {"summary": 2, "attention": 1.3, "rope": None}  # of a block, by mixer


def quantizer(size="full", device="cpu", folder=None):
    """Tokens of 30 s of frames, against SpeechBrain's quantizer."""
    steps = gpu_batch(device) * SIZES["quantizer_steps"][size]
    torch.manual_seed(0)
    x = torch.randn(1, steps, 512, device=device)
    ours = RandomProjectionQuantizer(512).to(device)
    theirs = quantisers.RandomProjectionQuantizer(512, cb_dim=16, cb_vocab=8192).to(device)

    return Benchmark(
        f"quantizer, 8192 x 16, {steps} frames",
        {"ours": lambda: ours(x), "SpeechBrain": torch.no_grad()(lambda: theirs(x))},
        [
            Comparison("time", "ours", "SpeechBrain", 15),
            Comparison("extra memory", "ours", "SpeechBrain", 10, of="memory"),
        ],
    )


def summary_mixing(size="full", device="cpu", folder=None):
    """SummaryMixing forward and backward, against SpeechBrain's relative attention."""
    x, positions = _inputs(SIZES["mixer"][size], device)
    mixing = SummaryMixing(D_MODEL, NHEAD).to(device)
    attention = RelPosMHAXL(D_MODEL, NHEAD).to(device)
    attend = forward_backward(lambda x: attention(x, x, x, positions)[0], x, attention.parameters())
    return Benchmark(
        f"SummaryMixing, {tuple(x.shape)}, forward + backward",
        {"SummaryMixing": forward_backward(mixing, x), "RelPosMHAXL": attend},
        [Comparison("against attention", "SummaryMixing", "RelPosMHAXL", 2)],
    )


def branchformer(size="full", device="cpu", folder=None):
    """A Branchformer block forward and backward, against SpeechBrain's."""
    theirs = partial(BranchformerEncoderLayer, D_MODEL, NHEAD, dropout=DROPOUT)
    return _blocks("Branchformer", BranchformerLayer, theirs, size, device)


def conformer(size="full", device="cpu", folder=None):
    """A Conformer block forward and backward, against SpeechBrain's."""
    theirs = partial(ConformerEncoderLayer, D_MODEL, d_ffn=2048, nhead=NHEAD, dropout=DROPOUT)
    return _blocks("Conformer", ConformerLayer, theirs, size, device)


def _blocks(name, make, make_theirs, size, device):
    x, positions = _inputs(SIZES["block"][size], device)
    theirs = make_theirs().to(device)
    ours, candidates = {}, {}
    for mixer in TARGETS:
        make_mixer = partial(MIXERS[mixer], D_MODEL, NHEAD, dropout=DROPOUT)
        ours[mixer] = make(D_MODEL, make_mixer, dropout=DROPOUT).to(device)
        candidates[mixer] = forward_backward(ours[mixer], x)
    candidates["SpeechBrain"] = forward_backward(
        lambda x: theirs(x, pos_embs=positions)[0], x, theirs.parameters()
    )

    return Benchmark(
        f"{name} block, {tuple(x.shape)}, forward + backward",
        candidates,
        [Comparison(mixer, mixer, "SpeechBrain", TARGETS[mixer]) for mixer in TARGETS],
    )


def _inputs(sizes, device):
    """Items on that device, and SpeechBrain's relative positions for their tokens."""
    torch.manual_seed(0)
    batch, steps = sizes
    x = torch.randn(batch * gpu_batch(device), steps, D_MODEL, device=device)
    return x, RelPosEncXL(D_MODEL).to(device).make_pe(steps)
