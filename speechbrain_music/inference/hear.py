"""HEAR API: encoders of this package for the kits of the HEAR benchmark.

Source: https://hearbenchmark.com/hear-api.html (Turian et al. 2022, arXiv 2203.03022).
"""

import torch

from speechbrain_music.dataio.overlap import plan_chunks
from speechbrain_music.inference.encoder import MusicEncoder, to_mono_24k
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, TOKEN_RATE, token_count


class HearModel(torch.nn.Module):
    """A frozen `MusicEncoder` with the attributes that HEAR reads; it stays in eval mode."""

    sample_rate = 48000  # Hz; HEAR has no data at the encoder's 24 kHz

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.dim

    def train(self, mode=True):
        return super().train(False)


def load_model(model_file_path=""):
    """Load an export (a folder or a hub id) onto the CPU; by default the shipped encoder."""
    return HearModel(MusicEncoder.from_export(model_file_path or None, device="cpu"))


def get_timestamp_embeddings(audio, model):
    """Embed sounds by the last layer's tokens of 40 ms, in chunks of 30 s as `encode_file` does.

    `audio` is (n_sounds, n_samples) float32 in [-1, 1] at `model.sample_rate`, of any length.
    Returns embeddings (n_sounds, T, D) float32 and the centres of their tokens in milliseconds,
    (n_sounds, T), on the device of `audio`. Raises UserError for other or non-finite audio.
    """
    # `model.to` moves weights; the encoder puts waves on the device that it names.
    model.encoder.device = next(model.encoder.mods.features.buffers()).device
    wave, kept = torch.stack(to_mono_24k(audio, None, model.sample_rate)), []
    tokens = token_count(wave.shape[1])
    for context, keep in plan_chunks(tokens, 30 * TOKEN_RATE):
        samples = slice(context.start * SAMPLES_PER_TOKEN, context.stop * SAMPLES_PER_TOKEN)
        values = model.encoder.encode_batch(wave[:, samples]).values
        kept.append(values[:, keep.start - context.start : keep.stop - context.start])
    centres = (torch.arange(tokens, device=audio.device) + 0.5) * (1000 / TOKEN_RATE)
    return torch.cat(kept, 1), centres.expand(len(wave), tokens)


def get_scene_embeddings(audio, model):
    """Embed whole sounds: the mean over tokens, (n_sounds, D); as `get_timestamp_embeddings`."""
    return get_timestamp_embeddings(audio, model)[0].mean(1)
