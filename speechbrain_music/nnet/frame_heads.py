"""Heads of frame tasks: from a frozen encoder's hidden states to logits over time."""

import torch.nn.functional as F
from torch import arange, nn, softmax, zeros

from speechbrain_music.nnet.normalization import Standardization

HEADS = ("mlp", "tcn")
CHANNELS, LEVELS = 64, 10  # of the TCN, which sees 2^LEVELS - 1 frames on each side


def step_count(frames, up, down):
    """How many logits so many frames have, `up` each or one for `down` of them."""
    return -(-frames // down) * up


class FrameHead(nn.Module):
    """Standardised hidden states in a learned mix, a hidden layer, perhaps a TCN, then logits.

    Arguments
    ---------
    kind : str
        "mlp" sees each frame alone; "tcn" adds dilated convolutions over time (as of Davies and
        Böck, EUSIPCO 2019) and sees 1,023 frames on each side.
    mean, std : torch.Tensor
        (L, d) float32 of the L hidden states of width d.
    outputs : int
        C, logits a frame.
    up, down : int
        Logits are given `up` times a frame, or for means of `down` frames; one of them is 1.
    hidden : int
        Width of the hidden layer.
    dropout : float
        After the hidden layer and each convolution.
    """

    def __init__(self, kind, mean, std, outputs, up=1, down=1, hidden=512, dropout=0.2):
        super().__init__()
        if kind not in HEADS:
            raise ValueError(f"head is {kind!r}: choose {' or '.join(HEADS)}")
        self.kind, self.outputs, self.up, self.down = kind, outputs, up, down
        self.standardize = Standardization(mean, std)
        self.mix = nn.Parameter(zeros(len(mean)))
        self.hidden, self.dropout = nn.Linear(mean.shape[1], hidden), nn.Dropout(dropout)
        self.convolutions = nn.ModuleList()
        if kind == "tcn":
            self.bottleneck, hidden = nn.Linear(hidden, CHANNELS), CHANNELS
            for dilation in (2**level for level in range(LEVELS)):
                layer = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation)
                self.convolutions.append(layer)
        self.output = nn.Linear(hidden, outputs * up)

    def steps(self, frames):
        """How many logits the head gives for so many frames: a number or a tensor."""
        return step_count(frames, self.up, self.down)

    def forward(self, x, lengths):
        """(B, T, L, d) states and (B,) frames of each item to (B, steps(T), C) logits."""
        x = (self.standardize(x) * softmax(self.mix, 0).unsqueeze(1)).sum(2)
        if self.down > 1:
            x = F.avg_pool1d(x.transpose(1, 2), self.down, ceil_mode=True).transpose(1, 2)
        x = self.dropout(F.relu(self.hidden(x)))
        if self.convolutions:
            counts = step_count(lengths.to(x.device), 1, self.down)
            # Padding is what the convolutions see beyond a track's ends: zeros.
            own = (arange(x.shape[1], device=x.device) < counts.unsqueeze(1)).unsqueeze(1)
            x = self.bottleneck(x).transpose(1, 2)
            for layer in self.convolutions:
                x = x + self.dropout(F.elu(layer(x * own)))
            x = F.elu(x).transpose(1, 2)
        return self.output(x).unflatten(2, (self.up, self.outputs)).flatten(1, 2)
