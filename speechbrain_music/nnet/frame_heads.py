"""Heads that predict by the frame from a frozen encoder's hidden states."""

import torch.nn.functional as F
from torch import nn, softmax, zeros
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechbrain_music.nnet.normalization import Standardization

HEADS = ("mlp", "gru")


class FrameHead(nn.Module):
    """Standardised hidden states in a learned mix, a hidden layer, perhaps a GRU, then logits.

    Arguments
    ---------
    kind : str
        "mlp" sees each frame alone; "gru" adds two bidirectional layers over the whole sequence.
    mean, std : torch.Tensor
        (L, d) float32 of the L hidden states of width d.
    outputs : int
        C, logits a frame.
    up, down : int
        Logits are given `up` times a frame, or for means of `down` frames; one of them is 1.
    hidden : int
        Width of the hidden layer, and of both directions of the GRU together.
    dropout : float
        After the hidden layer.

    Example
    -------
    >>> import torch
    >>> head = FrameHead("gru", torch.zeros(3, 8), torch.ones(3, 8), outputs=2, up=2, hidden=16)
    >>> head(torch.randn(4, 50, 3, 8), torch.tensor([50, 50, 30, 1])).shape
    torch.Size([4, 100, 2])
    """

    def __init__(self, kind, mean, std, outputs, up=1, down=1, hidden=512, dropout=0.2):
        super().__init__()
        if kind not in HEADS:
            raise ValueError(f"head is {kind!r}: choose {' or '.join(HEADS)}")
        self.kind, self.outputs, self.up, self.down = kind, outputs, up, down
        self.standardize = Standardization(mean, std)
        self.mix = nn.Parameter(zeros(len(mean)))
        self.hidden, self.dropout = nn.Linear(mean.shape[1], hidden), nn.Dropout(dropout)
        self.context = None
        if kind == "gru":
            self.context = nn.GRU(hidden, hidden // 2, 2, batch_first=True, bidirectional=True)
        self.output = nn.Linear(hidden, outputs * up)

    def steps(self, frames):
        """How many logits the head gives for so many frames: a number or a tensor."""
        return -(-frames // self.down) * self.up

    def forward(self, x, lengths):
        """(B, T, L, d) states and (B,) frames of each item to (B, steps(T), C) logits."""
        x = (self.standardize(x) * softmax(self.mix, 0).unsqueeze(1)).sum(2)
        if self.down > 1:
            x = F.avg_pool1d(x.transpose(1, 2), self.down, ceil_mode=True).transpose(1, 2)
        x = self.dropout(F.relu(self.hidden(x)))
        if self.context is not None:
            counts = -(-lengths // self.down)
            packed = pack_padded_sequence(x, counts.cpu(), batch_first=True, enforce_sorted=False)
            packed = self.context(packed)[0]
            x, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        return self.output(x).unflatten(2, (self.up, self.outputs)).flatten(1, 2)
