"""Hidden states of audio while it arrives, from encoders that were trained with a `lookahead`."""

from functools import partial

import numpy as np
import soxr
import torch

from speechbrain_music.dataio.audio import SAMPLE_RATE
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, TOKEN_RATE
from speechbrain_music.nnet.convolution import Past
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.utils.errors import UserError

# Tokens that the front-end reads before a token and after it: the log-mel two and one, as its
# windows of 2.1 tokens are centred, and its convolutions two.
BEFORE, AHEAD = 4, 1


class Window:
    """Applies a module to a sequence that arrives in parts, as if it were whole.

    `module(x, leaving)` maps (1, n, ...) steps to as many. It reads at most `before` steps before
    each and `ahead` after it, so the last steps are kept and given to it again with the next ones,
    all but the first `leaving`.
    """

    def __init__(self, module, before, ahead):
        self.module, self.before, self.ahead = module, before, ahead
        self.kept, self.done = None, 0  # steps, and how many of them have their results

    def __call__(self, x, last):
        """The next steps to the results that are certain; if `last`, to all. None is no steps."""
        parts = [part for part in (self.kept, x) if part is not None]
        steps = sum(part.shape[1] for part in parts)
        ready = steps - (0 if last else self.ahead)
        if ready <= self.done:
            self.kept = torch.cat(parts, dim=1) if parts else None
            return None
        x, leaving = torch.cat(parts, dim=1), max(ready - self.before, 0)
        result = self.module(x, leaving)[:, self.done : ready]
        self.kept, self.done = x[:, leaving:], ready - leaving
        return result


def _continue(block, past, x, leaving):
    past.leaving = leaving
    return block(x, past=past)


class Stream:
    """One piece of audio, from its first to its last sample; `MusicEncoder.stream` makes it.

    `feed` takes samples, mono at `sample_rate`, and returns the (n, D) float32 states of the tokens
    that are complete; `finish` returns the rest. Together they are what `encode_batch` gives for
    the whole piece. `latency` is the time in seconds from the beginning of a token to the arrival
    of the last sample that it needs; resampling to 24 kHz adds milliseconds. Memory does not grow.
    """

    def __init__(self, encoder, layer, sample_rate):
        self.encoder, features, model = encoder, encoder.mods.features, encoder.mods.encoder
        blocks = model.layers[:layer]
        lookahead = [getattr(block, "lookahead", None) for block in blocks]
        if None in lookahead:
            raise UserError(
                "the encoder reads whole pieces and cannot be streamed: train one with --lookahead "
                "0, or more, and SummaryMixing"
            )
        self.steps = model.steps
        self.latency = (1 + AHEAD + sum(lookahead) / self.steps) / TOKEN_RATE
        self.resampler = None
        if sample_rate != SAMPLE_RATE:
            self.resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, "float32", "HQ")
        self.norm = model.norm if layer == len(model.layers) else torch.nn.Identity()
        self.samples = np.zeros(0, np.float32)  # less than a token
        dtype = model.norm.norm.weight.dtype
        self.states = torch.zeros(1, 0, encoder.dim, dtype=dtype)  # less than a token of steps

        def frontend(tokens, _):
            wave = tokens.flatten(1)
            mel, _ = features(wave, torch.full((1,), wave.shape[1], device=wave.device))
            return model.frontend(mel.to(dtype)).unflatten(1, (-1, self.steps))

        self.frontend = Window(frontend, BEFORE, AHEAD)
        self.blocks = [Window(partial(_continue, b, Past()), 0, b.lookahead) for b in blocks]

    def feed(self, samples):
        """(n,) floats between -1 and 1 to (tokens, D) float32; UserError for other arrays."""
        return self._advance(samples, last=False)

    def finish(self):
        """The remaining (tokens, D) states; the stream takes no samples after that."""
        return self._advance(np.zeros(0, np.float32), last=True)

    @torch.inference_mode()
    def _advance(self, samples, last):
        if self.samples is None:
            raise UserError("the stream is finished: begin another one")
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
            raise UserError(
                f"samples are {samples.dtype} of shape {samples.shape}: pass finite floats between "
                "-1 and 1, in one dimension"
            )
        samples = samples.astype(np.float32)
        if self.resampler:
            samples = self.resampler.resample_chunk(samples, last)
        samples = np.concatenate([self.samples, samples])
        if last:
            samples = np.pad(samples, (0, -len(samples) % SAMPLES_PER_TOKEN))
        tokens, rest = np.split(samples, [len(samples) - len(samples) % SAMPLES_PER_TOKEN])
        self.samples = None if last else rest
        x = torch.from_numpy(tokens).view(1, -1, SAMPLES_PER_TOKEN).to(self.encoder.device)
        x = x if len(tokens) else None
        with full_float32(self.encoder.device), self.encoder.inference_ctx:
            x = self.frontend(x, last)
            x = None if x is None else x.flatten(1, 2)
            for window in self.blocks:
                x = window(x, last)
            x = self.states if x is None else torch.cat([self.states.to(x), x], dim=1)
            whole = x.shape[1] // self.steps
            self.states = x[:, whole * self.steps :]
            x = self.norm(x[:, : whole * self.steps]).unflatten(1, (whole, self.steps)).mean(dim=2)
        return x[0].float().cpu().numpy()
