"""Every block with every mixer: size, padding, gradients, cost, SpeechBrain's numbers."""

from functools import partial
from itertools import product

import pytest
import torch
from bestrq import BestRQ
from speechbrain.lobes.models.transformer.Branchformer import BranchformerEncoder
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder
from speechbrain.nnet.attention import RelPosEncXL
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speechbrain_music.models.branchformer import BranchformerLayer, ConvolutionBranch
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.encoder import MIXERS, make_encoder
from speechbrain_music.models.initialisation import initialise
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer

LAYERS = {"branchformer": BranchformerLayer, "conformer": ConformerLayer}
SYSTEMS = [(*system, {}) for system in product(LAYERS, ("summary", "attention", "rope"))]
SYSTEMS += [("conformer", "summary", {"frame_rate": 50})]


@pytest.fixture(params=SYSTEMS, ids=lambda s: "-".join(map(str, [*s[:2], *s[2].values()])))
def system(request):
    return request.param


def randomise(module, factor=1.0):
    """Random values for what SpeechBrain initialises with 0, 1 or, as one gate, 1e-6."""
    torch.manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, ConvolutionBranch):
                part.csgu.conv.conv.weight.normal_(std=0.2)
        for parameter in module.parameters():
            if parameter.ndim == 1:  # biases at 0 and norms at 1 hide what is missing
                parameter.add_(0.1 * torch.randn_like(parameter))
            parameter.mul_(factor)
    return module


def tiny(block, mixer, choice, factor=1.0, dropout=0.0):
    torch.manual_seed(0)
    encoder = make_encoder(block, mixer, 2, 16, 2, 16, 31, 2, dropout, True, **choice)
    return randomise(encoder, factor)


