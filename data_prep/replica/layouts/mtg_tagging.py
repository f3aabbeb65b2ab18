"""MTG-Jamendo: `audio-low/14/214.low.mp3`, 44.1 kHz, 30 to 45 s, and the lists of split 0.

Tracks are composed as MagnaTagATune's clips are. Their tags name the genre, the programs that are
played and the mood of the score; some are left out, but none is added. Every track has genres and
all other tags; as many as were published are in the lists of each task.
"""

from collections import defaultdict

from speechbrain_music.data_prep.mtg_jamendo import COLUMNS
from speechbrain_music.data_prep.mtg_tagging import PARTS, SPLIT, TOP50
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.draws import LENGTH, keyed, read_yaml
from speechbrain_music.data_prep.replica.layouts.magnatagatune import NAMED, compose_clip, render
from speechbrain_music.data_prep.replica.trees import Tree, lines, scaled

SHORTEST, LONGEST = 30.5, 45.0  # seconds
PER_ARTIST = 3
_TABLES = read_yaml("tables.yaml")["mtg_tagging"]


def tags_of(player, singer, piece, rng):
    """Task -> tags of a track with their category."""
    played = {p.program for p in piece.parts if not (singer and p.role == "melody")}
    true = {"genre": _TABLES["genres"][player.genre]}
    true["instrument"] = [t for t, known in _TABLES["programs"].items() if played & set(known)]
    true["instrument"] += ["voice"] if singer else []
    moods = _TABLES["moods"].items()
    true["mood/theme"] = [t for name, tags in moods for t in tags[int(piece.mood[name] > 0)]]
    tags = {c: [f"{c}---{t}" for t in true[c] if rng.random() < NAMED] for c in true}
    tags["moodtheme"] = tags.pop("mood/theme")
    every = [tag for found in tags.values() for tag in found]
    return tags | {"top50tags": [tag for tag in every if tag.partition("---")[2] in TOP50]}


def plan(scale, seed):
    """The tree at a share of the published counts; six tracks or more of each split and task."""
    published = DATA_SETS["mtg_tagging"].counts
    counts = {task: scaled(parts, scale, least=6) for task, parts in published.items()}
    rows, sounds = defaultdict(lambda: [COLUMNS]), []
    for part, (split, name) in enumerate(PARTS.items()):
        total = counts["genre"][split]
        for index in range(total):
            rng, artist = keyed(seed, LENGTH, part, index), index // PER_ARTIST
            key = seed, part, artist, index, round(rng.uniform(SHORTEST, LONGEST), 1)
            clip, tags = compose_clip(*key)[:3], {"genre": []}
            while not all(tags.values()):
                tags = tags_of(*clip, rng)
            number = 214 + 11 * len(sounds)
            path = f"{number % 100:02d}/{number}"
            who = f"artist_{part}{artist:05d}", f"album_{part}{artist:05d}"
            cells = f"track_{number:07d}", *who, f"{path}.mp3", f"{key[-1]}"
            for task in counts:  # spread over the artists: 7919 is a prime
                if (index * 7919 + 1) % total < counts[task][split]:
                    rows[f"{SPLIT}/autotagging_{task}-{name}.tsv"].append((*cells, *tags[task]))
            sounds.append((f"audio-low/{path}.low.mp3", key))
    texts = {path: lines(table).replace("\n", "\r\n") for path, table in rows.items()}
    return Tree(counts, texts, sounds, render, 44100)
