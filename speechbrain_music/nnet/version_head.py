"""A head that turns a frozen encoder's chunks of a track into one embedding."""

import torch
from torch import nn

from speechbrain_music.nnet.normalization import Standardization


class VersionHead(nn.Module):
    """Standardised hidden states in a learned mix, attention over chunks, a projection.

    Attention pooling is that of Okabe et al. (Interspeech 2018, arXiv 1803.10963) without the
    deviations: the weight of a chunk is the softmax of a linear score.

    Arguments
    ---------
    mean, std : torch.Tensor
        (L, d) float32 of the L hidden states of width d.
    width : int
        Of an embedding.
    """

    def __init__(self, mean, std, width=128):
        super().__init__()
        self.standardize = Standardization(mean, std)
        self.mix = nn.Parameter(torch.zeros(len(mean)))
        self.attention = nn.Linear(mean.shape[1], 1)
        self.projection = nn.Linear(mean.shape[1], width)

    def forward(self, x, lengths):
        """(B, K, L, d) states and (B,) chunks of each track to (B, width) of length 1."""
        x = (self.standardize(x) * self.mix.softmax(0).unsqueeze(1)).sum(2)
        own = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device).unsqueeze(1)
        weights = self.attention(x).squeeze(2).masked_fill(~own, -torch.inf).softmax(1)
        pooled = torch.einsum("bk,bkd->bd", weights, x)
        return nn.functional.normalize(self.projection(pooled), dim=1)


def contrastive_loss(embeddings, works, temperature):
    """The loss of each item, (B,): embeddings (B, D) of length 1 and (B,) int64 works.

    The cross-entropy of finding another item of the same work among all others, mean over the items
    of that work (supervised contrastive loss, Khosla et al., NeurIPS 2020, arXiv 2004.11362,
    equation 2). Each work needs two items or more.
    """
    logits = embeddings @ embeddings.T / temperature
    itself = torch.eye(len(works), dtype=torch.bool, device=works.device)
    log_share = logits.masked_fill(itself, -torch.inf).log_softmax(1)
    same = (works == works.unsqueeze(1)) & ~itself
    return -log_share.masked_fill(~same, 0).sum(1) / same.sum(1)
