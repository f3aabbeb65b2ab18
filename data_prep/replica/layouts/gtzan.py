"""GTZAN: `genres/blues/blues.00000.wav`, 22.05 kHz, and three lists; artists keep to one split."""

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.gtzan import GENRES
from speechbrain_music.data_prep.replica.draws import PLAN, keyed
from speechbrain_music.data_prep.replica.trees import Tree, published, render_song

UNLISTED = 0.07  # share of clips that are in no list
PER_ARTIST = 4


def plan(scale, seed, genres=10):
    """The tree at a share of the published counts; a clip per split of the first genres or more."""
    counts = published("gtzan", scale, genres)
    unlisted = round(UNLISTED * sum(counts.values()))
    lists, sounds = {split: [] for split in SPLITS}, []
    for which, genre in enumerate(GENRES):
        number = 0
        for part, (split, count) in enumerate([*counts.items(), (None, unlisted)]):
            for index in range(len(range(which, count, len(GENRES)))):
                name = f"{genre}/{genre}.{number:05d}.wav"
                if split:
                    lists[split].append(name)
                artist, piece = (which, part, index // PER_ARTIST), (which, part, index)
                seconds = 30 + keyed(seed, PLAN, *piece).uniform(-0.05, 0.6)
                key = (seed, genre, artist, piece, seconds, split == "test")
                sounds.append((f"genres/{name}", key))
                number += 1
    texts = {f"{split}_filtered.txt": "\n".join(lists[split]) + "\n" for split in SPLITS}
    folders = tuple(f"genres/{genre}" for genre in GENRES)
    return Tree({"published": counts}, texts, sounds, render_song, 22050, folders=folders)
