"""Read a folder of the user's own, except `files.JUNK`: all of its music, or what a table lists."""

import os
from collections import Counter

from speechbrain_music.data_prep import data_set, files
from speechbrain_music.data_prep.manifest import COLUMNS

RESERVED = (*COLUMNS, "file", "split", "track", "weight", "corpus", "generator")
_REMEDY = "fix the table or pass another as --table"
_SHOWN = 20  # extensions in the report


def read_folder(data_folder, out=None):
    """Files without split; `other_files` of the report counts others by their extension."""
    names, unlisted, others = files.find_audio(data_folder)
    if not names and not unlisted:
        raise files.no_audio(data_folder, others)
    items = [data_set.Item(name, name, None, ()) for name in names]
    extra = {"other_files": dict(sorted(others.most_common(_SHOWN)))}
    # No counts are expected: of a replica's folder, too, any part is taken.
    return data_set.Annotations(items, variant="", extra=extra)


def read_labelled_folder(data_folder, out, labels, table="labels.csv"):
    """The recordings in a table, which is also the data set's record.

    `labels` are columns of `table`, a CSV file in the data folder.
    """
    path = data_folder / table
    wrong = [name for name in labels if name in RESERVED or labels.count(name) > 1]
    if wrong:
        raise files.PreparationError(
            f"labels has {wrong[0]!r}, a column of every table or manifest or given twice: choose "
            "another, or rename the column of the table."
        )
    items = []
    for row in files.read_table(path, ["file", "split", *labels], remedy=_REMEDY):
        what = f"the split of {row['file']} in {path}"
        data_set.check_option(what, row["split"], data_set.SPLITS)
        name = os.path.normpath(row["file"])  # ./a.wav is a.wav
        values = tuple(row[label] for label in labels)
        items.append(data_set.Item(name, name, row["split"], values))
    counts = Counter(item.split for item in set(items))
    if absent := [split for split in data_set.SPLITS if not counts[split]]:
        raise files.PreparationError(f"{path} has no recording of {', '.join(absent)}: add some.")
    record = {"title": data_folder.name, "reference": str(path), "labels": tuple(labels)}
    record |= {"classes": tuple(labels), "counts": {"published": dict(counts)}}
    return data_set.Annotations(items, record=record)


def label_values(data_folder, label, table="labels.csv"):
    """All values of a column of a folder's table, sorted; of "a|b" each."""
    if not (data_folder and label):
        raise files.PreparationError(
            "data_folder or label is not set: pass --data_folder (to marble.py --data "
            f"labels=FOLDER) with a folder that has {table}, and --label with a column of it"
        )
    path = files.existing_folder(data_folder) / table
    rows = files.read_table(path, [label], remedy=_REMEDY)
    values = {value for row in rows for value in data_set.values_of(row[label])}
    if not values:
        raise files.PreparationError(f"{path} has no value in the column {label}: {_REMEDY}")
    return sorted(values)
