"""Harmonix: the structure and beats of 912 pop songs; the audio is your own."""

from pathlib import PurePath

from speechbrain_music.data_prep import data_set, files, frames

FOLDS, PLACES = 8, ("", "dataset", "harmonixset/dataset")
FOLDERS = {"segments": "segments", "beats": "beats_and_downbeats"}


def read_harmonix(data_folder, out=None, fold=0):
    """Songs with segments, and beats."""
    needs = [((name,), PLACES) for name in ("segments/*.txt", "metadata.csv")]
    place = files.locate(data_folder, "Harmonix", *needs)[0]
    table = files.read_table(data_folder / place / "metadata.csv", ("File", "Artist"))
    artists = {row["File"]: row["Artist"] for row in table}
    found = {c: frames.annotations_in(data_folder, PurePath(place, f)) for c, f in FOLDERS.items()}
    fold_of = frames.artist_folds(artists, FOLDS)
    items = frames.fold_items(data_folder, found, fold_of, fold, FOLDS, artists)
    return data_set.Annotations(items, settings={"fold": fold})
