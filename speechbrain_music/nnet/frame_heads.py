"""Heads that predict by the frame from a frozen encoder's hidden states."""

import torch.nn.functional as F
from torch import nn, softmax, zeros
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HEADS = ("mlp", "gru")


class FrameHead(nn.Module):
    """A learned mix of hidden states, one hidden layer, perhaps a GRU over time, then logits.

    Arguments
    ---------
    kind : str
        "mlp" sees each frame alone; "gru" adds two bidirectional layers over the whole sequence.
    layers, dim, outputs : int
        L hidden states of width d; C logits a frame.
    up, down : int
        Logits are given `up` times a frame, or for means of `down` frames; one of them is 1.
    hidden : int
        Width of the hidden layer, and of both directions of the GRU together.
    dropout : float
        After the hidden layer.

    Example
    -------
    >>> import torch
    >>> head = FrameHead("gru", layers=3, dim=8, outputs=2, up=2, hidden=16)
    >>> head(torch.randn(4, 50, 3, 8), torch.tensor([50, 50, 30, 1])).shape
    torch.Size([4, 100, 2])
    """

    def __init__(self, kind, layers, dim, outputs, up=1, down=1, hidden=512, dropout=0.2):
        super().__init__()
        if kind not in HEADS:
            raise ValueError(f"head is {kind!r}: choose {' or '.join(HEADS)}")
        self.outputs, self.up, self.down = outputs, up, down
        self.mix = nn.Parameter(zeros(layers))
        self.hidden, self.dropout = nn.Linear(dim, hidden), nn.Dropout(dropout)
        self.context = None
        if kind == "gru":
            self.context = nn.GRU(hidden, hidden // 2, 2, batch_first=True, bidirectional=True)
        self.output = nn.Linear(hidden, outputs * up)

    def steps(self, frames):
        """How many logits the head gives for so many frames: a number or a tensor."""
        return -(-frames // self.down) * self.up

    def forward(self, x, lengths):
        """(B, T, L, d) states and (B,) frames of each item to (B, steps(T), C) logits."""
        x = (x * softmax(self.mix, 0).unsqueeze(1)).sum(2)
        if self.down > 1:
            x = F.avg_pool1d(x.transpose(1, 2), self.down, ceil_mode=True).transpose(1, 2)
        x = self.dropout(F.relu(self.hidden(x)))
        if self.context is not None:
            counts = -(-lengths // self.down)
            packed = pack_padded_sequence(x, counts.cpu(), batch_first=True, enforce_sorted=False)
            packed = self.context(packed)[0]
            x, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        return self.output(x).unflatten(2, (self.up, self.outputs)).flatten(1, 2)
