"""A small untrained export."""

import torch

from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import save_export
from speechbrain_music.models.frontend import LogMel


def small_model(num_layers=1, **sizes):
    """Front-end with plain statistics, and an encoder of 16 dimensions; always the same weights."""
    torch.manual_seed(0)
    features = LogMel()
    features.normalize.set_statistics(torch.full((128,), -4.0), torch.full((128,), 3.5))
    sizes = {"d_model": 16, "nhead": 2, "ffn_units": 16, "kernel_size": 5} | sizes
    return features, make_encoder(num_layers=num_layers, **sizes)


def small_export(folder, num_layers=1, training=(), **sizes):
    """Writes one; returns its folder."""
    features, encoder = small_model(num_layers, **sizes)
    save_export(folder, encoder, features, **dict(training))
    return folder
