"""Encoders of others to measure beside: built from configurations of `transformers` ([hf]).

Each says in what it differs from the model that it stands for. Weights are random.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_music.models.frontend import BANDS, LogMel

LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


class Peer(NamedTuple):
    """A model of others.

    Arguments
    ---------
    build : callable
        Takes a size, "full" or "tiny"; returns a module from (B, N) waves to (B, T, D).
    sample_rate, token_rate : int
        Of its input and of its output, in Hz.
    what : str
        What it is, and what is approximated.
    """

    build: Callable
    sample_rate: int
    token_rate: int
    what: str


class Waves(nn.Module):
    """A model of transformers that takes waves, each brought to mean 0 and variance 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, wave):
        return self.model(F.layer_norm(wave, wave.shape[1:])).last_hidden_state


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside one; the first on either side halves both axes."""

    def __init__(self, fan_in, channels):
        super().__init__()
        halve = partial(nn.Conv2d, fan_in, channels, 3, stride=2, padding=1)
        self.short = nn.Sequential(halve(), nn.BatchNorm2d(channels))
        self.long = nn.Sequential(
            halve(),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return F.relu(self.short(x) + self.long(x))


class ConvolvedMel(nn.Module):
    """Log-mel, two residual blocks down to 25 Hz, and the blocks of a model of transformers."""

    def __init__(self, model, channels):
        super().__init__()
        with torch.device("cpu"):  # the filters are computed, which "meta" cannot
            self.features = LogMel()
        self.convolutions = nn.Sequential(Residual(1, channels), Residual(channels, channels))
        self.linear = nn.Linear(channels * BANDS // 4, model.config.hidden_size)
        self.encoder = model.encoder

    def forward(self, wave):
        lengths = torch.full((len(wave),), wave.shape[1], device=wave.device)
        mel, _ = self.features(wave, lengths)
        x = self.convolutions(mel.unsqueeze(1))  # (B, C, T, 32)
        return self.encoder(self.linear(x.transpose(1, 2).flatten(2))).last_hidden_state


def wav2vec2_conformer(size="full"):
    """Wav2Vec2Conformer, 12 x 1024."""
    return Waves(_from_config("Wav2Vec2ConformerConfig", LARGE, size))


def mert_like(size="full"):
    """HuBERT of MERT-95M's size, for waves of 24 kHz."""
    return Waves(_from_config("HubertConfig", BASE, size))


def musicfm_like(size="full"):
    """The blocks of Wav2Vec2Conformer, 12 x 1024, behind convolutions with 512 channels."""
    rotary = {"position_embeddings_type": "rotary", "hidden_act": "swish"}
    model = _from_config("Wav2Vec2ConformerConfig", LARGE, size, **rotary)
    return ConvolvedMel(model, 512 if size == "full" else 4)


def _from_config(name, full, size, **more):
    import transformers  # seconds, and an extra

    sizes, layers = (full, 12) if size == "full" else (TINY, 2)
    config = getattr(transformers, name)(num_hidden_layers=layers, **sizes, **more)
    return transformers.AutoModel.from_config(config)


PEERS = {
    "Wav2Vec2Conformer": Peer(
        wav2vec2_conformer,
        16000,
        50,
        "transformers' class, 12 blocks of 1024, 16 heads, feed-forward 4096; all else by "
        "default, relative positions among it. Released ones have 24 blocks, and in the front-end "
        "layer normalisation, which is slower than the default's group normalisation.",
    ),
    "MERT-like": Peer(
        mert_like,
        24000,
        75,
        "transformers' HuBERT in MERT-95M's size (12 blocks of 768, 12 heads, feed-forward 3072), "
        "strides of 320 samples at 24 kHz. MERT's heads, for training only, are left out. "
        "MERT-330M has 24 blocks of 1024 and does about three times the work.",
    ),
    "MusicFM-like": Peer(
        musicfm_like,
        24000,
        25,
        "the blocks of transformers' Wav2Vec2Conformer (12 of 1024, 16 heads, feed-forward 4096, "
        "rotary positions) behind two residual blocks of 3 x 3 convolutions with 512 channels and "
        "a linear layer, written anew; log-mel as this project computes it, not in decibels; "
        "without the layer that predicts tokens.",
    ),
}
