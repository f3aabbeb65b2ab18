"""Chords1217: `audio/TR0001.mp3` at 44.1 kHz, `chordlab/TR0001.lab`, and lists of five folds."""

from speechbrain_music.data_prep.data_set import ALL
from speechbrain_music.data_prep.frames import FOLDS
from speechbrain_music.data_prep.replica import trees


def plan(scale, seed):
    """The tree at a share of the published songs; two per fold or more."""
    folds = FOLDS["chords1217"]
    counts = trees.published("chords1217", scale, 2 * folds)
    fold_of, texts, sounds = {}, {}, []
    for artist, key in trees.song_keys(seed, counts[ALL], folds):
        name = f"TR{len(sounds):04d}"
        fold_of[name] = artist % folds
        texts[f"chordlab/{name}.lab"] = trees.lines(trees.draw_performance(*key)[1].chords)
        sounds.append((f"audio/{name}.mp3", key))
    for fold in range(folds):
        for side in ("train", "test"):
            names = ([name] for name, own in fold_of.items() if (own == fold) == (side == "test"))
            texts[f"data/{side}{fold:02d}.csv"] = trees.lines(names)
    return trees.Tree({"published": counts}, texts, sounds, trees.render_performance, 44100)
