"""Read parts of music files: seek, mix down to mono, resample.

Positions and lengths are in samples at the rate that is asked for, whatever the file's own rate.
"""

import io
import math
import os
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from speechbrain_music.dataio import mp3
from speechbrain_music.utils.errors import UserError

SAMPLE_RATE = 24000

AUDIO_EXTENSIONS = frozenset(
    ".wav .wave .flac .mp3 .ogg .oga .opus .aif .aiff .aifc .au .snd .caf .w64 .rf64".split()
)
# Music that libsndfile cannot decode: it is searched for, so that it is reported, not ignored.
UNSUPPORTED_EXTENSIONS = frozenset(".m4a .m4b .aac .mp4 .wma .ape .wv .mpc .webm .dsf".split())

# Full scale of 32-bit integers, which float files may have without scaling. The spectrogram of
# samples from about 1e16 on overflows.
MAX_SAMPLE = 2.0**31
SAMPLE_RATES = range(1000, 2**20)  # in Hz: resampling from others costs gigabytes
# A header that does not know its length claims 2^63 - 1 frames. No format stores more than this
# in a byte: a block of FLAC has up to 65535 equal samples in 14 bytes.
_FRAMES_PER_BYTE = 5000
_CONVERT = "convert it with `ffmpeg -i FILE FILE.flac`"
# libsndfile's seek into the last page of an Ogg file misses by some hundred frames: the end is
# reached from before it (a page of Vorbis holds at most 255 packets of usually 1024 frames).
_OGG_TAIL = 2**18
# An mp3 frame takes bits from up to 511 bytes before it: after a seek the first frames come out
# wrong, up to 23 of 576 samples at the lowest rates.
_MP3_LEAD = 2**14


class AudioError(UserError):
    """A file that cannot be read. The message is one sentence, `path: what is wrong; remedy`."""


class AudioInfo(NamedTuple):
    """A file's header: frames at its own rate, and that rate in Hz."""

    frames: int
    sample_rate: int

    @property
    def seconds(self):
        """The duration."""
        return self.frames / self.sample_rate


def audio_info(path):
    """Read a file's header; an mp3 file without a true Xing header is read as a whole.

    Raises AudioError if it is missing, empty, not audio, in an unsupported format or without
    samples.

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "silence.wav")
    >>> soundfile.write(path, np.zeros((44100, 2)), 44100)
    >>> audio_info(path)
    AudioInfo(frames=44100, sample_rate=44100)
    """
    with _open(path) as file:
        return AudioInfo(file.frames, file.samplerate)


def file_stamp(path):
    """Size and modification time of a file, as text; None for a file that does not exist."""
    with suppress(OSError):
        status = os.stat(path)
        return f"{status.st_size} {status.st_mtime_ns}"


def resampled_length(frames, sample_rate, target=SAMPLE_RATE):
    """The number of whole samples at `target` Hz that `frames` at `sample_rate` Hz make."""
    return frames * target // sample_rate


def segment_bounds(tracks, sample_rate):
    """(rows,) starts and lengths of a manifest's rows, int64 samples at `sample_rate` Hz."""
    seconds = tracks["duration"].to_numpy()
    rate = (tracks["stop"] - tracks["start"]).to_numpy() / seconds
    starts = np.rint(tracks["start"].to_numpy() / rate * sample_rate)
    return starts.astype(np.int64), np.floor(seconds * sample_rate).astype(np.int64)


def read_segment(path, start=0, length=None, sample_rate=SAMPLE_RATE):
    """Read a part of a file as mono, with the values it has in the whole file resampled.

    Only the part is read, and a margin on both sides for the resampler's filter. Channels are
    averaged. `start` and `length` are in samples at `sample_rate` Hz, the rate of the result; the
    length None is up to the file's end. Returns (n,) float32; n < length where the file ends early,
    never 0.

    Raises AudioError as `audio_info`, and if the file is damaged, has NaN, infinite or absurdly
    large samples (beyond `MAX_SAMPLE`) near the part, or ends before `start`; ValueError if `start`
    is negative or `length` is not positive.

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "noise.flac")
    >>> noise = np.random.default_rng(0).uniform(-0.5, 0.5, (88200, 2))
    >>> soundfile.write(path, noise, 44100)
    >>> whole, part = read_segment(path), read_segment(path, start=12345, length=6000)
    >>> len(whole), len(part), bool(np.allclose(part, whole[12345:18345], atol=1e-5))
    (48000, 6000, True)
    """
    (wave,) = read_segments(path, [(start, length)], sample_rate)
    if not len(wave):
        raise AudioError(
            f"{path}: has no sample at {start / sample_rate:.3f} s; "
            "it is shorter than its header or its manifest claims, so prepare the data again."
        )
    return wave


