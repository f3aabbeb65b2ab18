"""BEST-RQ: masked frames do not reach the encoder; the loss equals its definition."""

from itertools import product

import pytest
import torch
from bestrq import BestRQ
from torch.nn import functional as F

from speechbrain_music.models.ssl import stack_frames, tokenize
from speechbrain_music.nnet.masking import interpolate_masked

SYSTEMS = list(product(("branchformer", "conformer"), ("summary", "attention", "rope")))


def random_batch(lengths=(30, 23)):
    generator = torch.Generator().manual_seed(1)
    steps = max(lengths)
    mel = torch.randn(len(lengths), 4 * steps, 128, generator=generator)
    mask = (torch.arange(steps) // 5 % 3 == 1).expand(len(lengths), -1).clone()
    for row, length in enumerate(lengths):
        mel[row, 4 * length :], mask[row, length:] = 0, False
    noise = 0.1 * torch.randn(4 * int(mask.sum()), 128, generator=generator)
    return mel, torch.tensor(lengths), mask, noise


@pytest.mark.parametrize("residual, mask_fill", [("none", "noise"), ("interpolation", "embedding")])
@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
@torch.no_grad()
def test_masked_frames_do_not_reach_the_encoder(system, residual, mask_fill):
    model = BestRQ(*system, mel_residual=residual, mask_fill=mask_fill).eval()
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
def test_mel_residual_starts_at_interpolation():
    model = BestRQ(mel_residual="interpolation").eval()
    mel, lengths, mask, noise = random_batch()
    line = interpolate_masked(mel, mask, lengths).reshape(-1, 512)
    assert torch.equal(model(mel, lengths, mask, noise).mel, line)


@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize("reconstruct", ["masked", "all"])
@torch.no_grad()
def test_loss_equals_direct_computation(reconstruct, codebooks):
    model = BestRQ(reconstruct=reconstruct, codebooks=codebooks).eval()
    mel, lengths, mask, noise = random_batch()
    prediction = model(mel, lengths, mask, noise)
    seen = mel.clone()
    seen[mask.repeat_interleave(4, dim=1)] = noise
    out, target = model.encoder(seen, lengths)[0], stack_frames(mel)
    truth = tokenize(model.quantizer, target)
    cross_entropy = mel_mse = 0.0
    place = 0
    for row, length in enumerate(lengths.tolist()):
        error = (model.mel_head(out[row]) - target[row]).square().mean(dim=-1)
        if reconstruct == "all":
            mel_mse += error[:length].mean() * mask[row].sum()
        for step in torch.where(mask[row])[0].tolist():
            scores = F.log_softmax(model.token_head(out[row, step]).view(codebooks, 64), dim=-1)
            for book, token in enumerate(truth[row, step].tolist()):
                cross_entropy -= scores[book, token] / codebooks
            mel_mse += error[step] if reconstruct == "masked" else 0
            assert torch.equal(prediction.tokens[place], truth[row, step])
            torch.testing.assert_close(prediction.logits[place].log_softmax(dim=-1), scores)
            place += 1
    assert place == len(prediction.tokens)
    torch.testing.assert_close(prediction.cross_entropy, cross_entropy)
    torch.testing.assert_close(prediction.mel_mse, mel_mse)


def test_batch_without_masked_tokens():
    for reconstruct in ("masked", "all"):
        model = BestRQ(reconstruct=reconstruct)
        mel, lengths, mask, _ = random_batch()
        prediction = model(mel, lengths, torch.zeros_like(mask), torch.zeros(0, 128))
        assert prediction.cross_entropy == 0 and prediction.mel_mse == 0
        prediction.loss.backward()
        # Zeros, not None: processes that add up their gradients wait for every one of them.
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_mask_embedding_replaces_masked_tokens_and_is_trained():
    model = BestRQ(mask_fill="embedding").eval()
    mel, lengths, mask, noise = random_batch()
    prediction = model(mel, lengths, mask, noise)
    prediction.loss.backward()
    assert model.mask.embedding.grad.abs().min() > 0
    assert torch.equal(prediction.logits, model(mel, lengths, mask, 9 * noise).logits)
    embedding = model.mask.embedding
    model.mask.embedding = None
    seen = model(mel, lengths, mask, embedding.repeat(int(mask.sum()), 1))
    assert torch.equal(prediction.logits, seen.logits)
    for wrong in ({"mel_residual": "zeros"}, {"mask_fill": "zeros"}):
        with pytest.raises(ValueError, match="'zeros': choose no"):
            BestRQ(**wrong)


def test_overfits_four_segments_without_leak():
    model = BestRQ(width=64)
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
        optimizer.zero_grad()
        (prediction.loss / mask.sum()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        own, others = predict(mel), predict(mel.roll(1, dims=0))
    most_frequent = own.tokens.flatten().bincount().max().item() / own.tokens.numel()
    assert accuracy(own) > 0.95
    assert torch.equal(own.tokens, others.tokens)
    assert accuracy(others) <= most_frequent + 0.05
