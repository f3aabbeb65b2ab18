"""Where rounding would change the result's kind: full float32."""

from contextlib import contextmanager

import torch


@contextmanager
def full_float32(device):
    """Neither autocast nor TF32: a token must not depend on the precision of training.

    SpeechBrain allows TF32 on import, which keeps 10 bits of a product's mantissa.

    Example
    -------
    >>> with full_float32(torch.device("cpu")), torch.no_grad():
    ...     torch.backends.cuda.matmul.allow_tf32
    False
    """
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