def read_segments(path, places, sample_rate=SAMPLE_RATE):
    """Yield parts of a file, (start, length) each, as `read_segment` but opening it once.

    A part that begins after the file's end is empty. (Seeking in an mp3 file reads all before.)
    """
    for start, length in places:
        if start < 0 or (length is not None and length < 1):
            raise ValueError(f"start must be >= 0 and length >= 1, not {start} and {length}.")
    with _open(path) as file:
        for start, length in places:
            yield _read(file, path, start, length, sample_rate)


def _read(file, path, start, length, sample_rate):
    native = file.samplerate
    # `step` frames of the file are `stride` samples of the result: from a multiple of `step` on,
    # the part's sampling grid is the whole file's, shifted by whole samples.
    divisor = math.gcd(native, sample_rate)
    step, stride = native // divisor, sample_rate // divisor
    # soxr's HQ filter needs 20 ms at 8 kHz, less above (error 4e-7): this is ample.
    margin = 0 if native == sample_rate else native // 20 + 256
    first = start * native // sample_rate - margin
    if file.format == "MP3":
        first -= _MP3_LEAD
    elif file.format == "OGG":
        first = min(first, file.frames - _OGG_TAIL)
    first = max(0, first) // step * step
    skipped = first // step * stride
    count = -1
    if length is not None:
        count = math.ceil((start + length) * native / sample_rate) + margin - first
    try:
        file.seek(min(first, file.frames))
        wave = file.read(count, dtype="float32")
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: is damaged; fetch it again or remove it.") from error
    if wave.ndim > 1:
        # A product with a constant is 30 times faster than numpy's mean over so short an axis.
        with np.errstate(invalid="ignore", over="ignore"):
            wave = wave @ np.full(file.channels, 1 / file.channels, np.float32)
    peak = max(map(abs, (wave.max(initial=0), wave.min(initial=0))))
    if not np.isfinite(wave).all():
        raise AudioError(f"{path}: has NaN or infinite samples; repair it or remove it.")
    if peak > MAX_SAMPLE:
        raise AudioError(f"{path}: has samples up to {peak:.0e}; repair it or remove it.")
    stop = max(resampled_length(len(wave), native, sample_rate), start - skipped)
    if native != sample_rate and len(wave):
        wave = soxr.resample(wave, native, sample_rate, quality="HQ")
    if length is not None:
        stop = min(stop, start - skipped + length)
    return wave[start - skipped : stop]


def _open(path):
    if not os.path.isfile(path):  # a named pipe would block
        raise AudioError(
            f"{path}: does not exist or is not a file; check the path, or prepare the data again."
        )
    try:
        # libsndfile is not given the path: it cannot open `song.mp3` if `._song.mp3` exists, nor
        # names of other encodings.
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            content = mp3.true_content(source)
            os.lseek(source.fileno(), 0, os.SEEK_SET)
            file = soundfile.SoundFile(io.BytesIO(content) if content else os.dup(source.fileno()))
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and the disk."
        ) from error
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: {_why_unreadable(path)}.") from error
    problem = None
    if file.frames == 0:
        problem = f"holds no samples by its header; {_CONVERT}, or fetch it again or remove it"
    elif file.samplerate not in SAMPLE_RATES:
        problem = f"claims a sample rate of {file.samplerate} Hz; repair it or remove it"
    elif file.frames > _FRAMES_PER_BYTE * size or not file.seekable():
        problem = f"is not seekable; {_CONVERT}"
    if problem:
        file.close()
        raise AudioError(f"{path}: {problem}.")
    return file


def _why_unreadable(path):
    with open(path, "rb") as file:
        head = file.read(8)
    if not head:
        return "is empty; fetch it again or remove it"
    if head[4:] == b"ftyp" or os.path.splitext(path)[1].lower() in UNSUPPORTED_EXTENSIONS:
        return f"is in a format that libsndfile cannot read (m4a, aac, wma, ...); {_CONVERT}"
    return f"is not readable as audio; if it plays, {_CONVERT}, else fetch it again or remove it"
