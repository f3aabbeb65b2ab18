"""Linear layers with int8 weights, for inference: a quarter of the bytes, faster on many CPUs."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from speechbrain_music.nnet.summary_mixing import GroupedLinear, MergeLinear

LARGEST = 127  # int8 values are symmetric around 0
MIN_SCALE = 1e-12  # of rows of zeros
MIN_OUTPUTS = 16  # a smaller layer has no bytes to save


def quantize(x, dim):
    """int8 values and scales, one per maximum over `dim`, whose product is x to half a scale."""
    scale = x.abs().amax(dim, keepdim=True).clamp_(min=MIN_SCALE) / LARGEST
    return (x / scale).round_().to(torch.int8), scale


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, each output channel with a scale of its own.

    The inputs are quantized, too, each row (a token) by its own maximum, so that an item of a batch
    has the values that it has alone. This is the arithmetic of torchao's
    `Int8DynamicActivationInt8WeightConfig`, and its product, `torch._int_mm`. On a GPU, and on CPUs
    without int8 instructions, the weights are multiplied out and the product is of float32.

    `linear` is an `nn.Linear` or a `MergeLinear`, as which it is called.
    """

    def __init__(self, linear):
        super().__init__()
        weight, scale = quantize(linear.weight.detach(), dim=1)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = linear.bias
        self.register_buffer("scale", scale)

    def forward(self, x, constant=None):
        """(..., in) to (..., out); with a `constant` as `MergeLinear`."""
        if constant is None:
            return self._linear(x, self.weight, self.bias)
        weight, of_constant = self.weight.split((x.shape[-1], constant.shape[-1]), dim=1)
        return self._linear(x, weight, None) + self._linear(constant, of_constant, self.bias)

    def _linear(self, x, weight, bias):
        if x.device.type != "cpu" or not torch.cpu._is_vnni_supported():
            return F.linear(x, weight * self.scale, bias)
        values, scale = quantize(x.reshape(-1, x.shape[-1]), dim=1)
        out = torch._int_mm(values, weight.t()) * self.scale.t()
        out = out.mul_(scale) if bias is None else torch.addcmul(bias, out, scale)
        return out.view(*x.shape[:-1], -1)


class Int8Weight(nn.Module):
    """A parametrization: the weight is kept as int8 and scales, and multiplied out at its use."""

    def forward(self, values, scale):
        """int8 values and their scales to the weight."""
        return values * scale

    def right_inverse(self, weight):
        """The weight to int8 values and their scales, one for each output channel."""
        return quantize(weight, dim=1)


def quantize_linear_layers(module):
    """Make the weights of linear layers inside a module int8, in place; it cannot be trained then.

    `nn.Linear` and `MergeLinear` become `Int8Linear`. The weights of others are multiplied out
    before each product: of `GroupedLinear`, whose small products of int8 are not faster, of
    convolutions of kernel 1, and of the input projection of SpeechBrain's attention. Depthwise and
    two-dimensional convolutions stay float32.
    """
    module.requires_grad_(False)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in (nn.Linear, MergeLinear) and child.out_features >= MIN_OUTPUTS:
                setattr(parent, name, Int8Linear(child))
            elif isinstance(child, GroupedLinear) or getattr(child, "kernel_size", 0) == (1,):
                register_parametrization(child, "weight", Int8Weight())
            elif isinstance(getattr(child, "in_proj_weight", None), nn.Parameter):
                register_parametrization(child, "in_proj_weight", Int8Weight())
