"""Gradient scaling and clipping over all parameters at once."""

import torch


@torch.no_grad()
def scale_and_clip(parameters, scale, max_norm):
    """Multiplies all gradients by `scale`, then bounds their common l2 norm by `max_norm`.

    Returns the norm after scaling and before clipping, not finite if any gradient is not.
    SpeechBrain 1.1.2 clips its optimiser's first parameter group only.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = scale * torch.nn.utils.get_total_norm(gradients).item()
    torch._foreach_mul_(gradients, scale * min(1.0, max_norm / (norm + 1e-6)))
    return norm
