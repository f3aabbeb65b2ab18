"""Frames of mp3 files, counted by their headers, without decoding.

libsndfile guesses the length of an mp3 file without a Xing header, believes a Xing header that is
not true (that of the first of two joined files, say), and reads no further than that.
"""

import re

_BITRATES = (  # kbit/s of MPEG 2 and 2.5, and of MPEG 1
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
)
_SAMPLE_RATES = (44100, 48000, 32000)  # of MPEG 1; MPEG 2 has a half, 2.5 a quarter
_LARGEST = 1441  # bytes of a frame
_OTHERS = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")  # not mp3
_DECODER_DELAY = 529  # samples
_SURE = 4  # frames in a row that are no accident
_JUNK = 2**18  # bytes before the first frame
_BLOCK = 2**20
_INFO = re.compile(rb"(Xing|Info)|VBRI")  # in a first frame without music


def true_parts(file):
    """The parts of a file from which libsndfile decodes all of it.

    Arguments
    ---------
    file : binary file
        Of any format.

    Returns
    -------
    list, optional
        None for the file as it is. Else, for mp3, bytes (a first frame with a true Xing header)
        and begin and end of each run of frames in the file; for other formats begin and end of
        what follows an ID3v2 tag: after one, libsndfile cannot seek to the end of FLAC.
    """
    size = file.seek(0, 2)
    begin, head = _after_tags(file)
    if not begin and (head[:4] in _OTHERS or head[4:8] == b"ftyp"):
        return None
    for most in (_SURE * _LARGEST, _JUNK):
        file.seek(begin)
        block = file.read(most)
        at = _find(block, 0, begin + len(block) == size)
        if at < len(block):
            break
    else:
        return [(begin, size)] if 0 < begin < size else None
    begin += at
    word = block[at : at + 4]
    first = bytearray(block[at : at + _frame_bytes(word)])
    info = _INFO.search(first, 0, 44)
    flags = claimed = 0
    if info and info[1]:
        place = info.end()
        flags, claimed, stored = (_number(first, place + k) for k in (0, 4, 8))
        file.seek(max(0, size - 128))
        end = size - 128 * (file.read(3) == b"TAG")
        if flags & 3 == 3 and abs(begin + stored - end) < 2 * _LARGEST:
            return None
    runs, count = _walk(file, begin + len(first) * bool(info), _Sizes(word))
    if not flags & 1:
        return [_heading(word, count), *runs]
    first[place + 4 : place + 8] = count.to_bytes(4)
    if flags & 2:
        first[place + 8 : place + 12] = (len(first) + sum(b - a for a, b in runs)).to_bytes(4)
    if flags & 15 == 15 and count != claimed and len(first) >= place + 140:
        # Encoders add samples at the end, which the decoder leaves out: it is another end.
        first[place + 138] &= 0xF0
        first[place + 139] = 0
    return [bytes(first), *runs]


def _number(data, place):
    return int.from_bytes(data[place : place + 4])


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


def _frame_bytes(word):
    """The size of the frame that has this header of four bytes; 0 if it is none."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE6 != 0xE2:  # layer III
        return 0
    version, rate = word[1] >> 3 & 3, word[2] >> 2 & 3
    if version == 1 or rate == 3:
        return 0
    bits = 1000 * _BITRATES[version == 3][word[2] >> 4]
    divisor = {3: 1, 2: 2, 0: 4}[version]
    slots = 144 if version == 3 else 72
    return slots * bits * divisor // _SAMPLE_RATES[rate] + (word[2] >> 1 & 1) if bits else 0


def _stream(word):
    """What all frames of a stream have in common: version, sample rate, mono or not."""
    return word[1] & 0xFE, word[2] & 0x0C, word[3] >> 6 == 3


class _Sizes(dict):
    """Header of a frame -> its size; 0 for what is no frame of the stream of this header."""

    def __init__(self, word):
        self._stream = _stream(word)

    def __missing__(self, word):
        size = _frame_bytes(word)
        self[word] = size = size if size and _stream(word) == self._stream else 0
        return size


def _find(block, at, last, sizes=None):
    """The place of the next `_SURE` frames in a row, of any stream or one; else the block's end.

    In the `last` block there may be fewer if they end the file.
    """
    while (at := block.find(b"\xff", at)) >= 0:
        word, place = block[at : at + 4], at
        if _frame_bytes(word):
            own = _Sizes(word) if sizes is None else sizes
            for _ in range(_SURE):
                step = own[block[place : place + 4]]
                place += step
                if not step or place > len(block):
                    break
                if last and place == len(block):
                    return at
            else:
                return at
        at += 1
    return len(block)


def _walk(file, place, sizes):
    """[begin, end] of each run of whole frames, and the number of frames."""
    runs, count, last = [], 0, False
    while not last:
        file.seek(place)
        block = file.read(_BLOCK)
        last = len(block) < _BLOCK
        at, stop = 0, len(block) - (0 if last else _SURE * _LARGEST)
        while at < stop:
            begin = at
            while at < stop and (step := sizes[block[at : at + 4]]) and at + step <= len(block):
                at += step
                count += 1
            if begin < at and runs and runs[-1][1] == place + begin:
                runs[-1][1] = place + at
            elif begin < at:
                runs.append([place + begin, place + at])
            if at < stop:
                at = _find(block, at + 1, last, sizes)
        place += min(at, stop) if at == len(block) else at
    return runs, count


def _heading(word, count):
    """Two frames before `count` of a header's stream, with which these are decoded and no others.

    The decoder leaves out its delay, and what the first frame says in addition: one frame.
    """
    version, _, mono = _stream(word)
    header = bytes([0xFF, word[1] | 1, 0x90 | word[2] & 0x0C, word[3]])  # no CRC
    side = (17 if mono else 32) if version & 8 else (9 if mono else 17)
    silence = header.ljust(_frame_bytes(header), b"\0")
    delay = (1152 if version & 8 else 576) - _DECODER_DELAY
    lame = b"sbmusic".ljust(21, b"\0") + (delay << 12).to_bytes(3)
    info = header + bytes(side) + b"Xing\0\0\0\1" + (count + 1).to_bytes(4) + lame
    return info.ljust(len(silence), b"\0") + silence
