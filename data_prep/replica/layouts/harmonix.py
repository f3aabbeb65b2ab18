"""Harmonix: `audio/0001_song.mp3` at 44.1 kHz, sections with Harmonix's words, and beats."""

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.harmonix import FOLDS, HARMONIX
from speechbrain_music.data_prep.manifest import csv_text
from speechbrain_music.data_prep.replica.draws import read_yaml
from speechbrain_music.data_prep.replica.trees import (
    Tree,
    draw_performance,
    render_performance,
    scaled,
    song_keys,
)

SHORTEST, LONGEST = 60.0, 100.0  # seconds
COLUMNS = read_yaml("tables.yaml")["harmonix"]


def plan(scale, seed):
    """The tree at a share of the published songs; one per fold or more."""
    counts = scaled(HARMONIX.counts["published"], scale, FOLDS)
    rows, texts, sounds = [], {}, []
    per_artist = min(3, counts[ALL] // FOLDS)
    for artist, key in song_keys(seed, counts[ALL], per_artist, SHORTEST, LONGEST):
        name = f"{len(rows) + 1:04d}_song{len(rows)}"
        piece, bar = draw_performance(*key)[1], 1
        lines = [f"{start:.6f} {section}\n" for start, _, section in piece.sections]
        texts[f"dataset/segments/{name}.txt"] = "".join([*lines, f"{piece.seconds} end\n"])
        lines = []
        for time, position in piece.positions():
            bar += position == 1 and bool(lines)
            lines.append(f"{time:.6f}\t{position}\t{bar}\n")
        texts[f"dataset/beats_and_downbeats/{name}.txt"] = "".join(lines)
        known = {"File": name, "Title": f'Song, "{len(rows)}"', "Artist": f"Band No. {artist}"}
        known |= {"Duration": piece.seconds, "BPM": round(piece.tempo), "Genre": piece.genre}
        known |= {"Ratio Bars in 4": 100.0 * (piece.meter == "4/4")}
        known |= {"Time Signature": piece.meter.replace("/", "|")}
        rows.append([known.get(column, "") for column in COLUMNS])
        sounds.append((f"audio/{name}.mp3", key))
    texts["dataset/metadata.csv"] = csv_text(rows, COLUMNS)
    counts = {"published": counts}
    return Tree(counts, texts, sounds, render_performance, 44100, folders=("audio",))
