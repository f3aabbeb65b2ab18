"""Beats: GTZAN's clips and Ballroom's, with the files of beat_this_annotations.

GTZAN's are those of `gtzan`, with its lists (`--split marble`); by default GTZAN tests, and
Ballroom's folds train and validate. Both have the rate of 22.05 kHz.
"""

from speechbrain_music.data_prep.beats import FOLDS, PUBLISHED
from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.layouts import gtzan
from speechbrain_music.data_prep.replica.trees import (
    Tree,
    draw_performance,
    render_performance,
    scaled,
)

SECONDS = 30.0
BALLROOM = 10  # after GTZAN's ten genres in the keys of artists and pieces


def plan(scale, seed):
    """The tree at a share of the published counts; a clip per fold of Ballroom or more."""
    clips = gtzan.plan(scale, seed, genres=2)
    texts, sounds, folds = dict(clips.texts), list(clips.sounds), []
    for index in range(scaled({ALL: sum(PUBLISHED["ballroom"])}, scale, FOLDS)[ALL]):
        genre, key = list(GENRES)[index % len(GENRES)], (BALLROOM, index)
        name = f"Media-{103401 + index}"
        sounds.append((f"BallroomData/{name}.wav", (seed, genre, key, key, SECONDS)))
        folds.append((f"ballroom_{name}", index % FOLDS))
    for path, key in sounds:
        name = path.rpartition("/")[2].removesuffix(".wav").replace(".", "_")
        source = "ballroom" if path.startswith("BallroomData") else "gtzan"
        beats = draw_performance(*key)[1].positions()
        text = "".join(f"{time:.3f}\t{position}\n" for time, position in beats)
        texts[f"{source}/annotations/beats/{source}_{name}.beats"] = text
    sides = [(name, "train" if fold else "val") for name, fold in folds]
    for name, rows in (("8-folds", folds), ("single", sides)):
        texts[f"ballroom/{name}.split"] = "".join(f"{key}\t{value}\n" for key, value in rows)
    counts = {f"ballroom gtzan {split}": {ALL: len(sounds)} for split in ("folds", "single")}
    counts["gtzan marble"] = clips.counts["published"]
    folders = (*clips.folders, "BallroomData")
    return Tree(counts, texts, sounds, render_performance, clips.rate, folders=folders)
