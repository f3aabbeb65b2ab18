"""Gradient scaling and clipping over all parameters at once."""

import torch


@torch.no_grad()
def scale_and_clip(parameters, scale, max_norm):
    """Multiplies all gradients by `scale`, then bounds their common norm.

    SpeechBrain 1.1.2 clips its optimiser's first parameter group only.

    Arguments
    ---------
    parameters : iterable of torch.nn.Parameter
        Those without a gradient are left out.
    scale : float
        Applied before clipping.
    max_norm : float
        Bound on the l2 norm over all gradients, above 0.

    Returns
    -------
    float
        The norm after scaling and before clipping; not finite if any gradient is not.

    Example
    -------
    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> scale_and_clip([weight], scale=2.0, max_norm=1.0)
    10.0
    >>> round(weight.grad.norm().item(), 4)
    1.0
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = scale * torch.nn.utils.get_total_norm(gradients).item()
    torch._foreach_mul_(gradients, scale * min(1.0, max_norm / (norm + 1e-6)))
    return norm
