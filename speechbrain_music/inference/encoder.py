"""A trained encoder for those who did not train it: embeddings of waves and files."""

import math
import numbers
import operator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.distributed import infer_device
from torch.nn.utils.rnn import pad_sequence

from speechbrain_music.dataio.audio import SAMPLE_RATE, AudioError
from speechbrain_music.inference.chunking import ahead, in_batches, in_windows, read_chunks
from speechbrain_music.inference.hub import find_export
from speechbrain_music.inference.joining import Frames, Pooled, writable
from speechbrain_music.inference.waves import as_waves
from speechbrain_music.models.export import WaveEncoder, load_export
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen_encoder import POOLINGS, pool_states
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.utils.atomic import atomic_file
from speechbrain_music.utils.errors import UserError

WHOLE = 30 * TOKEN_RATE  # where files are heard whole, tokens that count as one of a batch


class Embedding(NamedTuple):
    """What an encoder says of a batch of waves, or of a file.

    Arguments
    ---------
    values : torch.Tensor or np.ndarray
        float32. Of a batch (B, T, D), pooled (B, D); of a file (T, D), pooled (D,); with several
        layers an axis of L before T or D. D doubles with "mean_std". Past a wave's end, 0.
    lengths : torch.Tensor, np.ndarray or int
        Tokens of each wave, (B,) int64, or of the file.
    times : np.ndarray, optional
        (T,) float64, of a file by time: the second at which each token's 40 ms begin.

    Example
    -------
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> encoder = MusicEncoder({"features": LogMel(), "encoder": Encoder(num_layers=1, d_model=16)})
    >>> batch = encoder.encode_batch(torch.randn(2, 24000), torch.tensor([1.0, 0.5]))
    >>> batch.lengths, batch.values[1, 13:].abs().max(), batch.times
    (tensor([25, 13]), tensor(0.), None)
    """

    values: object
    lengths: object
    times: np.ndarray = None


