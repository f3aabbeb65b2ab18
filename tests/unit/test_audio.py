"""Reading a part of a file equals that part of the whole; bad files are named."""

import os
import pickle
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import soxr

from speechbrain_music.dataio import audio
from speechbrain_music.dataio.audio import (
    SAMPLE_RATE,
    AudioError,
    AudioInfo,
    audio_info,
    read_segment,
    read_segments,
    resampled_length,
)


def noise(frames, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype("f4")


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate, channels", [(8000, 1), (24000, 2), (44100, 2), (48000, 1)])
def test_part_equals_whole(tmp_path, kind, rate, channels):
    path = tmp_path / f"noise.{kind}"
    # 2^18 frames more, so that in Ogg files too some parts are sought and some reached by decoding
    soundfile.write(path, noise(4 * rate + 2**18, channels), rate)
    decoded = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    reference = soxr.resample(decoded, rate, SAMPLE_RATE, quality="HQ")
    whole = read_segment(path)
    assert whole.dtype == np.float32
    assert len(whole) == resampled_length(len(decoded), rate)
    np.testing.assert_allclose(whole, reference[: len(whole)], atol=1e-6)
    starts = [0, 1, 159, 160, 161, 9999, 24000, 50001, 77777, len(whole) - 300, len(whole) - 1]
    for start in starts:
        for length in (1, 17, 7200):
            part = read_segment(path, start, length)
            assert len(part) == min(length, len(whole) - start)
            np.testing.assert_allclose(part, whole[start : start + length], atol=2e-5)
    # One after the other, with gaps, overlaps and ways back, then past the end.
    places = [(0, 30000), (30000, 30001), (50000, 1), (9, 999), (len(whole) - 5, 9), (10**9, 1)]
    for part, (start, length) in zip(read_segments(path, places), places, strict=True):
        np.testing.assert_allclose(part, whole[start : start + length], atol=2e-5)


@pytest.mark.parametrize(
    "rate, target", [(11025, 24000), (12345, 24000), (192000, 24000), (44100, 16000)]
)
def test_unusual_rates(tmp_path, rate, target):
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(2 * rate + 7), rate)
    whole = read_segment(path, sample_rate=target)
    part = read_segment(path, 20011, 5003, target)
    np.testing.assert_allclose(part, whole[20011:25014], atol=2e-5)
    assert len(read_segment(path, 20011, sample_rate=target)) == len(whole) - 20011
    assert len(whole) == resampled_length(2 * rate + 7, rate, target)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_a_sine_keeps_its_frequency_and_level(tmp_path, rate):
    path = tmp_path / "sine.wav"
    time = np.arange(2 * rate) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * time), rate, subtype="FLOAT")
    part = read_segment(path, 12000, 24000)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(12000, 36000) / 24000)
    np.testing.assert_allclose(part, expected, atol=1e-3)


def test_only_the_part_is_read(tmp_path, monkeypatch):
    path, rate = tmp_path / "long.wav", 44100
    soundfile.write(path, noise(60 * rate), rate)
    counts = []
    read = soundfile.SoundFile.read

    def counting(self, *args, **kwargs):
        data = read(self, *args, **kwargs)
        counts.append(len(data))
        return data

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    assert len(read_segment(path, 30 * SAMPLE_RATE + 5, SAMPLE_RATE)) == SAMPLE_RATE
    assert sum(counts) < 1.3 * rate
    counts.clear()
    audio_info(path)
    assert not counts


def test_parts_in_turn_open_the_file_once(tmp_path, monkeypatch):
    path = tmp_path / "noise.mp3"
    soundfile.write(path, noise(44100), 44100)
    opened = Mock(wraps=soundfile.SoundFile)
    monkeypatch.setattr(soundfile, "SoundFile", opened)
    assert len(list(read_segments(path, [(start, 100) for start in range(0, 9000, 100)]))) == 90
    assert opened.call_count == 1


def test_a_segment_past_the_end_is_short_and_beyond_it_an_error(tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, noise(44100), 44100)
    assert len(read_segment(path, 23000, 5000)) == 1000
    for start in (24000, 24001, 10**9):
        with pytest.raises(AudioError, match="short.wav: has no sample at"):
            read_segment(path, start, 100)
    for start, length in ((-1, 5), (0, 0), (0, -3)):
        with pytest.raises(ValueError, match="start must be"):
            read_segment(path, start, length)
    soundfile.write(path, noise(1), 24000)
    assert len(read_segment(path, 0, 100)) == 1
    soundfile.write(path, noise(1), 44100)  # less than one sample at 24 kHz
    with pytest.raises(AudioError, match="has no sample at 0.000 s"):
        read_segment(path)


@pytest.mark.parametrize(
    "name, kind", [(b"song.mp3", "MP3"), (b"a \xe9.wav", "WAV"), (b"cover.flac", "FLAC")]
)
def test_files_that_libsndfile_cannot_open_or_seek_by_their_path(tmp_path, name, kind):
    path, wave = os.path.join(tmp_path, os.fsdecode(name)), noise(10 * 24000)
    plain = tmp_path / "plain"
    soundfile.write(plain, wave, 24000, format=kind)
    tag = b"ID3\3\0\0" + bytes([0, 12, 0, 0]) + bytes(12 << 14) if kind == "FLAC" else b""
    with open(path, "wb") as file:
        file.write(tag + plain.read_bytes())
    (tmp_path / f"._{os.path.basename(path)}").write_bytes(b"\0\5\x16\7" + bytes(400))
    assert audio_info(path) == (240000, 24000)
    for second in range(10):
        expected = read_segment(plain, second * 24000, 24000)
        assert np.array_equal(read_segment(path, second * 24000, 24000), expected)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "noise.mp3"
    soundfile.write(path, noise(44100), 44100)
    error = Mock(side_effect=PermissionError(13, "Permission denied"))
    for name, failing in (("open", error), ("mp3", Mock(true_content=error))):
        monkeypatch.setattr(audio, name, failing, raising=False)
        with pytest.raises(
            AudioError, match="noise.mp3: cannot be read .Permission denied.; check"
        ):
            audio_info(path)


