"""Single modules: the quantizer, SummaryMixing and the blocks, against SpeechBrain's."""

from functools import partial

import torch
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoderLayer
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.nnet import quantisers
from speechbrain.nnet.attention import RelPosEncXL, RelPosMHAXL

from perf.benchmark import Benchmark, forward_backward, gpu_batch
from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.encoder import MIXERS
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
from speechbrain_music.nnet.summary_mixing import SummaryMixing

D_MODEL, NHEAD, DROPOUT = 512, 4, 0.1


def quantizer(frames, device, folder):
    """Tokens of 30 s of frames, against SpeechBrain's quantizer."""
    x, _ = _inputs((1, frames), device)
    ours = RandomProjectionQuantizer(512).to(device)
    theirs = quantisers.RandomProjectionQuantizer(512, cb_dim=16, cb_vocab=8192).to(device)
    sides = {"ours": lambda: ours(x), "SpeechBrain": torch.no_grad()(lambda: theirs(x))}
    label = f"quantizer, 8192 x 16, {x[..., 0].numel()} frames"
    return Benchmark(label, sides, memory_of=sides)


def summary_mixing(size, device, folder):
    """SummaryMixing forward and backward, against SpeechBrain's relative attention."""
    x, positions = _inputs(size, device)
    mixing = SummaryMixing(D_MODEL, NHEAD).to(device)
    attention = RelPosMHAXL(D_MODEL, NHEAD).to(device)
    attend = forward_backward(lambda x: attention(x, x, x, positions)[0], x)
    sides = {"SummaryMixing": forward_backward(mixing, x), "RelPosMHAXL": attend}
    return Benchmark(f"SummaryMixing, {tuple(x.shape)}, forward + backward", sides)


def branchformer(size, device, folder):
    """A Branchformer block forward and backward, against SpeechBrain's."""
    theirs = BranchformerEncoderLayer(D_MODEL, NHEAD, dropout=DROPOUT)
    return _blocks("Branchformer", BranchformerLayer, theirs, size, device)


def conformer(size, device, folder):
    """A Conformer block forward and backward, against SpeechBrain's."""
    theirs = ConformerEncoderLayer(D_MODEL, d_ffn=2048, nhead=NHEAD, dropout=DROPOUT)
    return _blocks("Conformer", ConformerLayer, theirs, size, device)


def _blocks(name, make, theirs, size, device):
    x, positions = _inputs(size, device)
    theirs, candidates = theirs.to(device), {}
    for mixer in MIXERS:
        make_mixer = partial(MIXERS[mixer], D_MODEL, NHEAD, dropout=DROPOUT)
        block = make(D_MODEL, make_mixer, dropout=DROPOUT).to(device)
        candidates[mixer] = forward_backward(block, x)
    candidates["SpeechBrain"] = forward_backward(lambda x: theirs(x, pos_embs=positions)[0], x)
    return Benchmark(f"{name} block, {tuple(x.shape)}, forward + backward", candidates)


def _inputs(size, device):
    """Items on that device, and SpeechBrain's relative positions for their tokens."""
    torch.manual_seed(0)
    items, tokens = size
    x = torch.randn(items * gpu_batch(device), tokens, D_MODEL, device=device)
    return x, RelPosEncXL(D_MODEL).to(device).make_pe(tokens)
