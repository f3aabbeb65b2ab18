"""VocalSet 1.1: `FULL/female1/arpeggios/belt/f1_arpeggios_belt_c_a.wav`, 44.1 kHz.

Nine women and eleven men sing scales, arpeggios, long tones and excerpts; the techniques outside
the ten are scales and arpeggios, fast or slow. How long a recording is tells nothing of how it is
sung. Like the original it has a copied file, a misspelt folder, and names without their prefix or
with another's.
"""

import numpy as np

from speechbrain_music.data_prep.data_set import Item
from speechbrain_music.data_prep.replica.corpus import keyed
from speechbrain_music.data_prep.replica.trees import PIECE, STYLE, Tree
from speechbrain_music.data_prep.replica.voice import make_singer, sing
from speechbrain_music.data_prep.vocalset import (
    OTHERS,
    SINGERS,
    TECHNIQUES,
    split_singers,
    split_techniques,
)

RECORDINGS = 178  # of a singer: the paper's 20 singers have about 3,560
SHORTEST, LONGEST = 2.5, 10.0
CONTEXTS = ("arpeggios", "scales", "long_tones", "excerpts")
SCALE, ARPEGGIO, EXCERPT = (0, 2, 4, 5, 7, 5, 4, 2, 0), (0, 4, 7, 12, 7, 4, 0), (0, 0, 0, 2, 4, 4)
MELODIES = dict(zip(CONTEXTS, (ARPEGGIO, SCALE, (0,), EXCERPT), strict=True))
KINDS = {"f": ("alto", "mezzo", "soprano"), "m": ("bass", "baritone", "tenor")}
ODD = {  # (singer, technique) -> what its first file's folder and name are in the data set
    ("f2", "vibrato"): "FULL/female2/arpeggios/vibrado/f2_arpeggios_vibrato_a.wav",
    ("f4", "straight"): "FULL/female4/arpeggios/straight/arpeggios_straight_a.wav",
    ("m8", "vibrato"): "FULL/male8/arpeggios/vibrato/m9_arpeggios_vibrato_a.wav",
}


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the paper's recordings; of each singer ten or more, one a technique.
    seed : int
        Of voices and melodies.

    Returns
    -------
    Tree
        The names are the annotation.

    Example
    -------
    >>> tree = plan(0.01, seed=0)
    >>> tree.counts["singer default"], tree.names, tree.texts
    ({'train': 100, 'valid': 60, 'test': 40}, True, {})
    >>> tree.sounds[0][0], tree.sounds[-1][0].rpartition("/")[2]  # and its copy
    ('FULL/female1/arpeggios/belt/f1_arpeggios_belt_a.wav', 'f1_arpeggios_belt_a(1).wav')
    """
    sounds, items = [], []
    for who, singer in enumerate(SINGERS):
        folder = {"f": "female", "m": "male"}[singer[0]] + singer[1:]
        for index in range(max(len(TECHNIQUES), round(scale * RECORDINGS))):
            techniques = TECHNIQUES + OTHERS
            technique = techniques[index % len(techniques)]
            turn = index // len(techniques)
            context, vowel = CONTEXTS[turn // 5 % 4], "aeiou"[turn % 5]
            take = f"_{turn // 20}" if turn >= 20 else ""
            name = f"{singer}_{context}_{technique}{take}_{vowel}"
            path = f"FULL/{folder}/{context}/{technique}/{name}.wav"
            path = ODD.get((singer, technique), path) if index < len(techniques) else path
            sounds.append((path, (seed, who, technique, context, vowel, index)))
            items.append(Item(name, path, None, (singer, technique, vowel)))
    path, key = sounds[0]
    sounds.append((path.replace(".wav", "(1).wav"), key))
    counts = {
        f"{task} default": {
            part: sum(item.split == part for item in split(items))
            for part in ("train", "valid", "test")
        }
        for task, split in (("singer", split_singers), ("technique", split_techniques))
    }
    return Tree(counts, {}, sounds, render, 44100, names=True)


def render(attempt, seed, who, technique, context, vowel, index):
    """A recording of 2.5 to 10 s.

    Arguments
    ---------
    attempt : int
        Another one gives another recording.
    seed, who, index : int
        Of the replica, its singer (of `SINGERS`) and the singer's recording.
    technique : str
        One of the ten or of `OTHERS`, which are sung straight or with vibrato.
    context : str
        One of `CONTEXTS`.
    vowel : str
        A key of `voice.VOWELS`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz, within +-0.97.

    Example
    -------
    >>> from unittest.mock import patch
    >>> with patch.dict(render.__globals__, SHORTEST=1.0, LONGEST=1.0):  # more takes longer
    ...     wave = render(0, 0, 0, "vibrato", "long_tones", "a", 0)
    >>> wave.shape, bool(np.abs(wave).max() <= 0.97)
    ((24000,), True)
    """
    singer = make_singer(SINGERS[who], keyed(seed, STYLE, who), KINDS[SINGERS[who][0]])
    rng = keyed(seed, PIECE, who, index, attempt)
    seconds = rng.uniform(SHORTEST, LONGEST)
    way = technique if technique in TECHNIQUES else ("straight", "vibrato")[index % 2]
    steps = np.array(MELODIES[context])
    if technique.startswith("fast"):
        steps = np.tile(steps, 2)
    low = rng.integers(singer.lowest, singer.highest - steps.max() + 1)
    lengths = np.maximum(0.06, seconds * rng.dirichlet(np.full(len(steps), 30)))
    melody = [(int(low + s), float(length)) for s, length in zip(steps, lengths, strict=True)]
    return sing(singer, way, melody, vowel, rng)
