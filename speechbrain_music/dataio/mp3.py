"""Frames of mp3 files, counted by their headers, without decoding.

libsndfile guesses the length of an mp3 file without a Xing header, believes a Xing header that is
not true (that of the first of two joined files, say), and reads no further than that.
"""

import re
from functools import lru_cache

_BITRATES = (  # kbit/s of MPEG 2 and 2.5, and of MPEG 1
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
)
_SAMPLE_RATES = (44100, 48000, 32000)  # of MPEG 1; MPEG 2 has a half, 2.5 a quarter
_LARGEST = 1441  # bytes of a frame
_SURE = 4  # frames in a row that are no accident
_JUNK = 2**18  # bytes before the first frame
_DECODER_DELAY = 529  # samples
_OTHERS = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")  # not mp3
_INFO = re.compile(rb"(Xing|Info)(.{12})|VBRI", re.DOTALL)  # in a first frame without music
_DELAYS = 16 + 100 + 4 + 21  # bytes from `Xing` to the delays, with all of its optional fields


def true_content(file):
    """The bytes from which libsndfile decodes all of an open binary file; None for the file's own.

    Of mp3: first frames with a true Xing header, then all whole frames of the file. Of other
    formats: what follows an ID3v2 tag, after which libsndfile cannot seek to the end of FLAC.
    """
    begin, head = _after_tags(file)
    if not begin and (head[:4] in _OTHERS or head[4:8] == b"ftyp"):
        return None
    file.seek(begin)
    block = file.read(_JUNK)
    at = _find(block, 0, last=len(block) < _JUNK)
    if at == len(block):
        return block + file.read() if begin else None
    word, begin = block[at : at + 4], begin + at
    first = block[at : at + _frame_bytes(word)]
    info, claimed, delays = _INFO.search(first, 0, 60), 0, None
    if info and info[1]:
        flags, claimed, stored = (int.from_bytes(info[2][k : k + 4]) for k in (0, 4, 8))
        size = file.seek(0, 2)
        file.seek(max(0, size - 128))
        end = size - 128 * (file.read(3) == b"TAG")
        if flags & 3 == 3 and abs(begin + stored - end) < 2 * _LARGEST:
            return None
        place = info.start() + _DELAYS if flags & 15 == 15 else len(first)
        delays = int.from_bytes(first[place : place + 3])
    file.seek(begin + len(first) * bool(info))
    runs, count = _whole_frames(file.read(), _stream(word))
    return b"".join([_heading(word, count, delays, count == claimed), *runs])


def _after_tags(file):
    """The place after any ID3v2 tags, and up to ten bytes there."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return place, head
        a, b, c, d = (byte & 127 for byte in head[6:])
        place += 10 + (a << 21 | b << 14 | c << 7 | d)


@lru_cache(4096)
def _frame_bytes(word, stream=None):
    """The size of the frame, of a stream or any, with this header of four bytes; 0 if none."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE6 != 0xE2:  # layer III
        return 0
    version, rate = word[1] >> 3 & 3, word[2] >> 2 & 3
    bits = 1000 * _BITRATES[version == 3][word[2] >> 4]
    if version == 1 or rate == 3 or not bits or stream not in (None, _stream(word)):
        return 0
    slots = {3: 144, 2: 72 * 2, 0: 72 * 4}[version]
    return slots * bits // _SAMPLE_RATES[rate] + (word[2] >> 1 & 1)


def _stream(word):
    """What all frames of a stream have in common: version, sample rate, mono or not."""
    return word[1] & 0xFE, word[2] & 0x0C, word[3] >> 6 == 3


def _find(data, at, stream=None, last=True):
    """The place of the next `_SURE` frames (fewer at a file's end, if `last`), else the end."""
    while (at := data.find(b"\xff", at, max(at, len(data) - 3))) >= 0:
        own, place, count = stream or _stream(data[at : at + 4]), at, 0
        while count < _SURE and (step := _frame_bytes(data[place : place + 4], own)):
            place, count = place + step, count + 1
        if count == _SURE and place <= len(data) or count and last and place == len(data):
            return at
        at += 1
    return len(data)


def _whole_frames(data, stream):
    """Runs of whole frames of a stream, and the number of frames."""
    runs, count, at = [], 0, 0
    while at < len(data):
        begin = at
        while (step := _frame_bytes(data[at : at + 4], stream)) and at + step <= len(data):
            at, count = at + step, count + 1
        runs.append(memoryview(data)[begin:at])
        at = _find(data, at + 1, stream)
    return runs, count


def _heading(word, count, delays, whole):
    """Two frames before `count` of a stream, with which these are decoded and no others.

    The decoder leaves out its own delay, and what the first frame says: the other frame. If there
    was a Xing header with the encoder's delays (twelve bits each: at the begin, and at the end if
    the file is `whole`), it leaves out what it would have with that.
    """
    version, _, mono = _stream(word)
    header = bytes([0xFF, word[1] | 1, 0x90 | word[2] & 0x0C, word[3]])  # no CRC
    side = (17 if mono else 32) if version & 8 else (9 if mono else 17)
    silence = header.ljust(_frame_bytes(header), b"\0")
    skip = (1152 if version & 8 else 576) - _DECODER_DELAY
    if delays is not None:
        skip += _DECODER_DELAY + (delays >> 12)
    lame = b"sbmusic".ljust(21, b"\0") + (skip << 12 | (delays or 0) * whole & 0xFFF).to_bytes(3)
    info = header + bytes(side) + b"Xing\0\0\0\1" + (count + 1).to_bytes(4) + lame
    return info.ljust(len(silence), b"\0") + silence
