"""Beats: GTZAN's clips and Ballroom's, with the files of beat_this_annotations.

GTZAN's are those of `gtzan`, with its lists (`--split marble`); by default GTZAN tests, and
Ballroom's folds train and validate. All audio has GTZAN's rate.
"""

from pathlib import PurePath

from speechbrain_music.data_prep.beats import FOLDS
from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.replica import trees
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.layouts import gtzan


def plan(scale, seed):
    """The tree at a share of the published counts; a clip per fold of Ballroom or more."""
    clips = gtzan.plan(scale, seed, genres=2)
    sounds, folds, sides = list(clips.sounds), [], []
    count = trees.published("beats", scale, FOLDS, "ballroom folds")[ALL]
    for index in range(count):
        name, key = f"Media-{103401 + index}", (len(GENRES), index)  # GTZAN's begin with 0 to 9
        genre, fold = list(GENRES)[index % len(GENRES)], index % FOLDS
        sounds.append((f"ballroom/audio/{name}.wav", (seed, genre, key, key, 30.0)))
        folds.append((f"ballroom_{name}", fold))
        sides.append((f"ballroom_{name}", "train" if fold else "val"))
    texts = {"8-folds": trees.lines(folds), "single": trees.lines(sides)}
    texts = clips.texts | {f"ballroom/{name}.split": text for name, text in texts.items()}
    for path, key in sounds:
        source = "ballroom" if path.startswith("ballroom") else "gtzan"
        name = f"{source}_{PurePath(path).stem.replace('.', '_')}"
        beats = (beat[:2] for beat in trees.draw_performance(*key)[1].positions())
        texts[f"{source}/annotations/beats/{name}.beats"] = trees.lines(beats)
    counts = {f"ballroom gtzan {split}": {ALL: len(sounds)} for split in ("folds", "single")}
    counts["gtzan marble"] = clips.counts["published"]
    render, folders = trees.render_performance, clips.folders
    return trees.Tree(counts, texts, sounds, render, clips.rate, folders=folders)
