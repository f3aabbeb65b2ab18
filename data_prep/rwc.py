"""RWC, version 2: beats (328 pieces), chords (the 100 of RWC-P), or sections."""

from pathlib import PurePath

from speechbrain_music.data_prep import data_set, files, frames

FOLDS, PLACES = 5, ("", "annotations", "rwc_v2")
TASKS = {"beats": "CGJPR", "chords": "P", "segments": "CGJPR"}  # column -> collections


def read_rwc(data_folder, out=None, task="beats", fold=0):
    """Pieces that have the annotation of a task, with all annotations that they have."""
    needs = [(("metadata.csv",), PLACES), ((f"{task}/*",), PLACES)]
    place = files.locate(data_folder, "RWC", *needs)[0]
    artists, works = {}, {}
    path = data_folder / place / "metadata.csv"
    for row in files.read_table(path, ("CollID", "PieceNo", "Artist", "Title"), ";"):
        number = row["PieceNo"].rstrip("ABCDE")
        key = f"RWC_{row['CollID']}{number:0>3}{row['PieceNo'].removeprefix(number)}"
        if row["CollID"] in TASKS[task]:
            artists[key], works[key] = row["Artist"], row["Title"].partition(" (")[0]
    fold_of = frames.artist_folds(artists, FOLDS, works)
    columns = sorted(frames.COLUMNS, key=lambda column: column != task)
    found = {c: frames.annotations_in(data_folder, PurePath(place, c)) for c in columns}
    items = frames.fold_items(data_folder, found, fold_of, fold, FOLDS, artists)
    return data_set.Annotations(items, settings={"task": task, "fold": fold}, variant=task)