def test_channels_are_averaged_and_the_name_does_not_matter(tmp_path):
    path, wave = tmp_path / "really_wav.mp3", noise(24000, 6)
    soundfile.write(path, wave, 24000, format="WAV", subtype="FLOAT")
    np.testing.assert_allclose(read_segment(path), wave.mean(axis=1), atol=1e-6)
    assert audio_info(path) == AudioInfo(24000, 24000)


def _text(path):
    path.write_text("do re mi fa so la ti do\n" * 200)


def _m4a(path):
    path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(500))


def _flac_of_length(frames):
    def make(path):
        soundfile.write(path, noise(8000), 8000, format="FLAC")
        data = bytearray(path.read_bytes())
        data[21] = data[21] & 0xF0 | frames >> 32
        data[22:26] = (frames & 0xFFFFFFFF).to_bytes(4)
        path.write_bytes(data)

    return make


def _wav_of_rate(rate):
    return lambda path: soundfile.write(path, noise(8000), rate)


BAD = {
    "missing.wav": (lambda path: None, "does not exist"),
    "folder.wav": (lambda path: path.mkdir(), "is not a file"),
    "pipe.wav": (os.mkfifo, "is not a file"),
    "empty.wav": (lambda path: path.touch(), "is empty"),
    "empty.au": (lambda path: path.touch(), "is empty"),
    "text.wav": (_text, "is not readable as audio"),
    "text.mp3": (_text, "is not readable as audio"),
    "text.au": (_text, "is not readable as audio; if it plays, convert it with `ffmpeg"),
    "song.m4a": (_m4a, "format that libsndfile cannot read"),
    "really_m4a.mp3": (_m4a, "format that libsndfile cannot read"),
    "song.wma": (_text, "format that libsndfile cannot read"),
    "none.wav": (
        lambda path: soundfile.write(path, noise(0), 44100),
        "holds no samples by its header; convert it with `ffmpeg",
    ),
    "unknown.flac": (_flac_of_length(0), "is not seekable"),
    "days.flac": (_flac_of_length(2**36 - 1), "is not seekable"),  # 99 days at 8 kHz
    "slow.wav": (_wav_of_rate(2), "claims a sample rate of 2 Hz"),
    "fast.wav": (_wav_of_rate(2**30), "claims a sample rate of 1073741824 Hz"),
    "gsm.wav": (
        lambda path: soundfile.write(path, noise(8000), 8000, subtype="GSM610"),
        "is not seekable",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_the_reason_in_one_line(tmp_path, name):
    make, reason = BAD[name]
    make(tmp_path / name)
    for read in (audio_info, read_segment):
        with pytest.raises(AudioError) as caught:
            read(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: ") and reason in message
        assert ";" in message and "\n" not in message and message.endswith(".")
        assert str(pickle.loads(pickle.dumps(caught.value))) == message


@pytest.mark.parametrize(
    "value, channels, message",
    [
        (np.nan, 1, "NaN or infinite samples"),
        (np.inf, 1, "NaN or infinite samples"),
        (-np.inf, 2, "NaN or infinite samples"),
        (1e29, 1, r"samples up to 1e\+29; repair it or remove it"),
        (-3e9, 1, r"samples up to 3e\+09"),
        (3e38, 6, r"samples up to 5e\+37"),
        (-(2.0**31), 1, None),  # a float file of the scale of integers
    ],
)
def test_samples_that_are_not_finite_or_absurdly_large(tmp_path, value, channels, message, recwarn):
    path, wave = tmp_path / "bad.wav", noise(48000, channels)
    wave[30000, -1] = value
    soundfile.write(path, wave, 24000, subtype="FLOAT")
    if message:
        with pytest.raises(AudioError, match=f"bad.wav: has {message}"):
            read_segment(path)
    else:
        assert read_segment(path).min() == value
    assert len(read_segment(path, 0, 24000)) == 24000
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_truncated_files_give_what_is_there_or_an_error(tmp_path, kind):
    path = tmp_path / f"cut.{kind}"
    soundfile.write(path, noise(6 * 44100, 2), 44100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(read_segment(path, 24000, 24000)) == 24000
    with pytest.raises(AudioError):
        read_segment(path, 5 * 24000, 24000)
    try:
        assert 2.5 * 24000 < len(read_segment(path)) < 3.5 * 24000
    except AudioError as error:
        assert kind == "flac" and "is damaged" in str(error)


def test_real_recordings(real_audio):
    paths = sorted(p for p in real_audio.rglob("*") if p.suffix in (".wav", ".ogg", ".mp3"))
    for path in paths:
        info = audio_info(path)
        length = resampled_length(info.frames, info.sample_rate)
        middle = length // 2
        whole = read_segment(path, max(0, middle - 60000), 120000)
        part = read_segment(path, middle, 5000)
        offset = min(middle, 60000)
        np.testing.assert_allclose(part, whole[offset : offset + 5000], atol=1e-4)
