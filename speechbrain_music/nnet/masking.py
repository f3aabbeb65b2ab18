"""Block masks on a fixed grid, and interpolation of masked frames."""

import numpy as np
import torch


def mask_blocks(tokens, block, probability, rng):
    """Draws which tokens of one item are masked.

    The grid starts at token 0 and a last partial block counts. Each block of `block` tokens (10 of
    40 ms are 400 ms) is masked with the given probability, drawn from the numpy Generator `rng`; if
    that masks none or all of them, one block at random is flipped. Returns (tokens,) bool, True =
    masked. Raises ValueError if the item holds fewer than two blocks.
    """
    blocks = -(-tokens // block)
    if blocks < 2:
        raise ValueError(
            f"{tokens} tokens hold fewer than two blocks of {block}: "
            "one block must be masked and one visible"
        )
    masked = rng.random(blocks) < probability
    if masked.all() or not masked.any():
        flipped = rng.integers(blocks)
        masked[flipped] = ~masked[flipped]
    return np.repeat(masked, block)[:tokens]


def nearest_visible(mask, lengths):
    """For each token the nearest visible one of its item, the earlier one of two equally near.

    (B, T) mask, True = masked, and (B,) valid tokens to three (B, T) int64 positions: the last
    visible token up to here, the next one from here on (each is the other where there is none), and
    the nearer of the two.
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    visible = ~mask & (steps < lengths.unsqueeze(1))
    before = torch.where(visible, steps, -1).cummax(dim=1).values
    after = torch.where(visible, steps, len(steps)).flip(1).cummin(dim=1).values.flip(1)
    before, after = before.where(before >= 0, after), after.where(after < len(steps), before)
    return before, after, torch.where(steps - before <= after - steps, before, after)


def interpolate_masked(mel, mask, lengths):
    """Interpolates each gap of masked frames linearly between the neighbouring visible frames.

    At an item's edge the one visible neighbour is held. (B, T * stack, bands) mel, (B, T) mask,
    True = masked, and (B,) valid tokens to (masked tokens * stack, bands), in the order of the
    mask's True values; the values of masked frames are not read.
    """
    stack = mel.shape[1] // mask.shape[1]
    before, after, _ = nearest_visible(mask, lengths)
    item, step = torch.where(mask)
    before, after = before[item, step], after[item, step]
    left, right = stack * before + stack - 1, stack * after  # the frames that face the gap
    left = torch.where(before > step, right, left)  # no visible token before: hold the next one
    right = torch.where(after < step, left, right)
    here = stack * step.unsqueeze(1) + torch.arange(stack, device=mel.device)
    share = (here - left.unsqueeze(1)) / (right - left).clamp(min=1).unsqueeze(1)
    start, stop = mel[item, left].unsqueeze(1), mel[item, right].unsqueeze(1)
    return torch.lerp(start, stop, share.to(mel.dtype).unsqueeze(-1)).flatten(0, 1)
