"""Block masks, their filling, and interpolation."""

import numpy as np
import pytest
import torch

from speechbrain_music.models.ssl import MaskFill
from speechbrain_music.nnet.masking import interpolate_masked, mask_blocks, nearest_visible


@pytest.mark.parametrize("tokens, block", [(20, 10), (11, 10), (25, 10), (750, 10), (7, 3), (2, 1)])
@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_masks_whole_blocks(tokens, block, probability):
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = mask_blocks(tokens, block, probability, rng)
        assert mask.shape == (tokens,) and mask.any() and not mask.all()
        for start in range(0, tokens, block):
            assert len(set(mask[start : start + block])) == 1


@pytest.mark.parametrize("blocks, probability", [(2, 0.2), (5, 0.2), (75, 0.2), (4, 0.7)])
def test_masked_share(blocks, probability):
    rng = np.random.default_rng(0)
    draws = np.stack([mask_blocks(10 * blocks, 10, probability, rng) for _ in range(4000)])
    # None masked (or all) becomes one masked (or one visible): the expected number moves by one.
    none, everything = (1 - probability) ** blocks, probability**blocks
    share = probability + (none - everything) / blocks
    error = np.sqrt(share * (1 - share) / (4000 * blocks))
    assert abs(draws.mean() - share) < 4 * error
    by_block = draws[:, ::10].mean(axis=0)
    assert np.abs(by_block - share).max() < 4.5 * np.sqrt(share * (1 - share) / 4000)
    for tokens in (0, 1, 10):
        with pytest.raises(ValueError, match=f"{tokens} tokens hold fewer than two blocks of 10"):
            mask_blocks(tokens, 10, probability, rng)


def test_masks_are_filled_in_order():
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(3, 24, 5, generator=generator)
    mask = torch.rand(3, 6, generator=generator) < 0.5
    noise = torch.randn(4 * int(mask.sum()), 5, generator=generator)
    filled = MaskFill()(mel.clone(), mask, noise)
    left = iter(noise)
    for row, frame in np.ndindex(3, 24):
        expected = next(left) if mask[row, frame // 4] else mel[row, frame]
        assert torch.equal(filled[row, frame], expected)


def nearest(visible, here):
    """Positions before, after and nearest, by looking at every one of them."""
    before = max((v for v in visible if v <= here), default=None)
    after = min((v for v in visible if v >= here), default=None)
    before, after = (after if before is None else before), (before if after is None else after)
    return before, after, min(visible, key=lambda v: (abs(v - here), v))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_nearest_visible_by_brute_force(share):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(60, 17, generator=generator) < share
    lengths = torch.randint(1, 18, (60,), generator=generator)
    mask[:, 0] &= lengths > 1  # one visible token in every item
    for row in range(60):
        mask[row, torch.randint(int(lengths[row]), (1,), generator=generator)] = False
    found = torch.stack(nearest_visible(mask, lengths), dim=-1)
    for row, length in enumerate(lengths.tolist()):
        visible = [i for i in range(length) if not mask[row, i]]
        expected = [nearest(visible, here) for here in range(length)]
        assert found[row, :length].tolist() == [list(e) for e in expected]
        assert found[row].max() < length  # never in the padding


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_interpolation_equals_direct_computation(share):
    """Frame by frame, with numpy's interpolation between the frames that face each gap."""
    generator = torch.Generator().manual_seed(int(10 * share))
    lengths, stack, bands = torch.tensor([20, 13]), 4, 3
    mask = torch.rand(2, 20, generator=generator) < share
    mask[0, 3], mask[1, 5], mask[1, 13:] = False, False, False
    mel = torch.randn(2, 20 * stack, bands, generator=generator)
    found = interpolate_masked(mel, mask, lengths)
    place = torch.where(mask.repeat_interleave(stack, dim=1))[0]
    for item, length in enumerate(lengths):
        frames = mask[item].repeat_interleave(stack).numpy()
        here = np.arange(len(frames))
        seen = ~frames & (here < stack * int(length))
        for band in range(bands):
            line = np.interp(here[frames], here[seen], mel[item, seen, band])
            np.testing.assert_allclose(found[place == item, band], line, atol=1e-5)
