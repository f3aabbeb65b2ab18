"""Embedding a file, end to end, against encoders of others with random weights."""

from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from torch.nn import functional as F

from perf import PEERS
from perf.benchmark import Benchmark, Comparison, describe_model, gpu_batch
from perf.data import FILE_RATE, make_music
from perf.training import HPARAMS
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segments
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.cli.similar import rank, unit_layers
from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import save_export
from speechbrain_music.models.frontend import TOKEN_RATE, LogMel

SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")


def make_peer(name, size="full", device=None):
    """An encoder of others, a model of `transformers`, with random weights."""
    import transformers  # it takes seconds, and is an extra

    peer = PEERS[name]
    config = getattr(transformers, peer["config"])(**peer[size])
    return transformers.AutoModel.from_config(config).eval().to(device)


def last_hidden_state(model, waves):
    """Hidden states (items, tokens, dim) of waves, each normalised to mean 0 and variance 1."""
    return model(F.layer_norm(waves, waves.shape[1:])).last_hidden_state


def embedding(size, device, folder):
    """Each candidate reads a FLAC file, resamples it, and averages its last hidden state over time.

    Weights are random, on which speed does not depend. Time includes reading, resampling and a
    batch in float32; memory also loading the model.
    """
    (seconds, suffix), batch = size, gpu_batch(device)
    music, candidates, memory_of, models = Path(folder, "music.flac"), {}, {}, {}
    soundfile.write(music, make_music(batch * seconds), FILE_RATE)

    def add(name, load, embed, token_rate, what):
        """A candidate; its memory is that of loading the model and embedding once."""
        model = load()
        candidates[name] = partial(embed, model, music, seconds, batch)
        memory_of[name] = lambda: embed(load(), music, seconds, batch)
        models[name] = describe_model(model, token_rate, what)

    for name, peer in PEERS.items():
        load = partial(make_peer, name, "tiny" if suffix else "full", device)
        embed = partial(_theirs, sample_rate=peer["sample_rate"])
        add(name, load, embed, peer["token_rate"], peer["what"])
    for name in SYSTEMS:
        with open(f"{HPARAMS / name}{suffix}.yaml", encoding="utf-8") as file:
            save_export(Path(folder, name), load_hyperpyyaml(file)["encoder"], LogMel())
        load = partial(MusicEncoder.from_export, Path(folder, name), device)
        add(name, load, _ours, TOKEN_RATE, f"`hparams/{name}.yaml`")
    details = {"audio_seconds": batch * seconds, "models": models}
    label = f"embedding of {batch} x {seconds} s"
    return Benchmark(label, candidates, memory_of=memory_of, details=details)


@torch.no_grad()
def _theirs(model, music, seconds, batch, sample_rate):
    length = seconds * sample_rate
    segments = [(index * length, length) for index in range(batch)]
    waves = torch.from_numpy(np.stack(list(read_segments(music, segments, sample_rate))))
    return last_hidden_state(model, waves.to(model.device)).mean(1).cpu().numpy()


def _ours(model, music, seconds, batch):
    [(_, found)] = model.encode_files([music], chunk=float(seconds), batch_size=batch)
    return found.values


def search(size, device, folder):
    """The ten most similar, as by `sbmusic similar`: exact, without an index (recall is 1)."""
    values = np.random.default_rng(0).standard_normal(size, np.float32)
    prepare = partial(unit_layers, values, "standardised")
    candidates = {"query": partial(rank, prepare(), 0, 10), "preparation": prepare}
    limits = {"20 ms": [0.02], "a minute": [60]}
    labels = (f"{name} of {size[0]} x {size[1]}" for name in candidates)
    rows = zip(labels, candidates, limits, strict=True)
    comparisons = [Comparison(*row, 1, bound="<=") for row in rows]
    return Benchmark("search among embeddings", candidates, comparisons, times=limits)


def streaming(size, device, folder):
    """`brn_sum` with a lookahead of 0 on audio that arrives in parts; "the audio" is its length."""
    seconds, options = size
    modules = {"features": LogMel(), "encoder": make_encoder(**options, lookahead=0)}
    encoder = MusicEncoder(modules, run_opts={"device": device})
    wave = make_music(seconds)[: seconds * SAMPLE_RATE].mean(1, dtype=np.float32)

    def stream(samples):
        stream = encoder.stream()
        for start in range(0, len(wave), samples):
            stream.feed(wave[start : start + samples])
        stream.finish()

    parts = {f"parts of {s:g} s": partial(stream, round(s * SAMPLE_RATE)) for s in (1, 0.2, 0.04)}
    whole = {"whole": partial(encoder.encode_batch, wave[None])}
    times = {"the audio": [seconds]}
    return Benchmark(f"streaming of {seconds} s", parts | whole, times=times)
