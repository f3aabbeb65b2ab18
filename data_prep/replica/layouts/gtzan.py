"""GTZAN: `genres/blues/blues.00000.wav`, 22.05 kHz, and three lists; artists keep to one split."""

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.gtzan import COUNTS, GENRES
from speechbrain_music.data_prep.replica.corpus import keyed
from speechbrain_music.data_prep.replica.trees import PLAN, Tree, scaled, song, style

UNLISTED = 0.07  # of all clips: those that the lists leave out
PER_ARTIST = 4


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the published counts; one clip a genre and split or more.
    seed : int
        Of the music.

    Returns
    -------
    Tree

    Example
    -------
    >>> tree = plan(0.01, seed=0)
    >>> tree.counts["published"], len(tree.sounds)  # two are in no list
    ({'train': 10, 'valid': 10, 'test': 10}, 32)
    >>> tree.sounds[0][0], tree.texts["train_filtered.txt"].split()[0]
    ('genres/blues/blues.00000.wav', 'blues/blues.00000.wav')
    """
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
    """A clip of a little over or under 30 s.

    Arguments
    ---------
    attempt : int
        Another one gives another clip of the same length.
    seed, which, part, artist, index : int
        Of the replica, its genre, the split (3: none), the split's artist and clip of that genre.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> from unittest.mock import patch
    >>> with patch.dict(render.__globals__, song=lambda *asked: asked):  # what is to be composed
    ...     player, seconds, *_ = render(0, 0, GENRES.index("jazz"), 2, 1, 7)
    >>> player.name, 29.9 < seconds < 30.7
    ('5-2-1', True)
    """
    held_out = part == SPLITS.index("test")
    player = style(GENRES[which], seed, which, part, artist, held_out=held_out)
    seconds = 30 + keyed(seed, PLAN, which, part, index).uniform(-0.05, 0.6)
    return song(player, seconds, seed, which, part, index, attempt)
