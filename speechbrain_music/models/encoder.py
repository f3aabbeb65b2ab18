"""The encoder: front-end, a stack of blocks, every hidden state."""

from functools import partial

from speechbrain.nnet.normalization import LayerNorm
from torch import bfloat16, float16, float32, full, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from speechbrain_music.models.frontend import (
    STACK,
    TOKEN_RATE,
    ConvFrontEnd,
    padding_mask,
    steps_per_token,
)
from speechbrain_music.models.parts import BLOCKS, MIXERS, build_part, part_config
from speechbrain_music.nnet.convolution import zero_padding
from speechbrain_music.nnet.int8 import quantize_linear_layers
from speechbrain_music.utils.errors import UserError

DTYPES = {"float32": float32, "bfloat16": bfloat16, "float16": float16}


class Encoder(nn.Module):
    """Music encoder from normalised log-mel to 25 Hz tokens.

    `frontend` makes a module from (B, 4 T, 128) log-mel to (B, T * frame_rate / 25, d_model), as
    `functools.partial(ConvFrontEnd, d_model)` does. `block`, called once per layer, makes a module
    that maps x and an optional padding mask to a tensor like x, as
    `functools.partial(BranchformerLayer, ...)` does. `frame_rate` is the steps of the blocks per
    second: 25, or 50, of which each two are averaged to a token; else ValueError. With
    `gradient_checkpointing` training keeps only the blocks' inputs, and computes each block once
    more in the backward pass: less memory, about a third more time, the same results.

    Example
    -------
    >>> import torch
    >>> mixer = partial(MIXERS["summary"], 32)
    >>> block = partial(BLOCKS["branchformer"], 32, mixer, ffn_units=64)
    >>> encoder = Encoder(partial(ConvFrontEnd, 32), block, num_layers=2, d_model=32)
    >>> out, hidden, lengths = encoder(torch.randn(2, 40, 128), torch.tensor([10, 7]))
    >>> out.shape, len(hidden), lengths
    (torch.Size([2, 10, 32]), 3, tensor([10,  7]))
    """

    int8 = False

    def __init__(
        self,
        frontend,
        block,
        num_layers=12,
        d_model=512,
        frame_rate=TOKEN_RATE,
        gradient_checkpointing=False,
    ):
        super().__init__()
        self.steps = steps_per_token(frame_rate)
        self.gradient_checkpointing = gradient_checkpointing
        self._parts = {"frontend": frontend, "block": block}
        self._sizes = {"num_layers": num_layers, "d_model": d_model, "frame_rate": frame_rate}
        self.frontend = frontend()
        self.layers = nn.ModuleList(block() for _ in range(num_layers))
        self.norm = LayerNorm(d_model, eps=1e-6)

    @property
    def config(self):
        """What the encoder is built from, as plain values: exports hold it."""
        parts = {name: part_config(part) for name, part in self._parts.items()}
        sizes = self._sizes | {"num_layers": len(self.layers)}
        return parts | sizes | ({"int8": True} if self.int8 else {})

    @classmethod
    def from_config(cls, config, classes=()):
        """The encoder that `config` describes, with new weights; see `parts.build_part`."""
        parts = {name: build_part(config[name], classes) for name in ("frontend", "block")}
        encoder = cls(**{key: value for key, value in (config | parts).items() if key != "int8"})
        return encoder.quantize() if config.get("int8") else encoder

    def quantize(self):
        """Apply `nnet.int8.quantize_linear_layers` to the encoder; returns it."""
        quantize_linear_layers(self)
        self.int8 = True
        return self

    def compute_in(self, dtype):
        """Cast weights and arithmetic to a type of `DTYPES`; UserError for others, and of int8."""
        allowed = ("float32 (its weights are int8)",) if self.int8 else DTYPES
        if dtype not in ("float32", *allowed):
            raise UserError(f"dtype is {dtype!r}: choose {', '.join(allowed)}")
        self.to(DTYPES[dtype])

    def untrained(self):
        """An encoder of the same parts with new weights, in float32."""
        return type(self)(**self._parts, **self._sizes)

    def forward(self, mel, lengths=None):
        """(B, 4 T, 128) normalised log-mel, 0 past each item's end as `LogMel` gives it, to tokens.

        `lengths` are (B,) tokens of each item; None means that nothing is padded. Returns `out`,
        (B, T, d_model), 0 past each item's end; a list of num_layers + 1 hidden states like it, the
        front-end's, then each block's, the last being `out` itself; and the lengths.
        """
        tokens = mel.shape[1] // STACK
        if lengths is None:
            lengths, mask = full((mel.shape[0],), tokens, device=mel.device), None
        else:
            mask = padding_mask(self.steps * lengths, self.steps * tokens)
        x = zero_padding(self.frontend(mel.to(self.norm.norm.weight.dtype)), mask)
        hidden = [x]
        recompute = self.gradient_checkpointing and self.training and is_grad_enabled()
        for layer in self.layers:
            x = checkpoint(layer, x, mask, use_reentrant=False) if recompute else layer(x, mask)
            x = zero_padding(x, mask)
            hidden.append(x)
        hidden[-1] = zero_padding(self.norm(x), mask)
        if self.steps > 1:
            hidden = [x.unflatten(1, (-1, self.steps)).mean(dim=2) for x in hidden]
        return hidden[-1], hidden, lengths


def make_encoder(
    block="branchformer",
    mixer="summary",
    num_layers=12,
    d_model=512,
    nhead=4,
    ffn_units=None,
    kernel_size=31,
    frontend_channels=32,
    dropout=0.1,
    frontend_bypass=False,
    frontend_norm=False,
    frame_rate=TOKEN_RATE,
    lookahead=None,
):
    """One of the shipped encoders by the names of its parts; the yamls in hparams/ do the same.

    `block` is "branchformer" or "conformer"; `mixer` "summary" (linear in time), "attention"
    (SpeechBrain's relative positions) or "rope"; else ValueError. `nhead` is the heads or groups of
    the mixer, `ffn_units` the width inside the blocks (None: the block's default), `kernel_size`
    the tokens of their depthwise convolutions; `dropout` is in the front-end, the mixers and the
    blocks. For the others see `ConvFrontEnd`, `Encoder` and `BranchformerLayer`; the yamls in
    hparams/ have bypass and norm.

    Example
    -------
    >>> encoder = make_encoder("conformer", "rope", num_layers=1, d_model=32)
    >>> encoder.config["block"]["mixer"]["class"]
    'RotaryAttention'
    """
    for name, value, known in (("block", block, BLOCKS), ("mixer", mixer, MIXERS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}: choose {', '.join(known)}")
    frontend = partial(
        ConvFrontEnd,
        *(d_model, frontend_channels, dropout, frontend_bypass, frame_rate, frontend_norm),
    )
    make_mixer = partial(MIXERS[mixer], d_model, nhead, dropout=dropout)
    options = {"kernel_size": kernel_size, "dropout": dropout, "lookahead": lookahead}
    make_block = partial(BLOCKS[block], d_model, make_mixer, **options)
    if ffn_units is not None:
        make_block = partial(make_block, ffn_units=ffn_units)
    return Encoder(frontend, make_block, num_layers, d_model, frame_rate)
