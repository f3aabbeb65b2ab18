"""RWC: the popular music, `RWC-P/RWC_P001.wav` at 44.1 kHz stereo, in RWC v2's tables.

Each piece has beats, chords and sections. No two have the same title: only artists join pieces.
"""

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.frames import COLUMNS, FOLDS
from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.draws import read_yaml


def plan(scale, seed):
    """The tree at a share of the pieces with chords; a piece per fold or more."""
    counts = trees.published("rwc", scale, FOLDS["rwc"], "chords")
    rows, texts, sounds = [read_yaml("tables.yaml")["rwc"]], {}, []
    for artist, key in trees.song_keys(seed, counts[ALL], FOLDS["rwc"]):
        number, piece = len(rows), trees.draw_performance(*key)[1]
        name = f"RWC-P/RWC_P{number:03d}"
        beats = [("t", "beat"), *(beat[:2] for beat in piece.positions())]
        texts[f"annotations/beats/{name}.csv"] = trees.lines(beats, ";")
        chords = [("t_start", "t_end", "chord"), *piece.chords]
        texts[f"annotations/chords/{name}.csv"] = trees.lines(chords, ";")
        texts[f"annotations/segments/{name}.txt"] = trees.lines(piece.sections)
        minutes, seconds = divmod(round(piece.seconds), 60)
        row = f"P;{number};1;{number};Song {number} (Take 1);Singer No. {artist};;;"
        row += f"{minutes:02d}:{seconds:02d};{piece.tempo:.1f};;;;;;Vocal;Popular;{piece.genre}"
        rows.append(row)
        sounds.append((f"{name}.wav", key))
    texts["annotations/metadata.csv"] = "\ufeff" + "\r\n".join([*rows, ""])
    counts = dict.fromkeys(COLUMNS, counts)
    return trees.Tree(counts, texts, sounds, trees.render_performance, 44100, channels=2)
