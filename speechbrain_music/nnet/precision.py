"""Full float32 where rounding would change the result."""

from contextlib import contextmanager

import torch


@contextmanager
def full_float32(device):
    """Turns autocast and TF32 off: tokens and embeddings equal a CPU's up to float32 rounding.

    SpeechBrain allows TF32 on import, torch allows it in convolutions: it keeps 10 bits of a
    product's mantissa.

    Example
    -------
    >>> with full_float32(torch.device("cpu")), torch.no_grad():
    ...     torch.backends.cuda.matmul.allow_tf32
    False
    """
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    allowed = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for place, before in zip(places, allowed, strict=True):
            place.allow_tf32 = before
