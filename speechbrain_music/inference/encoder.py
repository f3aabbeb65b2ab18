"""Music encoder for inference: embeddings of waves and of files of any length."""

import math
import numbers
import operator
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import soxr
import torch
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.distributed import infer_device
from torch.nn.utils.rnn import pad_sequence

from speechbrain_music.dataio.audio import SAMPLE_RATE, AudioError, resampled_length
from speechbrain_music.inference import long_audio
from speechbrain_music.inference.hub import find_export
from speechbrain_music.inference.stream import Stream
from speechbrain_music.models.export import WaveEncoder, load_export
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.models.frozen_encoder import POOLINGS, pool_states
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.utils import kinds
from speechbrain_music.utils.errors import UserError

# Tokens per item of a batch if files are encoded whole.
WHOLE_FILE_TOKENS = 30 * TOKEN_RATE


class Embedding(NamedTuple):
    """Embeddings of a batch of waves, or of one file.

    `values` are float32: of a batch (B, T, D), pooled (B, D); of a file (T, D), pooled (D,); with
    several layers an axis of L before T or D. D doubles with "mean_std". Past a wave's end, 0.
    """

    values: object
    lengths: object  # tokens of each wave, (B,) int64, or of the file
    times: np.ndarray = None  # (T,) seconds at which the tokens of an unpooled file begin


def find_device(device=None):
    """The name of a device, with its number, or of the fastest; UserError if it does not exist."""
    device = device or infer_device()
    if not kinds.device.fits(device):
        raise UserError(f"device is {device!r}: it must be {kinds.device.allowed}")
    return str(torch.empty(0, device=device).device)


