"""RWC: the popular music, `RWC-P/RWC_P001.wav` at 44.1 kHz stereo, in RWC v2's tables.

Each piece has beats, chords and sections. Titles are unique: only artists join pieces.
"""

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.replica.draws import read_yaml
from speechbrain_music.data_prep.replica.trees import (
    Tree,
    draw_performance,
    render_performance,
    scaled,
    song_keys,
)
from speechbrain_music.data_prep.rwc import FOLDS, RWC, TASKS

SHORTEST, LONGEST = 60.0, 100.0  # seconds
COLUMNS = read_yaml("tables.yaml")["rwc"]


def plan(scale, seed):
    """The tree at a share of the pieces with chords; a piece per fold or more."""
    counts = scaled(RWC.counts["chords"], scale, FOLDS)
    rows, texts, sounds = [COLUMNS], {}, []
    per_artist = min(3, counts[ALL] // FOLDS)
    for artist, key in song_keys(seed, counts[ALL], per_artist, SHORTEST, LONGEST):
        number = len(rows)
        name = f"RWC-P/RWC_P{number:03d}"
        piece = draw_performance(*key)[1]
        tables = {
            "beats/{}.csv": ("t;beat", ";", piece.positions()),
            "chords/{}.csv": ("t_start;t_end;chord", ";", piece.chords),
            "segments/{}.txt": ("# start, end, section", "\t", piece.sections),
        }
        for path, (header, separator, lines) in tables.items():
            cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in x] for x in lines]
            text = "".join(f"{line}\n" for line in [header, *map(separator.join, cells)])
            texts[f"annotations/{path.format(name)}"] = text
        minutes, seconds = divmod(round(piece.seconds), 60)
        known = {"CollID": "P", "PieceNo": number, "CDNo": 1, "TrackNo": number}
        known |= {"Title": f"Song {number} (Take 1)", "Artist": f"Singer No. {artist}"}
        known |= {"Duration": f"{minutes:02d}:{seconds:02d}", "Tempo": f"{piece.tempo:.1f}"}
        known |= {"Category_new": "Vocal", "Genre": "Popular", "Subgenre": piece.genre}
        rows.append([str(known.get(column, "")) for column in COLUMNS])
        sounds.append((f"{name}.wav", key))
    texts["annotations/metadata.csv"] = "\ufeff" + "".join(f"{';'.join(row)}\r\n" for row in rows)
    counts = dict.fromkeys(TASKS, counts)
    return Tree(counts, texts, sounds, render_performance, 44100, 2, folders=("RWC-P",))
