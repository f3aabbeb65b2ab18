"""Read a folder of recordings with a table of labels."""

import os
from collections import Counter

from speechbrain_music.data_prep import data_set, files
from speechbrain_music.data_prep.manifest import COLUMNS

TABLE = "labels.csv"
RESERVED = (*COLUMNS, "track", "weight", "corpus", "generator")


def read_labelled_folder(data_folder, out, labels, table=TABLE):
    """The recordings in a table, which is also the data set's record.

    `labels` are columns of `table`, a CSV file in the data folder.
    """
    path = data_folder / table
    wrong = [name for name in labels if name in RESERVED or labels.count(name) > 1]
    if wrong:
        raise files.PreparationError(
            f"labels has {wrong[0]!r}, a column of every manifest or given twice: rename the "
            "column of the table."
        )
    items, remedy = [], "fix the table or pass another as --table"
    for row in files.read_table(path, ["file", "split", *labels], remedy=remedy):
        if row["split"] not in data_set.SPLITS:
            raise files.PreparationError(
                f"{path} has the split {row['split']!r} at {row['file']}: "
                f"write {', '.join(data_set.SPLITS)}."
            )
        name = os.path.normpath(row["file"])  # ./a.wav is a.wav
        values = tuple(row[label] for label in labels)
        items.append(data_set.Item(name, name, row["split"], values))
    counts = Counter(item.split for item in set(items))
    if absent := [split for split in data_set.SPLITS if not counts[split]]:
        raise files.PreparationError(f"{path} has no recording of {', '.join(absent)}: add some.")
    record = {"title": data_folder.name, "reference": str(path), "labels": tuple(labels)}
    record |= {"classes": tuple(labels), "counts": {"published": dict(counts)}}
    return data_set.Annotations(items, record=record)
