"""EmoMusic: `clips_45seconds/2.mp3` at 44.1 kHz and the tables.

Emotions are the score's mood on the scale of 1 to 9, as ten simulated listeners rate it. Artists
are named so that the published rule gives the published counts; like 43 of the original, some
artists of the evaluation set have music in the development set too.
"""

from collections import Counter
from functools import partial
from itertools import count

import numpy as np

from speechbrain_music.data_prep.emomusic import artist_split, plain_name
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.replica.draws import PLAN, keyed, read_yaml
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.trees import Tree, draw_song, published, render_drawn

SECONDS = 45.0
PER_ARTIST = 2
LISTENERS, DISAGREEMENT = 10, 1.2
COLUMNS = read_yaml("tables.yaml")["emomusic"]


def plan(scale, seed):
    """The tree at a share of the published counts; four clips per split or more."""
    counts = published("emomusic", scale, least=4)
    songs = _songs(counts)
    info, static, sounds = [], [], []
    for index, (name, group, part) in enumerate(songs):
        number = 2 + index + index // 3  # with gaps, as in the original
        genre = list(GENRES)[group % len(GENRES)]
        mood = draw_clip(seed, genre, group, number)[1].mood
        rng, row = keyed(seed, PLAN, number), [number]
        for emotion in ("arousal", "valence"):
            ratings = 5 + 3.5 * mood[emotion] + DISAGREEMENT * rng.standard_normal(LISTENERS)
            ratings = np.clip(np.rint(ratings), 1, 9)
            row += [f"{ratings.mean():.2f}", f"{ratings.std():.2f}"]
        static.append(row)
        part_name = "evaluation" if part == "test" else "development"
        info.append(
            [number, f"{number}.mp3", f"\t{name}\t", f"\tSong, {number}\t"]
            + ["0.30", "1.15", f"\t{genre.title()}\t", part_name]
        )
        sounds.append((f"clips_45seconds/{number}.mp3", (seed, genre, group, number)))
    texts = {
        "annotations/songs_info.csv": csv_text(info, COLUMNS["info"]),
        "annotations/static_annotations.csv": csv_text(static, COLUMNS["static"]),
    }
    tested = {plain_name(name) for name, _, part in songs if part == "test"}
    apart = Counter(
        part for name, _, part in songs if part == "test" or plain_name(name) not in tested
    )
    variants = {"published": counts, "artist_disjoint": dict(apart)}
    render = partial(render_drawn, draw_clip)
    return Tree(variants, texts, sounds, render, 44100, folders=("clips_45seconds",))


def _songs(counts):
    """(artist's name, artist's number, split) of each clip."""
    songs, wanted = [], Counter(counts)
    for group in count():
        letters = "".join("zyxwvutsrq"[int(digit)] for digit in str(group))  # digits are not hashed
        name = f'The "Group"  No. {"abcdefghij"[group % 10]}{letters}, Jr.'
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
            return songs


def draw_clip(seed, genre, group, number):
    """A clip of 45 s; see `draw_song`."""
    return draw_song(seed, genre, (group,), (number,), SECONDS)
