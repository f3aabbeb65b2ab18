"""The encoder: front-end, a stack of blocks, every hidden state."""

from functools import partial

import torch
from speechbrain.nnet.normalization import LayerNorm
from torch import nn
from torch.utils.checkpoint import checkpoint

from speechbrain_music.models.branchformer import BranchformerLayer
from speechbrain_music.models.conformer import ConformerLayer
from speechbrain_music.models.frontend import STACK, TOKEN_RATE, ConvFrontEnd, padding_mask
from speechbrain_music.nnet.convolution import zero_padding


class Encoder(nn.Module):
    """Music encoder from normalised log-mel to 25 Hz tokens.

    Arguments
    ---------
    block : str
        "branchformer" or "conformer".
    mixing : str
        "summary" (linear in time), "attention" (SpeechBrain's relative positions) or "rope".
    num_layers, d_model, nhead : int
        Depth, width, heads (or groups).
    ffn_units : int
        Width inside a block: of the cgMLP (Branchformer, 3072 by default) or of the feed-forward
        modules (Conformer, 2048 by default).
    kernel_size : int
        Of the blocks' depthwise convolutions, in tokens.
    frontend_channels : int
        Of the front-end's convolutions.
    frontend_bypass : bool
        Whether a linear layer runs beside them; see `ConvFrontEnd`.
    dropout : float
        In the front-end and the blocks.
    merge : str
        Of a Branchformer's branches: "concat", "average", "global" or "local"; see
        `BranchformerLayer`.
    frame_rate : int
        Steps of the blocks in a second: 25, or 50, of which the mean of each two is given.
    gradient_checkpointing : bool
        Whether training keeps only what lies between the blocks, and computes each block once more
        in the backward pass: long segments in little memory, in a third more time. The results
        are the same.

    Raises
    ------
    ValueError
        For an unknown block, mixing, merge or frame_rate, a merge of a Conformer, or widths that
        do not divide by nhead.

    Example
    -------
    >>> encoder = Encoder("branchformer", "summary", num_layers=2, d_model=32, ffn_units=64)
    >>> out, hidden, lengths = encoder(torch.randn(2, 40, 128), torch.tensor([10, 7]))
    >>> out.shape, len(hidden), lengths
    (torch.Size([2, 10, 32]), 3, tensor([10,  7]))
    """

    def __init__(
        self,
        block="branchformer",
        mixing="summary",
        num_layers=12,
        d_model=512,
        nhead=4,
        ffn_units=None,
        kernel_size=31,
        frontend_channels=32,
        dropout=0.1,
        frontend_bypass=False,
        merge="concat",
        frame_rate=TOKEN_RATE,
        gradient_checkpointing=False,
    ):
        super().__init__()
        if frame_rate not in (TOKEN_RATE, 2 * TOKEN_RATE):
            raise ValueError(
                f"frame_rate is {frame_rate!r}: choose {TOKEN_RATE} or {2 * TOKEN_RATE}"
            )
        self.gradient_checkpointing = gradient_checkpointing
        self.steps = frame_rate // TOKEN_RATE  # of the blocks, for each token
        if block == "branchformer":
            make_layer = partial(BranchformerLayer, merge=merge)
            units = {"csgu_linear_units": ffn_units or 3072}
        elif block == "conformer":
            if merge != "concat":
                raise ValueError(f"merge is {merge!r}: a Conformer has one branch, leave concat")
            make_layer, units = ConformerLayer, {"d_ffn": ffn_units or 2048}
        else:
            raise ValueError(f"block is {block!r}: choose branchformer or conformer")
        # What `export` writes down and `load_export` builds from: plain values only.
        self.config = {
            "block": block,
            "mixing": mixing,
            "num_layers": num_layers,
            "d_model": d_model,
            "nhead": nhead,
            "ffn_units": next(iter(units.values())),
            "kernel_size": kernel_size,
            "frontend_channels": frontend_channels,
            "dropout": dropout,
            "frontend_bypass": frontend_bypass,
            "merge": merge,
            "frame_rate": frame_rate,
        }
        stack = STACK // self.steps
        self.frontend = ConvFrontEnd(d_model, frontend_channels, dropout, frontend_bypass, stack)
        self.layers = nn.ModuleList(
            make_layer(
                d_model,
                nhead=nhead,
                mixing=mixing,
                kernel_size=kernel_size,
                dropout=dropout,
                **units,
            )
            for _ in range(num_layers)
        )
        self.norm = LayerNorm(d_model, eps=1e-6)

    def forward(self, mel, lengths=None):
        """Encodes a batch.

        Arguments
        ---------
        mel : torch.Tensor
            (B, 4 T, 128) normalised log-mel, 0 past each item's end (as `LogMel` gives it).
        lengths : torch.Tensor, optional
            (B,) tokens of each item; None means that nothing is padded.

        Returns
        -------
        out : torch.Tensor
            (B, T, d_model), 0 past each item's end.
        hidden : list of torch.Tensor
            num_layers + 1 tensors like `out`: the front-end's, then each block's; the last is
            `out` itself.
        lengths : torch.Tensor
            (B,) tokens.
        """
        tokens = mel.shape[1] // STACK
        if lengths is None:
            lengths, mask = torch.full((len(mel),), tokens, device=mel.device), None
        else:
            mask = padding_mask(self.steps * lengths, self.steps * tokens)
        x = zero_padding(self.frontend(mel), mask)
        hidden = [x]
        for layer in self.layers:
            x = zero_padding(self._through(layer, x, mask), mask)
            hidden.append(x)
        hidden[-1] = zero_padding(self.norm(x), mask)
        if self.steps > 1:
            hidden = [x.unflatten(1, (-1, self.steps)).mean(dim=2) for x in hidden]
        return hidden[-1], hidden, lengths

    def _through(self, layer, x, mask):
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(layer, x, mask, use_reentrant=False)
        return layer(x, mask)


def from_speechbrain(state):
    """Renames the state dict of a SpeechBrain Branchformer or Conformer encoder, or of a layer.

    Load an encoder's with `strict=False`: SpeechBrain's encoders have no front-end.

    Example
    -------
    >>> list(from_speechbrain({"layers.0.mha_layer.out_proj.bias": 0}))
    ['layers.0.mixing.out_proj.bias']
    """
    return {key.replace("mha_layer.", "mixing."): value for key, value in state.items()}
