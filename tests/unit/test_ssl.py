"""BEST-RQ: nothing of what is masked reaches the encoder, and the loss is what it says it is."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.ssl import BestRQ, stack_frames
from speechbrain_music.nnet.masking import interpolate_masked
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer

SYSTEMS = list(product(("branchformer", "conformer"), ("summary", "attention", "rope")))


def make_model(
    block="branchformer",
    mixer="summary",
    reconstruct="masked",
    codebooks=1,
    width=16,
    start="none",
    mask_fill="noise",
):
    torch.manual_seed(0)
    encoder = make_encoder(block, mixing, 1, width, 2, 2 * width, frontend_channels=4, dropout=0.0)
    quantizer = RandomProjectionQuantizer(512, 8, 64, codebooks)
    model = BestRQ(encoder, quantizer, reconstruct, start, mask_fill)
    model.mel_head.reset_parameters()  # from a line it would begin at 0
    return model


def random_batch(lengths=(30, 23), seed=1):
    generator = torch.Generator().manual_seed(seed)
    steps = max(lengths)
    mel = torch.randn(len(lengths), 4 * steps, 128, generator=generator)
    mask = (torch.arange(steps) // 5 % 3 == 1).expand(len(lengths), -1).clone()
    for row, length in enumerate(lengths):
        mel[row, 4 * length :], mask[row, length:] = 0, False
    noise = 0.1 * torch.randn(4 * int(mask.sum()), 128, generator=generator)
    return mel, torch.tensor(lengths), mask, noise


@pytest.mark.parametrize("start, mask_fill", [("none", "noise"), ("interpolation", "embedding")])
@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
@torch.no_grad()
def test_what_is_masked_cannot_be_seen(system, start, mask_fill):
    model = make_model(*system, start=start, mask_fill=mask_fill).eval()
    mel, lengths, mask, noise = random_batch()
    before = model(mel, lengths, mask, noise)
    frames = mask.repeat_interleave(4, dim=1)
    hidden, visible = mel.clone(), mel.clone()
    hidden[frames] += torch.randn_like(hidden[frames])
    visible[~frames] += torch.randn_like(visible[~frames])
    after = model(hidden, lengths, mask, noise)
    assert torch.equal(after.logits, before.logits) and torch.equal(after.mel, before.mel)
    assert not torch.equal(after.tokens, before.tokens)
    after = model(visible, lengths, mask, noise)
    assert not torch.equal(after.logits, before.logits)
    assert torch.equal(after.tokens, before.tokens)


@torch.no_grad()
def test_from_a_line_training_begins_at_that_line():
    model = make_model()
    model = BestRQ(model.encoder, model.quantizer, mel_residual="interpolation").eval()
    mel, lengths, mask, noise = random_batch()
    line = interpolate_masked(mel, mask, lengths).reshape(-1, 512)
    assert torch.equal(model(mel, lengths, mask, noise).mel, line)


@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize("reconstruct", ["masked", "all"])
@torch.no_grad()
def test_loss_by_hand(reconstruct, codebooks):
    model = make_model(reconstruct=reconstruct, codebooks=codebooks).eval()
    mel, lengths, mask, noise = random_batch()
    prediction = model(mel, lengths, mask, noise)
    seen = mel.clone()
    seen[mask.repeat_interleave(4, dim=1)] = noise
    out, target = model.encoder(seen, lengths)[0], stack_frames(mel)
    truth = model.quantizer(target).view(2, 30, codebooks)
    token_loss = mel_loss = 0.0
    place = 0
    for row, length in enumerate(lengths.tolist()):
        error = (model.mel_head(out[row]) - target[row]).square().mean(dim=-1)
        if reconstruct == "all":
            mel_loss += error[:length].mean() * mask[row].sum()
        for step in torch.where(mask[row])[0].tolist():
            scores = F.log_softmax(model.token_head(out[row, step]).view(codebooks, 64), dim=-1)
            for book, token in enumerate(truth[row, step].tolist()):
                token_loss -= scores[book, token] / codebooks
            mel_loss += error[step] if reconstruct == "masked" else 0
            assert torch.equal(prediction.tokens[place], truth[row, step])
            torch.testing.assert_close(prediction.logits[place].log_softmax(dim=-1), scores)
            place += 1
    assert place == len(prediction.tokens)
    torch.testing.assert_close(prediction.token_loss, token_loss)
    torch.testing.assert_close(prediction.mel_loss, mel_loss)


def test_no_masked_token_is_no_loss_and_a_finite_gradient():
    for reconstruct in ("masked", "all"):
        model = make_model(reconstruct=reconstruct)
        mel, lengths, mask, _ = random_batch()
        prediction = model(mel, lengths, torch.zeros_like(mask), torch.zeros(0, 128))
        assert prediction.token_loss == 0 and prediction.mel_loss == 0
        (prediction.token_loss + prediction.mel_loss).backward()
        # Zeros, not None: processes that add up their gradients wait for every one of them.
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("reconstruct", ["masked", "all"])
@torch.no_grad()
def test_a_batch_is_the_sum_of_its_items(reconstruct):
    model = make_model(reconstruct=reconstruct).eval()
    mel, lengths, mask, noise = random_batch()
    noises = noise.split([4 * int(row.sum()) for row in mask])
    together = model(mel, lengths, mask, noise)
    alone = [
        model(mel[i : i + 1, : 4 * n], lengths[i : i + 1], mask[i : i + 1, :n], noises[i])
        for i, n in enumerate(lengths.tolist())
    ]
    for name in ("token_loss", "mel_loss"):
        parts = sum(getattr(prediction, name) for prediction in alone)
        torch.testing.assert_close(getattr(together, name), parts, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_learned_vector_stands_in_every_masked_token():
    model = make_model(mask_fill="embedding").eval()
    mel, lengths, mask, noise = random_batch()
    prediction = model(mel, lengths, mask, noise)
    assert torch.equal(prediction.logits, model(mel, lengths, mask, 9 * noise).logits)
    vector = model.mask_embedding
    model.mask_embedding = None
    seen = model(mel, lengths, mask, vector.repeat(int(mask.sum()), 1))
    assert torch.equal(prediction.logits, seen.logits)


def test_a_learned_vector_learns():
    model = make_model(mask_fill="embedding")
    prediction = model(*random_batch())
    (prediction.token_loss + prediction.mel_loss).backward()
    assert model.mask_embedding.shape == (4, 128) and model.mask_embedding.grad.abs().min() > 0


@pytest.mark.parametrize(
    "choice, words",
    [
        ({"reconstruct": "both"}, "'both': choose masked or all"),
        ({"mask_fill": "zeros"}, "'zeros': choose noise or embedding"),
    ],
)
def test_a_wrong_choice_names_the_right_ones(choice, words):
    with pytest.raises(ValueError, match=words):
        make_model(**choice)


def test_four_segments_are_learned_from_what_is_visible_and_from_nothing_else():
    model = make_model(width=64)
    mel, lengths, mask, _ = random_batch(lengths=(40, 40, 40, 40))
    assert (mask == mask[0]).all()  # so that the mask does not give the item away
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def predict(seen):
        # New noise every time: it must not give the item away either.
        noise = 0.1 * torch.randn(4 * int(mask.sum()), 128)
        mixed = seen.clone()
        frames = mask.repeat_interleave(4, dim=1)
        mixed[frames] = mel[frames]  # the targets stay the item's own
        return model(mixed, lengths, mask, noise)

    def accuracy(prediction):
        hits = prediction.logits.argmax(dim=-1) == prediction.tokens
        return hits.float().mean().item()

    for _ in range(60):
        prediction = predict(mel)
        loss = prediction.token_loss + prediction.mel_loss
        optimizer.zero_grad()
        (loss / mask.sum()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        own, others = predict(mel), predict(mel.roll(1, dims=0))
    commonest = own.tokens.flatten().bincount().max().item() / own.tokens.numel()
    assert accuracy(own) > 0.95
    assert torch.equal(own.tokens, others.tokens)
    assert accuracy(others) <= commonest + 0.05
