"""VocalSet 1.1: `FULL/female1/arpeggios/belt/f1_arpeggios_belt_c_a.wav`, 44.1 kHz.

Nine women and eleven men sing scales, arpeggios, long tones and excerpts; techniques outside the
ten are fast or slow scales and arpeggios. A recording's length is independent of its technique.
Like the original it has a copied file, a misspelt folder, and names with a missing or wrong prefix.
"""

from collections import Counter

import numpy as np

from speechbrain_music.data_prep.data_set import SPLITS, Item
from speechbrain_music.data_prep.replica.draws import FIRST, PIECE, STYLE, keyed, read_yaml
from speechbrain_music.data_prep.replica.trees import Tree
from speechbrain_music.data_prep.replica.voice import VOICES, make_singer, sing
from speechbrain_music.data_prep.vocalset import OTHERS, SINGERS, SPLITTERS, TECHNIQUES

RECORDINGS = 178  # per singer: the paper's 20 singers have about 3,560
SHORTEST, LONGEST = 2.5, 10.0
CONTEXTS = ("arpeggios", "scales", "long_tones", "excerpts")
SCALE, ARPEGGIO, EXCERPT = (0, 2, 4, 5, 7, 5, 4, 2, 0), (0, 4, 7, 12, 7, 4, 0), (0, 0, 0, 2, 4, 4)
MELODIES = dict(zip(CONTEXTS, (ARPEGGIO, SCALE, (0,), EXCERPT), strict=True))
SEXES = {"f": "female", "m": "male"}
DEVIATIONS = read_yaml("tables.yaml")["vocalset"]


def plan(scale, seed):
    """The tree at a share of the paper's recordings; per singer one per technique or more."""
    sounds, items = [], []
    for who, singer in enumerate(SINGERS):
        folder = SEXES[singer[0]] + singer[1:]
        for index in range(max(len(TECHNIQUES), round(scale * RECORDINGS))):
            techniques = TECHNIQUES + OTHERS
            technique = techniques[index % len(techniques)]
            turn = index // len(techniques)
            context, vowel = CONTEXTS[turn // 5 % 4], "aeiou"[turn % 5]
            take = f"_{turn // 20}" if turn >= 20 else ""
            name = f"{singer}_{context}_{technique}{take}_{vowel}"
            path = f"FULL/{folder}/{context}/{technique}/{name}.wav"
            path = path if turn else DEVIATIONS.get(f"{singer} {technique}", path)
            sounds.append((path, (seed, who, technique, context, vowel, index)))
            items.append(Item(name, path, None, (singer, technique)))
    path, key = sounds[0]
    sounds.append((path.replace(".wav", "(1).wav"), key))
    parts = {task: Counter(x.split for x in split(items)) for task, split in SPLITTERS.items()}
    counts = {f"{task} default": {s: part[s] for s in SPLITS} for task, part in parts.items()}
    return Tree(counts, {}, sounds, render, 44100)


def render(seed, who, technique, context, vowel, index):
    """A recording of 2.5 to 10 s; techniques outside the ten are sung straight or with vibrato."""
    singer = make_singer(SINGERS[who], keyed(seed, STYLE, who), VOICES[SEXES[SINGERS[who][0]]])
    rng = keyed(seed, PIECE, who, index, FIRST)
    seconds = rng.uniform(SHORTEST, LONGEST)
    way = technique if technique in TECHNIQUES else ("straight", "vibrato")[index % 2]
    steps = np.array(MELODIES[context])
    if technique.startswith("fast"):
        steps = np.tile(steps, 2)
    low = rng.integers(singer.lowest, singer.highest - steps.max() + 1)
    lengths = np.maximum(0.06, seconds * rng.dirichlet(np.full(len(steps), 30)))
    melody = [(int(low + s), float(length)) for s, length in zip(steps, lengths, strict=True)]
    return sing(singer, way, melody, vowel, rng)