def ssl_batch():
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(2, 160, 128, generator=generator)
    mask = (torch.arange(40) // 10 % 2 == 1).expand(2, -1).clone()
    lengths = torch.tensor([40, 33])
    mask[1, 33:], mel[1, 132:] = False, 0
    return mel, lengths, mask, 0.1 * torch.randn(4 * int(mask.sum()), 128, generator=generator)


def layer(block, mixer, width=32, **options):
    return LAYERS[block](width, partial(MIXERS[mixer], width), **options)


def test_parameter_counts():
    counts = {
        pair: sum(p.numel() for p in layer(*pair, 512).parameters())
        for pair in product(LAYERS, ("summary", "attention"))
    }
    assert counts == {
        ("branchformer", "summary"): 3_730_944,
        ("branchformer", "attention"): 4_254_208,
        ("conformer", "summary"): 5_798_912,
        ("conformer", "attention"): 6_322_176,
    }
    saved = {b: 1 - counts[b, "summary"] / counts[b, "attention"] for b in LAYERS}
    assert saved == pytest.approx({"branchformer": 0.123, "conformer": 0.083}, abs=5e-4)
    ratio = counts["branchformer", "summary"] / counts["conformer", "attention"]
    assert ratio == pytest.approx(0.59, abs=5e-3)


@pytest.mark.parametrize("factor", [1.0, 2.0], ids=["weights", "doubled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@torch.no_grad()
def test_padded_item_equals_item_alone(system, factor, dtype):
    encoder = tiny(*system, factor).eval().to(dtype)
    lengths = torch.tensor([1, 2, 31, 750])
    mel = torch.randn(4, 3000, 128, dtype=dtype, generator=torch.Generator().manual_seed(2))
    for item, length in zip(mel, lengths, strict=True):
        item[4 * length :] = 0  # as LogMel leaves it
    if (system[1], dtype) == ("attention", torch.float64):
        # RelPosMHAXL multiplies its float32 softmax with float64 values. If this raises no more,
        # the limit has gone and this branch can go too.
        with pytest.raises(RuntimeError, match="Double"):
            encoder(mel[:1, :40])
        return
    out, hidden, returned = encoder(mel, lengths)
    assert len(hidden) == 3 and hidden[-1] is out and torch.equal(returned, lengths)
    bound = 1e-5 if dtype == torch.float32 else 1e-10
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(mel[row : row + 1, : 4 * length])[1]
        for layer, (batch, single) in enumerate(zip(hidden, alone, strict=True)):
            assert not batch[row, length:].any()
            error = (batch[row, :length] - single[0]).abs().max()
            assert error <= bound * max(1, single.abs().max()), (length, layer, error)


@torch.no_grad()
def test_padding_values_have_no_effect(system):
    block, mixer, _ = system
    tested = randomise(layer(block, mixer, ffn_units=32)).eval()
    lengths = torch.tensor([40, 1, 7, 0])  # the last one is all padding
    mask = torch.arange(40) >= lengths.unsqueeze(1)
    x = torch.randn(4, 40, 32).masked_fill(mask.unsqueeze(-1), 0)
    clean = tested(x, mask)
    dirty = tested(x + 1e4 * mask.unsqueeze(-1) * torch.randn(4, 40, 32), mask)
    assert torch.equal(clean[~mask], dirty[~mask])
    assert dirty.isfinite().all()


def test_every_parameter_gets_a_gradient_also_in_bfloat16(system):
    encoder = tiny(*system)
    model = BestRQ(encoder=encoder, quantizer=RandomProjectionQuantizer(512, codebook_size=64))
    batch = ssl_batch()
    prediction = model(*batch)
    prediction.loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    out = encoder(torch.randn(2, 80, 128), torch.tensor([20, 0]))[0]  # an item of padding only
    out.square().sum().backward()
    assert not out[1].any() and all(p.grad.isfinite().all() for p in encoder.parameters())
    expected = prediction.tokens
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model(*batch)
            loss = prediction.loss
        assert prediction.logits.dtype == torch.bfloat16  # or autocast did nothing
        assert torch.equal(prediction.tokens, expected) and loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert all(p.isfinite().all() and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("steps", [40, 100])
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_equals_speechbrain(name, steps, tmp_path):
    theirs = {
        "branchformer": lambda: BranchformerEncoder(2, 32, 4, csgu_linear_units=64),
        "conformer": lambda: ConformerEncoder(2, 32, 48, 4),
    }[name]()
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        parameter.mul_(2).add_(0.1 * torch.randn_like(parameter))
    units = {"branchformer": 64, "conformer": 48}[name]
    ours = make_encoder(name, "attention", 2, 32, 4, units, frontend_channels=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "encoder.ckpt")
    rows = initialise({"encoder": ours}, tmp_path, ("blocks", "norm"))
    assert {row["part"] for row in rows if row["status"] != "loaded"} == {"frontend"}
    x = torch.randn(2, steps, 32)
    expected = theirs.eval()(x, pos_embs=RelPosEncXL(32)(x))[0]
    result = x
    for block in ours.layers:
        result = block(result)
    torch.testing.assert_close(ours.norm(result), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def flops(encoder, tokens):
    # torch counts no FLOPs of its fused CPU attention, so "rope" takes the plain one.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoder(torch.zeros(1, 4 * tokens, 128))
    return counter.get_total_flops()


def test_flops_against_length(system):
    encoder = tiny(*system).eval()
    growth = flops(encoder, 400) / flops(encoder, 200)
    if system[1] == "summary":
        assert growth == pytest.approx(2, rel=0.01)
    else:
        assert growth > 2.1


def test_gradient_checkpointing_gives_equal_gradients(system):
    kept, again = tiny(*system, dropout=0.3), tiny(*system, dropout=0.3)
    again.gradient_checkpointing = True
    mel, lengths = torch.randn(2, 80, 128), torch.tensor([20, 13])
    for encoder in (kept, again):
        torch.manual_seed(3)  # of dropout
        encoder(mel, lengths)[0].square().sum().backward()
    for one, two in zip(kept.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    assert not torch.equal(kept(mel)[0], kept(mel)[0])
    assert torch.equal(kept.eval()(mel)[0], kept(mel)[0])  # without dropout


def test_gradient_checkpointing_saves_memory():
    encoder = tiny("branchformer", "summary", {})
    encoder.frontend.requires_grad_(False)
    weights = {parameter.data_ptr() for parameter in encoder.parameters()}

    def kept(gradient_checkpointing):
        saved = []
        encoder.gradient_checkpointing = gradient_checkpointing
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, id):
            encoder(torch.randn(1, 400, 128))
        return sum(x.numel() for x in saved if x.data_ptr() not in weights)

    assert kept(True) < kept(False) / 4


@pytest.mark.parametrize(
    "choice, words",
    [
        ({"block": "transformer"}, ["transformer", "branchformer", "conformer"]),
        ({"mixer": "sum"}, ["sum", "summary", "attention", "rope"]),
        ({"d_model": 30, "mixer": "summary"}, ["30", "multiple of 4"]),
        ({"d_model": 30, "mixer": "attention"}, ["30", "multiple of 4"]),
        ({"d_model": 36, "mixer": "rope"}, ["36", "multiple of 8"]),
        ({"frame_rate": 100}, ["100", "25 or 50"]),
    ],
)
def test_invalid_choices(choice, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        make_encoder(**{"num_layers": 1, "d_model": 32} | choice)
    assert all(word in str(caught.value) for word in words)
