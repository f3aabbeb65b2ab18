"""EmoMusic: `clips_45seconds/2.mp3` at 44.1 kHz and the tables; emotions are those of the score,
on the scale of 1 to 9, with the disagreement of ten listeners.

Artists are named so that the published rule gives the published counts; like 43 of the
original, some artists of the evaluation set have music in the development set too.
"""

from collections import Counter
from itertools import count

import numpy as np

from speechbrain_music.data_prep.emomusic import COUNTS, artist_split, plain_name
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.corpus import keyed
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.mix import mix
from speechbrain_music.data_prep.replica.synth import load_bank
from speechbrain_music.data_prep.replica.trees import PIECE, PLAN, Tree, on_a_floor, scaled, style

SECONDS = 45.0
PER_ARTIST = 2
LISTENERS, DISAGREEMENT = 10, 1.2
HEAD = (
    "song_id,file_name,Artist,Song title,start of the segment (min.sec),"
    "end of the segment (min.sec),Genre,Mediaeval 2013 set"
)
STATIC = "song_id,mean_arousal,std_arousal,mean_valence,std_valence"


def plan(scale, seed):
    """The tree; see `make_replica`.

    Arguments
    ---------
    scale : float
        Share of the published counts; four clips a split or more.
    seed : int
        Of the music and of the listeners.

    Returns
    -------
    Tree

    Example
    -------
    >>> from unittest.mock import patch
    >>> with patch.dict(plan.__globals__, SECONDS=1.0):  # 45 s take longer to compose
    ...     tree = plan(0.001, seed=0)
    >>> tree.counts["published"], tree.sounds[0][0]
    ({'train': 4, 'valid': 4, 'test': 4}, 'clips_45seconds/2.mp3')
    >>> clips = tree.texts["annotations/static_annotations.csv"].splitlines()[1:]
    >>> len(clips), all(1 <= float(clip.split(",")[1]) <= 9 for clip in clips)  # arousal
    (12, True)
    """
    counts, songs = scaled(COUNTS, scale, least=4), []
    wanted = Counter(counts)
    for group in count():
        name = f'The "Group"  No. {"abcdefghij"[group % 10]}{_letters(group)}, Jr.'
        split = artist_split(name)
        own = "test" if wanted["test"] > wanted[split] else split
        sets = [own] * PER_ARTIST
        if group % 9 == 0 and wanted[split] > PER_ARTIST:
            sets = [split] * PER_ARTIST + ["test"] * (1 + group % 2)
        for part in sets:
            if wanted[part] > 0:
                wanted[part] -= 1
                songs.append((name, group, part))
        if not any(wanted.values()):
            break
    info, static, sounds = [], [], []
    bank = load_bank()
    for index, (name, group, part) in enumerate(songs):
        number = 2 + index + index // 3  # as in the original, some are missing
        genre = list(GENRES)[group % len(GENRES)]
        mood = piece_of(seed, genre, group, number, bank)[1].mood
        rng, row = keyed(seed, PLAN, number), [number]
        for emotion in ("arousal", "valence"):
            felt = 5 + 3.5 * mood[emotion] + DISAGREEMENT * rng.standard_normal(LISTENERS)
            felt = np.clip(np.rint(felt), 1, 9)
            row += [f"{felt.mean():.2f}", f"{felt.std():.2f}"]
        static.append(row)
        part_name = "evaluation" if part == "test" else "development"
        info.append(
            [number, f"{number}.mp3", f"\t{name}\t", f"\tSong, {number}\t"]
            + ["0.30", "1.15", f"\t{genre.title()}\t", part_name]
        )
        sounds.append((f"clips_45seconds/{number}.mp3", (seed, genre, group, number)))
    texts = {
        "annotations/songs_info.csv": csv_text(info, HEAD.split(",")),
        "annotations/static_annotations.csv": csv_text(static, STATIC.split(",")),
    }
    tested = {plain_name(name) for name, _, part in songs if part == "test"}
    apart = Counter(
        part for name, _, part in songs if part == "test" or plain_name(name) not in tested
    )
    variants = {"published": counts, "artist_disjoint": dict(apart)}
    return Tree(variants, texts, sounds, render, 44100, folders=("clips_45seconds",))


def _letters(number):
    """A number in letters, for digits are no part of a name that is hashed."""
    return "".join("zyxwvutsrq"[int(digit)] for digit in str(number))


def piece_of(seed, genre, group, number, bank):
    """The artist, the piece and the random numbers left for its mix.

    Arguments
    ---------
    seed, group, number : int
        Of the replica, its artist and its clip.
    genre : str
        A key of `GENRES`.
    bank : Bank
        From `load_bank`.

    Returns
    -------
    artist : Artist
    piece : Piece
    rng : numpy.random.Generator

    Example
    -------
    >>> artist, piece, _ = piece_of(0, "jazz", 5, 16, load_bank())
    >>> artist.name, piece.genre, piece.seconds, -1 < piece.mood["valence"] < 1
    ('5', 'jazz', 45.0, True)
    """
    artist = style(genre, seed, group)
    rng = keyed(seed, PIECE, number)
    return artist, compose(artist, SECONDS, rng, bank), rng


def render(attempt, seed, genre, group, number):
    """A clip of 45 s; always the piece that was annotated.

    Arguments
    ---------
    attempt : int
        Changes nothing.
    seed, genre, group, number
        As in `piece_of`.

    Returns
    -------
    numpy.ndarray
        (samples,) float32 at 24 kHz.

    Example
    -------
    >>> from unittest.mock import patch
    >>> with patch.dict(render.__globals__, SECONDS=1.0):  # 45 s take longer
    ...     first, second = (render(attempt, 0, "jazz", 5, 16) for attempt in (0, 1))
    >>> first.shape, bool((first == second).all())
    ((24000,), True)
    """
    bank = load_bank()
    artist, piece, rng = piece_of(seed, genre, group, number, bank)
    return on_a_floor(mix(piece, artist, rng, bank), rng)
