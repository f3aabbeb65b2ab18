"""Embedding a file, end to end, against encoders of others with random weights.

Every candidate reads the same FLAC file in segments, mixes down, resamples to its own rate,
computes the segments as one batch and averages its last hidden state over time.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import nn
from torch.nn import functional as F

from perf.benchmark import Benchmark, Comparison, gpu_batch, measure
from perf.data import FILE_RATE, make_music
from perf.training import HPARAMS
from speechbrain_music.dataio.audio import read_segments
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frontend import BANDS, TOKEN_RATE, LogMel
from speechbrain_music.models.frozen import make_encoders

SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")
BASELINES = ("Wav2Vec2Conformer", "MERT-like")
TARGET = 8  # times the speed of each baseline, for brn_sum
SECONDS = {"full": 30, "quick": 10, "tiny": 2}  # of a segment
LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
NOTE = (
    "Time includes reading, mixing down, resampling and one batch in float32 ({segments} of a 44.1 "
    "kHz stereo FLAC file), not loading the model. Memory is the growth of a new process's peak "
    "while it loads the model and embeds once."
)
OURS = "`hparams/{name}.yaml` through `MusicEncoder.encode_files`, as `sbmusic embed` runs it."


class Waves(nn.Module):
    """A transformers model of waves, each normalised to mean 0 and variance 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, wave):
        return self.model(F.layer_norm(wave, wave.shape[1:])).last_hidden_state


class Residual(nn.Module):
    """Two 3 x 3 convolutions in parallel to one; the first of each path halves both axes."""

    def __init__(self, fan_in, channels):
        super().__init__()
        halve = partial(nn.Conv2d, fan_in, channels, 3, stride=2, padding=1)
        norm = partial(nn.BatchNorm2d, channels)
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.short = nn.Sequential(halve(), norm())
        self.long = nn.Sequential(halve(), norm(), nn.ReLU(), conv, norm())

    def forward(self, x):
        return F.relu(self.short(x) + self.long(x))


class ConvolvedMel(nn.Module):
    """Log-mel, two residual blocks down to 25 Hz, and the encoder of a transformers model."""

    def __init__(self, model, channels):
        super().__init__()
        with torch.device("cpu"):  # the filters are computed, which "meta" cannot do
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
    """The blocks of Wav2Vec2Conformer, 12 x 1024, after convolutions with 512 channels."""
    rotary = {"position_embeddings_type": "rotary", "hidden_act": "swish"}
    model = _from_config("Wav2Vec2ConformerConfig", LARGE, size, **rotary)
    return ConvolvedMel(model, 4 if size == "tiny" else 512)


def _from_config(name, full, size, **more):
    import transformers  # it takes seconds, and is an extra

    sizes, layers = (TINY, 2) if size == "tiny" else (full, 12)
    config = getattr(transformers, name)(num_hidden_layers=layers, **sizes, **more)
    return transformers.AutoModel.from_config(config)


class Peer(NamedTuple):
    """An encoder of others: a builder of (B, N) waves -> (B, T, D), its rates in Hz."""

    build: Callable
    sample_rate: int
    token_rate: int
    what: str


PEERS = {
    "Wav2Vec2Conformer": Peer(
        wav2vec2_conformer,
        16000,
        50,
        "transformers' class: 12 blocks of 1024, 16 heads, feed-forward 4096, else its defaults "
        "(relative positions, group normalisation). Released models have 24 blocks and the "
        "slower layer normalisation in the front-end.",
    ),
    "MERT-like": Peer(
        mert_like,
        24000,
        75,
        "transformers' HuBERT in MERT-95M's size: 12 blocks of 768, 12 heads, feed-forward 3072, "
        "stride of 320 samples at 24 kHz, without MERT's training heads. MERT-330M (24 blocks of "
        "1024) computes about three times as much.",
    ),
    "MusicFM-like": Peer(
        musicfm_like,
        24000,
        25,
        "the blocks of transformers' Wav2Vec2Conformer (12 of 1024, 16 heads, feed-forward 4096, "
        "rotary positions) after two residual blocks of 3 x 3 convolutions with 512 channels and "
        "a linear layer; log-mel as in this project, not in decibels; no token head.",
    ),
}


def embedding(size="full", device="cpu", seconds=60.0):
    """Speed and memory of embedding a file; the models' sizes."""
    with TemporaryDirectory() as folder:
        result = measure(partial(candidates_in, folder=folder), size, device, seconds)
        audio = SECONDS[size] * gpu_batch(device)
        return {**result, "audio_seconds": audio, "models": describe(folder, size)}


def candidates_in(size="full", device="cpu", folder="."):
    """The benchmark; the file to embed and the exports are made in `folder` if missing.

    A model is loaded when it is first called. A peer returns (batch, D), ours (D,).
    """
    folder = Path(folder, size)
    music, batch = folder / "music.flac", gpu_batch(device)
    if not music.exists():
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(music, make_music(batch * SECONDS[size]), FILE_RATE)
    for name in SYSTEMS:
        if not (folder / name).exists():
            suffix = "_tiny" if size == "tiny" else ""
            model = make_encoders(f"random:{HPARAMS / name}{suffix}.yaml")[0].model
            save_export(folder / name, model.encoder, model.features)
    makers = {name: partial(_peer, PEERS[name], size, device, music, batch) for name in PEERS}
    makers |= {name: partial(_ours, folder / name, size, device, music, batch) for name in SYSTEMS}
    comparisons = [
        Comparison(
            f"{name}, {of}",
            name,
            baseline,
            TARGET if (name, of) == ("brn_sum", "time") else None,
            of,
        )
        for name in makers
        for baseline in BASELINES
        for of in (("time",) if size == "tiny" else ("time", "memory"))
        if name != baseline
    ]
    return Benchmark(
        f"embedding of {batch} x {SECONDS[size]} s",
        {name: _loaded_once(make) for name, make in makers.items()},
        comparisons,
        note=NOTE.format(segments=f"{batch} x {SECONDS[size]} s"),
    )


def _loaded_once(make):
    made = cache(make)
    return lambda: made()()


def _peer(peer, size, device, music, batch):
    model = peer.build(size).eval().to(device)
    length = SECONDS[size] * peer.sample_rate
    segments = [(index * length, length) for index in range(batch)]

    @torch.no_grad()
    def embed():
        waves = np.stack(list(read_segments(music, segments, peer.sample_rate)))
        return model(torch.from_numpy(waves).to(device)).mean(1).cpu().numpy()

    return embed


def _ours(export, size, device, music, batch):
    encoder = MusicEncoder.from_export(export, device=device)

    def embed():
        [(_, found)] = encoder.encode_files([music], chunk=float(SECONDS[size]), batch_size=batch)
        return found.values

    return embed


def describe(folder, size="full"):
    """Parameters, token rate and a description of each candidate in that folder."""
    with torch.device("meta"):
        models = {name: (peer.build(size), *peer[2:]) for name, peer in PEERS.items()}
    for name in SYSTEMS:
        models[name] = load_export(Path(folder, size, name)), TOKEN_RATE, OURS.format(name=name)
    return {
        name: {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "token_rate": token_rate,
            "what": what,
        }
        for name, (model, token_rate, what) in models.items()
    }
