"""MTG-Jamendo: `audio-low/14/214.low.mp3`, 44.1 kHz, 45 s, and the lists of split 0.

Tracks are composed as EmoMusic's clips are. Their tags name the genre, the programs and the mood of
the score; some are left out, none is added. A task's lists have the tracks with one of its tags.
"""

from collections import Counter, defaultdict
from functools import partial

from speechbrain_music.data_prep.mtg_jamendo import COLUMNS, LISTS, PARTS, TAGS
from speechbrain_music.data_prep.replica.draws import PLAN, keyed, read_yaml
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.layouts.emomusic import SECONDS, draw_clip
from speechbrain_music.data_prep.replica.trees import Tree, lines, published, render_drawn

PER_ARTIST, NAMED = 3, 0.6  # tracks, share of the tags
_TABLES = read_yaml("tables.yaml")["mtg_tagging"]


def tags_of(piece, rng):
    """Tags of a `Piece`, with their category, as an uploader names them."""
    played = {part.program for part in piece.parts}
    true = [tag for tag, programs in _TABLES["programs"].items() if played & set(programs)]
    true += _TABLES["genres"][piece.genre]
    for emotion, (low, high) in _TABLES["moods"].items():
        true += high if piece.mood[emotion] > 0 else low
    return [tag for tag in true if rng.random() < NAMED]


def plan(scale, seed):
    """The tree at a share of the published tracks with genres; four or more per split."""
    wanted = published("mtg_tagging", scale, 4, "genre")
    counts, tables, sounds = defaultdict(Counter), defaultdict(lambda: [COLUMNS]), []
    for part, split in enumerate(PARTS):
        for index in range(wanted[split]):
            number, artist = 214 + 11 * len(sounds), index // PER_ARTIST * len(PARTS) + part
            key = seed, list(GENRES)[artist % len(GENRES)], artist, number
            tags = tags_of(draw_clip(*key)[1], keyed(seed, PLAN, number))
            path = f"{number % 100:02d}/{number}"
            cells = f"track_{number:07d}", f"artist_{artist:06d}", f"album_{artist:06d}"
            for task, known in TAGS.items():
                if own := [tag for tag in tags if tag.partition("---")[2] in known]:
                    table = tables[f"{LISTS}/autotagging_{task}-{PARTS[split]}.tsv"]
                    table.append((*cells, f"{path}.mp3", SECONDS, *own))
                    counts[task][split] += 1
            sounds.append((f"audio-low/{path}.low.mp3", key))
    texts = {path: lines(table).replace("\n", "\r\n") for path, table in tables.items()}
    return Tree(counts, texts, sounds, partial(render_drawn, draw_clip), 44100)