class MusicEncoder(Pretrained):
    """Embeddings of music from any layer: 25 vectors per second, or one vector per file.

    Use `from_export`, which runs no code of the export. **SpeechBrain's `from_hparams` is for your
    own yamls only, which build any object, and so run any code.** The context of an encoder is one
    chunk: SummaryMixing's mean and attention see nothing beyond it.

    `modules` has `features`, as `models.frontend.LogMel`, and `encoder`, as
    `models.encoder.Encoder`, else UserError; `config` is the content of an export's `config.json`.
    `dtype` is of the encoder: "float32" (None), "bfloat16" or "float16", with int8 weights float32,
    else UserError. The log-mel and its statistics, pooling and results are float32 in any case.
    The other arguments are those of `speechbrain.inference.interfaces.Pretrained`; `load_audio`
    resamples to 24 kHz unless `hparams` has an `audio_normalizer`.

    Example
    -------
    >>> from speechbrain_music.models.encoder import make_encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> modules = {"features": LogMel(), "encoder": make_encoder(num_layers=2, d_model=16)}
    >>> encoder = MusicEncoder(modules)
    >>> encoder.num_layers, encoder.dim  # the front-end and two blocks
    (3, 16)
    >>> encoder.encode_batch(torch.randn(1, 24000)).values.shape
    torch.Size([1, 25, 16])
    """

    MODULES_NEEDED = ["features", "encoder"]
    sample_rate = SAMPLE_RATE
    token_rate = TOKEN_RATE

    def __init__(
        self, modules=None, hparams=None, run_opts=None, freeze_params=True, config=None, dtype=None
    ):
        missing = set(self.MODULES_NEEDED) - set(modules or ())
        if missing:
            raise UserError(f"modules lack {' and '.join(sorted(missing))}: set both in the yaml")
        modules["encoder"].compute_in(dtype or "float32")
        normalizer = {"audio_normalizer": AudioNormalizer(SAMPLE_RATE)}
        super().__init__(modules, normalizer | (hparams or {}), run_opts, freeze_params)
        self.config = config or {}

    @classmethod
    def from_export(cls, source=None, device=None, revision=None, classes=(), dtype=None):
        """Load an export from JSON and safetensors; no code of the export is run.

        `source` is a folder, or a model on the Hugging Face hub, "user/name", with a branch, tag or
        commit as `revision`; None is the small encoder that this package ships. `device` is such as
        "cpu" or "cuda:1", by default the fastest. `classes` outside this package that the export
        may use, and the errors, are those of `models.export.load_export`; UserError if the device
        does not exist.
        """
        device = find_device(device)
        model = load_export(find_export(source, revision), device, classes)
        modules = {"features": model.features, "encoder": model.encoder}
        return cls(modules, run_opts={"device": device}, config=model.config, dtype=dtype)

    @property
    def num_layers(self):
        """Number of hidden states: the front-end's output and each block's."""
        return len(self.mods.encoder.layers) + 1

    @property
    def dim(self):
        """Width of a hidden state."""
        return self.mods.encoder.config["d_model"]

    @property
    def model(self):
        """Features and encoder as one module, from waves to hidden states."""
        return WaveEncoder(self.mods.features, self.mods.encoder, self.config)

    @property
    def fingerprint(self):
        """Hash, equal for equal weights and configuration; the `identity` in a `results.json`."""
        return ExportEncoder(self.model, "").identity

    def forward(self, wavs, wav_lens=None):
        """`encode_batch` with its defaults."""
        return self.encode_batch(wavs, wav_lens)

    def encode_batch(self, wavs, wav_lens=None, sample_rate=SAMPLE_RATE, layers=-1, pool="none"):
        """Encode waves; a padded wave gets the values that it gets alone.

        Arguments
        ---------
        wavs : torch.Tensor or np.ndarray
            (B, N), or (B, N, C) with channels, which are averaged; floats between -1 and 1.
        wav_lens : torch.Tensor or np.ndarray, optional
            (B,) lengths relative to N, in (0, 1], as in SpeechBrain; None: no padding.
        sample_rate : int
            Of the waves, Hz; they are resampled to 24 kHz.
        layers : int, list of int or str
            From 0, the front-end, to `num_layers` - 1; negative ones count from the end; "all".
        pool : str
            Over time: "none", "mean", or "mean_std" (means, then standard deviations).

        Returns an `Embedding` of arrays of the type, and on the device, of `wavs`. Raises UserError
        for other values, and for samples or embeddings that are not finite.
        """
        chosen, single = self.choose_layers(layers, pool)
        hidden, tokens = self._encode(to_mono_24k(wavs, wav_lens, sample_rate))
        hidden = [hidden[layer] for layer in chosen]
        values = torch.stack(hidden, 1) if pool == "none" else pool_states(hidden, tokens, pool)
        values = values[:, 0] if single else values
        if not values.isfinite().all():
            raise UserError("the embeddings are not finite: pass floats between -1 and 1")
        if isinstance(wavs, torch.Tensor):
            return Embedding(values.float().to(wavs.device), tokens.to(wavs.device))
        return Embedding(values.float().cpu().numpy(), tokens.cpu().numpy())

    def encode_file(self, path, layers=-1, pool="none", chunk=30.0, overlap=0.0, batch_size=8):
        """Encode a file of any length, rate and format.

        Memory does not grow with the file's length (unless `chunk` is None; mp3 without a true Xing
        header, and other formats behind an ID3v2 tag, are held as they are stored): with the
        defaults, on a CPU, the process stays below 2 GiB for a tiny encoder and below 2.5 GiB for
        `brn_sum`. Results above 512 MB are memory-mapped from a temporary file.

        Arguments
        ---------
        path, layers, pool
            An audio file, and as `encode_batch` takes them.
        chunk : float, optional
            The context in seconds, a multiple of 0.04; None: the whole file. SummaryMixing and
            attention mix within a chunk only, so another length gives other values.
        overlap : float
            Seconds that neighbouring chunks share, a multiple of 0.04, less than `chunk`. Each
            token comes from the chunk in which it lies farther from the edge.
        batch_size : int
            Chunks per batch; of shorter chunks, as many as cost the same.

        Returns an `Embedding` of numpy arrays, of ceil(samples / 960) tokens for samples at 24 kHz.
        Raises AudioError if the file cannot be read; UserError for other values; OSError if the
        temporary file cannot be written.
        """
        ((_, result),) = self.encode_files([path], layers, pool, chunk, overlap, batch_size)
        if isinstance(result, AudioError):
            raise result
        return result

    def encode_files(self, paths, layers=-1, pool="mean", chunk=30.0, overlap=0.0, batch_size=8):
        """Encode many files; chunks of several files share a batch without changing the values.

        `paths` is an iterable; the other arguments are those of `encode_file`. Yields each path, in
        their order, and what `encode_file` returns or raises as AudioError: an unreadable file does
        not end the others. Raises UserError for other values, at once.
        """
        if isinstance(paths, (str, Path)):
            raise UserError(f"paths is {str(paths)!r}: pass a list of files")
        chosen, single = self.choose_layers(layers, pool)
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise UserError(f"batch_size is {batch_size!r}: it must be a whole number above 0")
        shared = _to_tokens("overlap", overlap)
        length = None if chunk is None else _to_tokens("chunk", chunk)
        if length == 0 or (shared and (length is None or shared >= length)):
            raise UserError(
                f"chunk is {chunk} and overlap {overlap}: chunk must be above 0 and above overlap; "
                "with a whole file, None, overlap must be 0"
            )
        budget = batch_size * (length or WHOLE_FILE_TOKENS)
        return self._encode_files(paths, chosen, single, pool, length, shared, budget)

    def _encode_files(self, paths, layers, single, pool, chunk, overlap, budget):
        """`encode_files` with lengths in tokens, `budget` of them per batch."""

        def new_aggregator(part):
            if pool == "none":
                return long_audio.TokenAggregator(len(layers), part.file_tokens, self.dim)
            return long_audio.PoolAggregator(pool)

        files = (SimpleNamespace(path=path, aggregator=None, finite=True) for path in paths)
        chunks = chain.from_iterable(long_audio.read_chunks(f, chunk, overlap) for f in files)
        with closing(long_audio.prefetch(long_audio.group_chunks(chunks, budget))) as groups:
            for group in groups:
                for batch in long_audio.batch_chunks(group, budget):
                    hidden, _ = self._encode([torch.from_numpy(part.wave) for part in batch])
                    states = [hidden[layer].float().cpu().numpy() for layer in layers]
                    for row, part in enumerate(batch):
                        part.file.aggregator = part.file.aggregator or new_aggregator(part)
                        context, keep = part.span
                        kept = slice(keep.start - context.start, keep.stop - context.start)
                        values = [state[row, kept] for state in states]
                        part.file.finite &= all(np.isfinite(value).all() for value in values)
                        part.file.aggregator.add(keep.start, values)
                for part in group:  # in the order of files and of their chunks
                    if part.error:
                        yield part.file.path, part.error
                    elif part.is_last and not part.file.finite:
                        fault = "its embedding is not finite; repair or remove the file."
                        yield part.file.path, AudioError(f"{part.file.path}: {fault}")
                    elif part.is_last:
                        tokens = part.file.aggregator.count
                        times = np.arange(tokens) / TOKEN_RATE if pool == "none" else None
                        values = part.file.aggregator.result()
                        values = values[0] if single else values
                        yield part.file.path, Embedding(values, tokens, times)

    def stream(self, layer=-1, sample_rate=SAMPLE_RATE):
        """A `Stream`: hidden states of one layer of audio while it arrives, mono, at `sample_rate`.

        Raises UserError if blocks were not trained with a `lookahead`, or for other values.

        Example
        -------
        >>> from speechbrain_music.models.encoder import make_encoder
        >>> from speechbrain_music.models.frontend import LogMel
        >>> encoder = make_encoder(num_layers=2, d_model=16, lookahead=0)
        >>> stream = MusicEncoder({"features": LogMel(), "encoder": encoder}).stream()
        >>> states = [stream.feed(np.zeros(4800)) for _ in range(5)] + [stream.finish()]
        >>> [len(each) for each in states], stream.latency
        ([4, 5, 5, 5, 5, 1], 0.08)
        """
        (layer,), _ = self.choose_layers([layer], "none")
        return Stream(self, layer, _check_sample_rate(sample_rate))

    def _encode(self, waves):
        """Return hidden states, each (B, T, D), 0 past a wave's end; and (B,) tokens."""
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        wave = pad_sequence(waves, batch_first=True).to(self.device)
        with full_float32(self.device), torch.no_grad(), self.inference_ctx:
            _, hidden, tokens = self.model(wave, lengths)
        return hidden, tokens

    def choose_layers(self, layers, pool):
        """Return a list of layer numbers from 0, and whether the layer axis is dropped."""
        if pool not in ("none", *POOLINGS):
            raise UserError(f"pool is {pool!r}: choose none, {', '.join(POOLINGS)}")
        count = range(self.num_layers)
        if isinstance(layers, str) and layers == "all":
            return list(count), False
        single = not isinstance(layers, (list, tuple, range, np.ndarray))
        try:
            chosen = [count[operator.index(layer)] for layer in ([layers] if single else layers)]
        except (TypeError, IndexError):
            chosen = []
        if not chosen:
            raise UserError(
                f"layers is {layers!r:.100}: choose one from {-len(count)} to {len(count) - 1}, a "
                "list of them, or 'all'"
            )
        return chosen, single


