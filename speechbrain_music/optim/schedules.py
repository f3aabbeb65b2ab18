"""Learning rate schedules as functions of the step, without a state to save."""

import math


def warmup_cosine(step, warmup, total, floor=0.0):
    """Factor on the learning rate after `step` steps: linear warm-up, then a cosine to `floor`.

    Example
    -------
    >>> [round(warmup_cosine(step, 2, 6), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
