"""Where rounding would change the result: full float32."""

from contextlib import contextmanager

import torch


@contextmanager
def full_float32(device):
    """Neither autocast nor TF32: tokens and embeddings are a CPU's, to float32's rounding.

    SpeechBrain allows TF32 on import, which keeps 10 bits of a product's mantissa, and torch does
    in convolutions.

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
