"""Mp3 files are read to their end, whatever their headers claim."""

import io

import numpy as np
import pytest
import soundfile

from speechbrain_music.dataio import mp3
from speechbrain_music.dataio.audio import audio_info, read_segment

DELAY = 529 + 576  # of a decoder and of this encoder, in samples
END = 155 * 1152 - DELAY - 4 * 44100  # what the encoder added at the end
COVER = b"ID3\3\0\0" + bytes([0, 9, 0, 0]) + bytes(9 << 14)


@pytest.fixture(scope="module")
def frames():
    """A Xing header and the music after it, of 4 s that become quiet, with a variable bitrate."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    wave = rng.uniform(-0.5, 0.5, (4 * 44100, 2)) * np.linspace(1, 0, 4 * 44100)[:, None] ** 4
    soundfile.write(file, wave, 44100, format="MP3", bitrate_mode="VARIABLE")
    data = file.getvalue()
    assert mp3.true_content(file) is None
    size = mp3._frame_bytes(data[:4])
    return data[:size], data[size:]


def first(count, music):
    """The first frames."""
    end = 0
    for _ in range(count):
        end += mp3._frame_bytes(music[end : end + 4])
    return music[:end]


# How a file is made of a Xing frame and 155 frames of music; frames and samples that it lacks.
# A Xing frame of this encoder says what to leave out: delays, and the end.
CASES = {
    "no Xing header": (lambda xing, music: music, 155, 0),
    "a cover": (lambda xing, music: COVER + music, 155, 0),
    "tags at both ends": (lambda xing, music: COVER + music + b"TAG" + bytes(125), 155, 0),
    "junk before": (lambda xing, music: bytes(range(256)) * 500 + music, 155, 0),
    "junk between": (lambda xing, music: music + COVER + b"\xff\xfb" * 99 + music, 310, 0),
    "joined": (lambda xing, music: xing + music + xing + music, 311, DELAY),
    "joined tagged": (lambda xing, music: 2 * (COVER + xing + music), 311, DELAY),
    "VBRI": (lambda xing, music: xing[:36] + b"VBRI" + bytes(len(xing) - 40) + music, 155, 0),
    "long": (lambda xing, music: 12 * music, 12 * 155, 0),  # several blocks
    "APE tag": (lambda xing, music: xing + music + b"APETAGEX" + bytes(9999), 155, DELAY + END),
    "cut": (lambda xing, music: first(80, music), 80, 0),
    "cut in a frame": (lambda xing, music: first(80, music)[:-1], 79, 0),
    "cut after its header": (lambda xing, music: xing + first(80, music)[:-1], 79, DELAY),
}


@pytest.mark.parametrize("name", CASES)
def test_all_frames_are_read(name, frames, tmp_path):
    make, count, lacks = CASES[name]
    plain, path = tmp_path / "plain.mp3", tmp_path / "song.mp3"
    plain.write_bytes(b"".join(frames))
    path.write_bytes(make(*frames))
    assert audio_info(path) == (count * 1152 - lacks, 44100)
    wave = read_segment(path, sample_rate=44100)
    assert len(wave) == count * 1152 - lacks
    good = read_segment(plain, sample_rate=44100)
    part = wave[0 if lacks else DELAY :][: len(good)]
    np.testing.assert_allclose(part, good[: len(part)], atol=1e-6)
    for start in (0, 1, 999, len(wave) // 2, len(wave) - 500):
        part = read_segment(path, start, 500, 44100)
        np.testing.assert_allclose(part, wave[start : start + 500], atol=2e-5)
