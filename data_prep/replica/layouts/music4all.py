"""Music4All: `audios/<16 letters and digits>.mp3`, 44.1 kHz stereo, and id_information.csv."""

import base64
import hashlib

from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.trees import Tree, scaled, song, style

CLIPS = 109269
SECONDS = 30.0
PER_ARTIST = 3


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the published clips; two or more.
    seed : int
        Of names and music.

    Returns
    -------
    Tree
        Without counts, for there are no splits.

    Example
    -------
    >>> tree = plan(0.0001, seed=0)
    >>> len(tree.sounds), tree.sounds[0][0]
    (11, 'audios/VIP7ZWEU3KFVBEYS.mp3')
    >>> tree.texts["id_information.csv"].splitlines()[1].split("\\t")
    ['VIP7ZWEU3KFVBEYS', 'The "blues" 0', 'Song: 0', 'Album, 0']
    """
    lines, sounds = ["id\tartist\tsong\talbum_name\n"], []
    for index in range(scaled({"clips": CLIPS}, scale, least=2)["clips"]):
        digest = hashlib.sha1(f"{seed}:{index}".encode()).digest()
        name = base64.b32encode(digest).decode()[:16]
        artist = index // PER_ARTIST
        genre = list(GENRES)[artist % len(GENRES)]
        lines.append(f'{name}\tThe "{genre}" {artist}\tSong: {index}\tAlbum, {artist}\n')
        sounds.append((f"audios/{name}.mp3", (seed, genre, artist, index)))
    texts = {"id_information.csv": "".join(lines)}
    return Tree({}, texts, sounds, render, 44100, channels=2, folders=("audios",))


def render(attempt, seed, genre, artist, index):
    """A clip of 30 s.

    Arguments
    ---------
    attempt : int
        Another one gives another clip.
    seed, artist, index : int
        Of the replica, its artist and its clip.
    genre : str
        A key of `GENRES`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> from unittest.mock import patch
    >>> with patch.dict(render.__globals__, SECONDS=1.0):  # 30 s take longer
    ...     first, second = (render(attempt, 0, "jazz", 5, 15) for attempt in (0, 1))
    >>> first.shape, bool((first == second).all())
    ((24000,), False)
    """
    return song(style(genre, seed, artist), SECONDS, seed, index, attempt)
