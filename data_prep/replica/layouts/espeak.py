"""LibriSpeech's folders, spoken by espeak-ng: words that do not exist, in many voices."""

import io
import shutil
import subprocess
from dataclasses import replace

import soundfile
import soxr

from speechbrain_music.data_prep.replica.draws import FIRST, PIECE, STYLE, keyed
from speechbrain_music.data_prep.replica.layouts import librispeech
from speechbrain_music.data_prep.replica.mix import set_level
from speechbrain_music.data_prep.replica.synth import RATE
from speechbrain_music.utils.errors import UserError

PROGRAM = "espeak-ng"
LANGUAGES = "en-us en-gb de fr es it pt nl pl sv fi tr".split()
SYLLABLES = "ba de fi go ku la me ni po ru sa te vi zo stra trek dol fan gim hos".split()


def plan(scale, seed):
    """The tree of LibriSpeech's replica."""
    return replace(librispeech.plan(scale, seed), render=render)


def render(seed, speaker, index):
    """An utterance of 8 to 40 words; a speaker has a language, a voice, a pitch and a speed."""
    if not shutil.which(PROGRAM):
        raise UserError(f"{PROGRAM} is not installed; on Debian: apt-get install {PROGRAM}")
    own, rng = keyed(seed, STYLE, speaker), keyed(seed, PIECE, speaker, index, FIRST)
    voice = f"{own.choice(LANGUAGES)}+{own.choice(['f', 'm'])}{own.integers(1, 6)}"
    options = ["-v", voice, "-p", str(own.integers(30, 71)), "-s", str(own.integers(130, 201))]
    words = [
        "".join([*rng.choice(SYLLABLES, rng.integers(1, 4)), rng.choice(["", "", ",", "."])])
        for _ in range(rng.integers(8, 41))
    ]
    command = [PROGRAM, *options, "--stdout", " ".join(words)]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    wave, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    return set_level(soxr.resample(wave, rate, RATE), rng)