def _to_tokens(name, seconds):
    if isinstance(seconds, numbers.Real) and math.isfinite(seconds) and seconds >= 0:
        tokens = round(seconds * TOKEN_RATE)
        if abs(tokens - seconds * TOKEN_RATE) < 1e-6:
            return tokens
    raise UserError(f"{name} is {seconds!r}: it must be a multiple of 0.04 s, from 0 on")


def _check_sample_rate(sample_rate):
    if not isinstance(sample_rate, numbers.Integral) or sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate!r}: it must be a whole number of Hz")
    return int(sample_rate)


def to_mono_24k(wavs, wav_lens, sample_rate):
    """Cut a padded batch into B mono waves at 24 kHz, (n,) float32, as they are read from files."""
    _check_sample_rate(sample_rate)
    if not isinstance(wavs, torch.Tensor):
        wavs = torch.from_numpy(np.ascontiguousarray(wavs))
    if wavs.ndim not in (2, 3) or not wavs.numel() or wavs.shape[1] < wavs.shape[-1]:
        raise UserError(
            f"wavs has shape {tuple(wavs.shape)}: it must be (waves, samples) or (waves, samples, "
            "channels)"
        )
    if not wavs.is_floating_point():
        raise UserError(f"wavs is {wavs.dtype}: pass floats between -1 and 1")
    wavs = wavs.float()
    if wavs.ndim == 3:
        wavs = wavs.mean(2)
    batch, samples = wavs.shape
    share = torch.ones(batch) if wav_lens is None else torch.as_tensor(wav_lens).cpu()
    if share.shape != (batch,) or not ((share > 0) & (share <= 1)).all():
        raise UserError(
            f"wav_lens is {share.tolist()!s:.200}: pass {batch} lengths relative to the longest, "
            "above 0 and at most 1"
        )
    lengths = (share.double() * samples).round().long().clamp(min=1).tolist()
    waves = [wave[:length] for wave, length in zip(wavs, lengths, strict=True)]
    if not all(wave.isfinite().all() for wave in waves):
        raise UserError("wavs has NaN or infinite samples: leave those waves out")
    if not resampled_length(min(lengths), sample_rate):
        raise UserError(
            f"the shortest wave has {min(lengths)} samples at {sample_rate} Hz: too few for one "
            "at 24 kHz"
        )
    if sample_rate == SAMPLE_RATE:
        return waves
    for index, wave in enumerate(waves):
        resampled = soxr.resample(wave.cpu().numpy(), sample_rate, SAMPLE_RATE, quality="HQ")
        resampled = resampled[: resampled_length(len(wave), sample_rate)]
        waves[index] = torch.from_numpy(resampled).to(wave.device)
    return waves
