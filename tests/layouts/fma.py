"""FMA: `fma_large/000/000002.mp3`, 44.1 kHz stereo, and tracks.csv with its peculiarities.

The table has three header rows, and line breaks and quotes in cells.
"""

from pathlib import Path

import yaml

from speechbrain_music.data_prep.fma import SPLIT_NAMES
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.trees import Tree, render_song, scaled

SECONDS = 30.0
PER_ARTIST = 3
COLUMNS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def plan(scale, seed):
    """The tree at a share of the published counts; the full set is the large one."""
    names = [(group, name) for group, columns in COLUMNS.items() for name in columns]
    heads = [["", *(group for group, _ in names)], ["", *(name for _, name in names)]]
    rows, sounds, counts, number = [], [], {}, 0
    done = dict.fromkeys(SPLIT_NAMES.values(), 0)
    for subset in ("small", "medium", "large"):  # each holds the ones before it
        counts[subset] = scaled(DATA_SETS["fma"].counts[subset], scale)
        for part, (spelled, split) in enumerate(SPLIT_NAMES.items()):
            for index in range(done[split], counts[subset][split]):
                number += 1 + (7 * number + part) % 3  # with gaps, as in the original
                artist = index // PER_ARTIST
                genre = list(GENRES)[(artist + part) % len(GENRES)]
                cells = {
                    ("artist", "bio"): f'<p>Plays {genre},\nsays "always",\r\nand means it.</p>',
                    ("artist", "id"): 10 * artist + part,
                    ("artist", "name"): f"{genre.title()} & Sons, No. {10 * artist + part}",
                    ("set", "split"): spelled,
                    ("set", "subset"): subset,
                    ("track", "duration"): round(SECONDS),
                    ("track", "genre_top"): genre.title(),
                    ("track", "license"): "made by rules",
                    ("track", "title"): f"Piece {index}",
                }
                rows.append([number, *(cells.get(name, "") for name in names)])
                path = f"fma_large/{number // 1000:03d}/{number:06d}.mp3"
                key = (seed, genre, (part, artist), (part, index), SECONDS, split == "test")
                sounds.append((path, key))
            done[split] = max(done[split], counts[subset][split])
    counts["full"] = counts["large"]
    table = csv_text([heads[1], ["track_id", *[""] * len(names)], *rows], heads[0])
    texts = {"fma_metadata/tracks.csv": table}
    return Tree(counts, texts, sounds, render_song, 44100, channels=2, folders=("fma_large",))
