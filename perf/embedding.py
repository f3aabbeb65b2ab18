"""Embedding a file, end to end, against encoders of others with random weights."""

from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from torch import nn
from torch.nn import functional as F

from perf import SIZES
from perf.benchmark import Benchmark, Comparison, gpu_batch
from perf.data import FILE_RATE, make_music
from perf.training import HPARAMS
from speechbrain_music.dataio.audio import read_segments
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frontend import TOKEN_RATE, LogMel

SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")
TARGET = 8  # times the speed of each baseline, for brn_sum
SIZE = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
LARGE, BASE, TINY = (12, 1024, 16, 4096), (12, 768, 12, 3072), (2, 16, 2, 32)


class Waves(nn.Module):
    """A transformers model of waves, each normalised to mean 0 and variance 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, wave):
        return self.model(F.layer_norm(wave, wave.shape[1:])).last_hidden_state


class Peer(NamedTuple):
    """An encoder of others: a transformers model of waves, its size, its rates in Hz."""

    what: str
    config: str
    size: tuple
    sample_rate: int
    token_rate: int

    def build(self, size="full"):
        """The module, with random weights."""
        import transformers  # it takes seconds, and is an extra

        sizes = dict(zip(SIZE, TINY if size == "tiny" else self.size, strict=True))
        config = getattr(transformers, self.config)(**sizes)
        return Waves(transformers.AutoModel.from_config(config))


CLASS = "transformers' Wav2Vec2Conformer, 12 blocks of 1024"
HUBERT = "transformers' HuBERT in MERT-95M's size, at 24 kHz"
PEERS = {
    "Wav2Vec2Conformer": Peer(CLASS, "Wav2Vec2ConformerConfig", LARGE, 16000, 50),
    "MERT-like": Peer(HUBERT, "HubertConfig", BASE, 24000, 75),
}


def embedding(size="full", device="cpu", folder="."):
    """Time includes reading, resampling and a batch in float32; memory also loading the model."""
    seconds, batch, folder = SIZES["segment"][size], gpu_batch(device), Path(folder, size)
    music = folder / "music.flac"
    makers = {name: partial(_peer, p, size, device, music, batch) for name, p in PEERS.items()}
    for name in SYSTEMS:
        makers[name] = partial(_ours, folder / name, seconds, device, music, batch)
        if not (folder / name).exists():
            suffix = "_tiny" if size == "tiny" else ""
            with open(f"{HPARAMS / name}{suffix}.yaml", encoding="utf-8") as file:
                save_export(folder / name, load_hyperpyyaml(file)["encoder"], LogMel())
    if not music.exists():
        soundfile.write(music, make_music(batch * seconds), FILE_RATE)

    def details():
        with torch.device("meta"):
            found = [(name, p.build(size), p.token_rate, p.what) for name, p in PEERS.items()]
        for name in SYSTEMS:
            found.append((name, load_export(folder / name), TOKEN_RATE, f"`hparams/{name}.yaml`"))
        models = {}
        for name, model, rate, what in found:
            parameters = sum(map(torch.numel, model.parameters()))
            models[name] = {"parameters": parameters, "token_rate": rate, "what": what}
        return {"audio_seconds": batch * seconds, "models": models}

    remembered = [] if size == "tiny" else SYSTEMS
    return Benchmark(
        f"embedding of {batch} x {seconds} s",
        {name: partial(_call, cache(make)) for name, make in makers.items()},
        [
            Comparison(f"{name}, time", name, peer, TARGET if name == "brn_sum" else None)
            for name in SYSTEMS
            for peer in PEERS
        ]
        + [Comparison(f"{name}, memory", name, "MERT-like", of="memory") for name in remembered],
        details=details,
    )


def _call(make):
    return make()()


def _peer(peer, size, device, music, batch):
    model = peer.build(size).eval().to(device)
    length = SIZES["segment"][size] * peer.sample_rate
    segments = [(index * length, length) for index in range(batch)]

    @torch.no_grad()
    def embed():
        waves = np.stack(list(read_segments(music, segments, peer.sample_rate)))
        return model(torch.from_numpy(waves).to(device)).mean(1).cpu().numpy()

    return embed


def _ours(export, seconds, device, music, batch):
    encoder = MusicEncoder.from_export(export, device=device)

    def embed():
        [(_, found)] = encoder.encode_files([music], chunk=float(seconds), batch_size=batch)
        return found.values

    return embed