class MusicEncoder(Pretrained):
    """Embeddings of music: 25 a second, or one for the whole, from any layer.

    Made by `from_export`, which runs no code, or by SpeechBrain's `from_hparams`. What an encoder
    of SummaryMixing adds to each token is a mean over what it hears: with `chunk`, over one chunk.

    Arguments
    ---------
    modules : dict
        `features`, as `models.frontend.LogMel`, and `encoder`, as `models.encoder.Encoder`.
    hparams, run_opts, freeze_params
        As `speechbrain.inference.interfaces.Pretrained` takes them; `load_audio` gives 24 kHz
        unless `hparams` has an `audio_normalizer`.
    config : dict, optional
        What an export's `config.json` says.

    Raises
    ------
    UserError
        If one of the modules is missing.

    Example
    -------
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.models.frontend import LogMel
    >>> modules = {"features": LogMel(), "encoder": Encoder(num_layers=2, d_model=16)}
    >>> encoder = MusicEncoder(modules)
    >>> encoder.num_layers, encoder.dim  # what the front-end gives, and each of two blocks
    (3, 16)
    >>> encoder.encode_batch(torch.randn(1, 24000)).values.shape
    torch.Size([1, 25, 16])
    """

    MODULES_NEEDED = ["features", "encoder"]
    sample_rate = SAMPLE_RATE
    token_rate = TOKEN_RATE

    def __init__(self, modules=None, hparams=None, run_opts=None, freeze_params=True, config=None):
        missing = set(self.MODULES_NEEDED) - set(modules or ())
        if missing:
            raise UserError(f"modules lack {' and '.join(sorted(missing))}: a yaml names both")
        normalizer = {"audio_normalizer": AudioNormalizer(SAMPLE_RATE)}
        super().__init__(modules, normalizer | (hparams or {}), run_opts, freeze_params)
        self.config = config or {}

    @classmethod
    def from_export(cls, source, device=None, revision=None):
        """Loads what `save_export` wrote: JSON and safetensors, from which no code runs.

        Arguments
        ---------
        source : str | Path
            A folder, or a model on the Hugging Face hub, "user/name".
        device : str, optional
            Such as "cpu" or "cuda:1"; the fastest there is if not given.
        revision : str, optional
            Branch, tag or commit on the hub.

        Returns
        -------
        MusicEncoder
            Frozen, in eval mode.

        Raises
        ------
        UserError
            If the export is missing, damaged or not what it says, the hub does not give it, or
            there is no such device.

        Example
        -------
        >>> from speechbrain_music.models.encoder import Encoder
        >>> from speechbrain_music.models.export import save_export
        >>> from speechbrain_music.models.frontend import LogMel
        >>> folder = getfixture("tmp_path") / "export"
        >>> save_export(folder, Encoder(num_layers=1, d_model=16), LogMel(), steps=10)
        >>> MusicEncoder.from_export(folder, device="cpu").config["training"]
        {'steps': 10}
        """
        try:
            device = str(torch.empty(0, device=device or infer_device()).device)  # with its number
        except (RuntimeError, AssertionError) as error:
            fault = str(error).partition("\n")[0]
            raise UserError(f"device is {device!r}: {fault:.200}; choose cpu or cuda:0") from None
        model = load_export(find_export(source, revision), device)
        modules = {"features": model.features, "encoder": model.encoder}
        return cls(modules, run_opts={"device": device}, config=model.config)

    @classmethod
    def from_hparams(cls, source, hparams_file="hyperparams.yaml", **kwargs):
        """Loads a yaml and what its `pretrainer` names, as SpeechBrain's models come.

        **This trusts its source: a yaml builds any object, and so runs any code.** For models of
        people you do not know, `from_export` is the way.

        Arguments
        ---------
        source : str
            A folder, a URL or a hub id with the yaml and the files.
        hparams_file : str
            Its yaml has `modules` with `features` and `encoder`, and a `pretrainer`.
        **kwargs
            As `speechbrain.inference.interfaces.pretrained_from_hparams` takes them: `savedir`,
            `overrides`, `run_opts={"device": "cuda:0"}` ...

        Returns
        -------
        MusicEncoder
            Frozen, in eval mode.

        Example
        -------
        >>> folder = getfixture("tmp_path")
        >>> _ = (folder / "hyperparams.yaml").write_text('''
        ... features: !new:speechbrain_music.models.frontend.LogMel
        ... encoder: !new:speechbrain_music.models.encoder.Encoder
        ...     num_layers: 1
        ...     d_model: 16
        ... modules:
        ...     features: !ref <features>
        ...     encoder: !ref <encoder>
        ... pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
        ...     loadables:
        ...         features: !ref <features>
        ...         encoder: !ref <encoder>
        ... ''')
        >>> from speechbrain_music.models.encoder import Encoder
        >>> from speechbrain_music.models.frontend import LogMel
        >>> torch.save(LogMel().state_dict(), folder / "features.ckpt")
        >>> torch.save(Encoder(num_layers=1, d_model=16).state_dict(), folder / "encoder.ckpt")
        >>> MusicEncoder.from_hparams(str(folder), savedir=folder).dim
        16
        """
        return super().from_hparams(source, hparams_file, **kwargs)

    @property
    def num_layers(self):
        """Hidden states: what the front-end gives, and each block."""
        return self.mods.encoder.config["num_layers"] + 1

    @property
    def dim(self):
        """Width of a hidden state."""
        return self.mods.encoder.config["d_model"]

    @property
    def model(self):
        """The parts as one module, from waves to hidden states."""
        return WaveEncoder(self.mods.features, self.mods.encoder, self.config)

    def forward(self, wavs, wav_lens=None):
        """`encode_batch` with its defaults."""
        return self.encode_batch(wavs, wav_lens)

    def encode_batch(self, wavs, wav_lens=None, sample_rate=SAMPLE_RATE, layers=-1, pool="none"):
        """Encodes waves, each as if it were alone.

        Arguments
        ---------
        wavs : torch.Tensor or np.ndarray
            (B, N), or (B, N, C) with channels, which are averaged; floats between -1 and 1.
        wav_lens : torch.Tensor or np.ndarray, optional
            (B,) lengths relative to N, in (0, 1], as SpeechBrain has them; None: nothing is
            padding.
        sample_rate : int
            Of the waves, Hz; they are resampled to 24 kHz.
        layers : int, list of int or str
            From 0, the front-end, to `num_layers` - 1; negative ones count from the end; "all".
        pool : str
            Over time: "none", "mean", or "mean_std" (means, then deviations).

        Returns
        -------
        Embedding
            Arrays of the kind, and on the device, of `wavs`.

        Raises
        ------
        UserError
            For other values, and samples that are not finite.

        Example
        -------
        >>> from speechbrain_music.models.encoder import Encoder
        >>> from speechbrain_music.models.frontend import LogMel
        >>> encoder = MusicEncoder({"features": LogMel(), "encoder": Encoder(num_layers=1)})
        >>> stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 44100, 2))
        >>> result = encoder.encode_batch(stereo, [1.0, 0.5], 44100, layers="all")
        >>> result.values.shape, result.lengths
        ((2, 2, 25, 512), array([25, 13]))
        >>> encoder.encode_batch(stereo, sample_rate=44100, pool="mean_std").values.shape
        (2, 1024)
        """
        chosen, single = self._layers(layers)
        _check_pool(pool)
        hidden, tokens = self._encode(as_waves(wavs, wav_lens, sample_rate))
        hidden = [hidden[layer] for layer in chosen]
        values = torch.stack(hidden, 1) if pool == "none" else pool_states(hidden, tokens, pool)
        values = values[:, 0] if single else values
        if isinstance(wavs, torch.Tensor):
            return Embedding(values.float().to(wavs.device), tokens.to(wavs.device))
        return Embedding(values.float().cpu().numpy(), tokens.cpu().numpy())

    def encode_file(
        self, path, layers=-1, pool="none", chunk=30.0, overlap=0.0, batch_size=8, out=None
    ):
        """Encodes a file of any length, rate and format.

        Memory does not grow with the file's length if results are pooled, or go to `out`: with the
        defaults, on a CPU, the whole process stays below 2 GiB with a tiny encoder and 2.5 GiB
        with `brn_sum` (measured on 3 hours of 44.1 kHz stereo: 1.5 and 2.1). It does with `chunk`
        None.

        Arguments
        ---------
        path : str | Path
            An audio file.
        layers, pool
            As `encode_batch` takes them.
        chunk : float, optional
            Seconds that are heard at once, a multiple of 0.04; None: the whole file. What is
            heard at once is what attention and SummaryMixing mix: other chunks, other values.
        overlap : float
            Seconds that neighbouring chunks share, a multiple of 0.04, less than `chunk`. Each
            token comes from the chunk in which it lies farther from the edge.
        batch_size : int
            Chunks that are encoded together, or as many shorter ones as cost the same.
        out : str | Path, optional
            An .npy to which results by time are written, whole or not at all. Without it those
            above 512 MB go to a temporary file.

        Returns
        -------
        Embedding
            Of numpy arrays; of `out` and of a temporary file, memory-mapped. There are
            ceil(samples / 960) tokens, samples being those of the file at 24 kHz.

        Raises
        ------
        AudioError
            If the file cannot be read.
        UserError
            For other values, and if results cannot be written.

        Example
        -------
        >>> import soundfile
        >>> from speechbrain_music.models.encoder import Encoder
        >>> from speechbrain_music.models.frontend import LogMel
        >>> modules = {"features": LogMel(), "encoder": Encoder(num_layers=1, d_model=16)}
        >>> encoder = MusicEncoder(modules)
        >>> path = getfixture("tmp_path") / "noise.wav"
        >>> noise = np.random.default_rng(0).uniform(-0.1, 0.1, (441000, 2))
        >>> soundfile.write(path, noise, 44100)
        >>> values, lengths, times = encoder.encode_file(path, chunk=4.0, overlap=1.0)
        >>> values.shape, lengths, times[-1].item()
        ((250, 16), 250, 9.96)
        >>> encoder.encode_file(path, layers="all", pool="mean").values.shape
        (2, 16)
        """
        options = self._options(layers, pool, chunk, overlap, batch_size)
        if out is None:
            return self._encode_file(path, options)
        if pool != "none" or Path(out).suffix != ".npy" or Path(out).is_dir():
            raise UserError(f"out is {out}: it must be a file in .npy, and takes pool 'none' only")
        with writable(out), atomic_file(out, "w+b") as file:
            result = self._encode_file(path, options | {"out": file})
        return result._replace(values=np.load(out, mmap_mode="r"))

    def encode_files(self, paths, layers=-1, pool="mean", chunk=30.0, overlap=0.0, batch_size=8):
        """Encodes many files; chunks of several share a batch, and each gives what it gives alone.

        Arguments
        ---------
        paths : iterable of str or Path
            Audio files.
        layers, pool, chunk, overlap, batch_size
            As `encode_file` takes them.

        Yields
        ------
        path : str or Path
            In the order of `paths`.
        result : Embedding or AudioError
            As `encode_file` returns or raises it: a bad file does not end the others.

        Raises
        ------
        UserError
            For other values, at once.

        Example
        -------
        >>> import soundfile
        >>> from speechbrain_music.models.encoder import Encoder
        >>> from speechbrain_music.models.frontend import LogMel
        >>> modules = {"features": LogMel(), "encoder": Encoder(num_layers=1, d_model=16)}
        >>> encoder = MusicEncoder(modules)
        >>> path = getfixture("tmp_path") / "silence.wav"
        >>> soundfile.write(path, np.zeros(44100), 44100)
        >>> for path, result in encoder.encode_files([path, "missing.wav"]):
        ...     print(result if isinstance(result, Exception) else result.values.shape)
        (16,)
        missing.wav: does not exist or is not a file; check the data folder and prepare it again.
        """
        if isinstance(paths, (str, Path)):
            raise UserError(f"paths is {str(paths)!r}: give a list of files")
        options = self._options(layers, pool, chunk, overlap, batch_size)
        return self._encode_files(paths, **options)

    def _encode_file(self, path, options):
        ((_, result),) = self._encode_files([path], **options)
        if isinstance(result, AudioError):
            raise result
        return result

    def _encode_files(self, paths, layers, single, pool, chunk, overlap, budget, out=None):
        """`encode_files` in tokens, `budget` of them a batch; by time, into a file that is open."""

        def join(tokens):
            return Frames(len(layers), tokens, self.dim, out) if pool == "none" else Pooled(pool)

        files = (_File(path, join) for path in paths)
        chunks = chain.from_iterable(read_chunks(f, f.path, chunk, overlap) for f in files)
        with closing(ahead(in_windows(chunks, budget))) as windows:
            for window in windows:
                for batch in in_batches(window, budget):
                    hidden, _ = self._encode([torch.from_numpy(part.wave) for part in batch])
                    states = [hidden[layer].float().cpu().numpy() for layer in layers]
                    for row, part in enumerate(batch):
                        part.file.add(part, [state[row, part.kept] for state in states])
                for part in window:  # in the order of files and of their chunks
                    if part.is_last:
                        yield part.file.path, part.error or part.file.result(single)

    def _encode(self, waves):
        """Hidden states, each (B, T, D), 0 past a wave's end; and (B,) tokens."""
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        wave = pad_sequence(waves, batch_first=True).to(self.device)
        with full_float32(self.device), torch.no_grad(), self.inference_ctx:
            _, hidden, tokens = self.model(wave, lengths)
        return hidden, tokens

    def _layers(self, layers):
        """Numbers of hidden states, and whether it is one without an axis of its own."""
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

    def _options(self, layers, pool, chunk, overlap, batch_size):
        chosen, single = self._layers(layers)
        _check_pool(pool)
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise UserError(f"batch_size is {batch_size!r}: a whole number from 1 on is needed")
        shared = _tokens("overlap", overlap)
        heard = None if chunk is None else _tokens("chunk", chunk)
        if heard == 0 or shared and (heard is None or shared >= heard):
            raise UserError(
                f"chunk is {chunk} and overlap {overlap}: chunk must be above 0 and above overlap; "
                "a whole file, None, has no overlap"
            )
        return {
            "layers": chosen,
            "single": single,
            "pool": pool,
            "chunk": heard,
            "overlap": shared,
            "budget": batch_size * (heard or WHOLE),
        }


class _File:
    """A file on its way: its path, and what its chunks have given so far."""

    def __init__(self, path, join):
        self.path, self.join, self.joined = path, join, None

    def add(self, chunk, states):
        if self.joined is None:
            self.joined = self.join(chunk.tokens)
        self.joined.add(chunk.place.first, states)

    def result(self, single):
        """What is known of the whole file."""
        values, tokens = self.joined.result(single), self.joined.count
        times = np.arange(tokens) / TOKEN_RATE if isinstance(self.joined, Frames) else None
        return Embedding(values, tokens, times)


def _check_pool(pool):
    if pool not in ("none", *POOLINGS):
        raise UserError(f"pool is {pool!r}: choose none, {', '.join(POOLINGS)}")


def _tokens(name, seconds):
    if isinstance(seconds, numbers.Real) and math.isfinite(seconds) and seconds >= 0:
        tokens = round(seconds * TOKEN_RATE)
        if abs(tokens - seconds * TOKEN_RATE) < 1e-6:
            return tokens
    raise UserError(f"{name} is {seconds!r}: a multiple of 0.04 s is needed")
