"""GTZAN: `genres/blues/blues.00000.wav`, 22.05 kHz, and three lists; artists keep to one split."""

from speechbrain_music.data_prep.gtzan import COUNTS, GENRES
from speechbrain_music.data_prep.preparation import SPLITS
from speechbrain_music.data_prep.replica.corpus import keyed
from speechbrain_music.data_prep.replica.trees import PLAN, Tree, scaled, song, style

UNLISTED = 0.07  # of all clips: those that the lists leave out
PER_ARTIST = 4


def plan(scale, seed):
    """The tree; see `make_replica`."""
    counts = scaled(COUNTS, scale, least=len(GENRES))
    unlisted = round(UNLISTED * sum(counts.values()))
    lists, sounds = {split: [] for split in SPLITS}, []
    for which, genre in enumerate(GENRES):
        number = 0
        for part, (split, count) in enumerate([*counts.items(), (None, unlisted)]):
            for index in range(len(range(which, count, len(GENRES)))):
                name = f"{genre}/{genre}.{number:05d}.wav"
                if split:
                    lists[split].append(name)
                key = (seed, which, part, index // PER_ARTIST, index)
                sounds.append((f"genres/{name}", key))
                number += 1
    texts = {f"{split}_filtered.txt": "\n".join(lists[split]) + "\n" for split in SPLITS}
    folders = tuple(f"genres/{genre}" for genre in GENRES)
    return Tree({"published": counts}, texts, sounds, render, 22050, folders=folders)


def render(attempt, seed, which, part, artist, index):
    """A clip of a little over or under 30 s."""
    held_out = part == SPLITS.index("test")
    player = style(GENRES[which], seed, which, part, artist, held_out=held_out)
    seconds = 30 + keyed(seed, PLAN, which, part, index).uniform(-0.05, 0.6)
    return song(player, seconds, seed, which, part, index, attempt)
