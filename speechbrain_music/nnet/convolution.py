"""Padding-safe depthwise convolution over time."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F


def zero_padding(x, padding_mask):
    """Zeroes (B, T, C) where the (B, T) mask is True; None means that nothing is padded."""
    return x if padding_mask is None else x.masked_fill(padding_mask.unsqueeze(-1), 0.0)


@dataclass
class Past:
    """What a block keeps of the steps of a stream before those at hand, of which `leaving` join."""

    leaving: int = 0
    count: int = 0  # steps
    total: object = 0.0  # of SummaryMixing: the sum of s(x_t), (groups, B, 1, features)
    inputs: object = None  # of the convolution: its last ones, (B, n, C)

    def lengthen(self, x, steps):
        """The inputs, at most `steps`, before those at hand (B, T, C), and these."""
        before = 0 if self.inputs is None else self.inputs.shape[1]
        x = torch.cat([self.inputs, x], dim=1) if before else x
        known = before + self.leaving
        self.inputs = x[:, max(known - steps, 0) : known]
        return x


def limit_lookahead(mixer, lookahead, kernel_size):
    """Makes a block's mixer causal, if the block has a `lookahead`; None: it reads whole pieces.

    Raises ValueError if the mixer cannot be causal, or a kernel cannot be moved back so far.
    """
    if lookahead is None:
        return
    if not hasattr(mixer, "causal"):
        fault = f"{type(mixer).__name__} reads whole pieces, choose SummaryMixing or null"
        raise ValueError(f"lookahead is {lookahead}: {fault}")
    if not 0 <= lookahead <= (most := kernel_size // 2):
        fault = f"with kernel_size {kernel_size}, choose 0 to {most}, or null"
        raise ValueError(f"lookahead is {lookahead}: {fault}")
    mixer.causal = True


def depthwise_conv(
    x, weight, bias, padding_mask=None, padding_mode="zeros", lookahead=None, past=None
):
    """Depthwise convolution over time that keeps the length, each item padded at its own end.

    Equal to torch's Conv1d; computed by the implementation that is fast on the device.

    x (B, T, C), the weight (C, 1, K), K odd, and bias (C,) of a depthwise Conv1d, and an optional
    (B, T) mask, True = padding, to (B, T, C). `padding_mode` is "zeros", or "reflect" as in
    SpeechBrain's convolutions (an item shorter than K // 2 is reflected repeatedly, as by numpy,
    where torch raises). `lookahead` moves the kernel back in time, so that it reads only so many
    steps after its own, at most K // 2; padding is with zeros then. `past` is a `Past`.
    """
    steps, context = x.shape[1], weight.shape[-1] // 2
    beyond = context if padding_mode == "reflect" and lookahead is None else 0
    x = zero_padding(x, padding_mask)
    x = x if past is None else past.lengthen(x, 2 * context - lookahead)
    end = x.shape[1]
    if lookahead is not None:
        x = F.pad(x, (0, 0, context - lookahead, 0))
    if beyond:
        x = _reflect(x, context, padding_mask)
    if not x.is_cuda:
        return _as_image(x, weight, bias, context - beyond, flat=2)[:, end - steps : end]
    # A GPU's kernels are fast only with zero padding on both sides, which is cut off again.
    if torch.is_autocast_enabled("cuda") or x.dtype.itemsize == 2:
        x = _as_image(x, weight, bias, context, flat=1)
    else:
        x = F.conv1d(x.mT, weight, bias, padding=context, groups=len(weight)).mT
    return x[:, beyond:][:, end - steps : end]


def _as_image(x, weight, bias, padding, flat):
    """Convolve (B, T, C), an image whose axis `flat` has size 1: 1 is the height, 2 the width.

    It is channels-last. In this memory format torch convolves it several times faster than by
    Conv1d, forward and backward: on a CPU if time is the height, on a GPU in bfloat16 if time is
    the width. The other way round takes ten times as long.
    """
    sides = (padding, 0) if flat == 2 else (0, padding)
    image, weight = x.unsqueeze(flat).permute(0, 3, 1, 2), weight.unsqueeze(flat + 1)
    image = F.conv2d(image, weight, bias, padding=sides, groups=len(weight))
    return image.permute(0, 2, 3, 1).squeeze(flat)


def _reflect(x, context, padding_mask):
    """(B, T, C) to (B, T + 2 context, C): each item reflected at its first and last frame."""
    batch, steps, channels = x.shape
    if padding_mask is None:
        lengths = torch.full((batch, 1), steps, dtype=torch.int64, device=x.device)
    else:
        lengths = (~padding_mask).sum(dim=1, keepdim=True)
    outside = torch.arange(1, context + 1, device=x.device)
    left = -outside.flip(0).expand(batch, -1)
    right = lengths - 1 + outside
    last = (lengths - 1).clamp(min=0)
    wanted = torch.cat([left, right], dim=1)
    wanted = wanted.remainder((2 * last).clamp(min=1))  # a reflection repeats every 2 (n - 1)
    source = torch.where(wanted > last, 2 * last - wanted, wanted).clamp(min=0)
    edges = x.gather(1, source.unsqueeze(-1).expand(-1, -1, channels))
    if padding_mask is None:
        return torch.cat([edges[:, :context], x, edges[:, context:]], dim=1)
    padded = torch.cat([edges[:, :context], x, x.new_zeros(batch, context, channels)], dim=1)
    target = (right + context).unsqueeze(-1).expand(-1, -1, channels)
    return padded.scatter(1, target, edges[:, context:])
