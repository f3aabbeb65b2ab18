"""A folder of recordings with a table of labels -> manifests: a data set of one's own.

python -m speechbrain_music.data_prep.table /data/chords --labels quality --out manifests/chords

The table, `labels.csv` in the folder, has a row a recording: its file (relative to the folder),
its split (train, valid or test) and the labels; several values of a label are written "a|b".
"""

import sys
from collections import Counter

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

TABLE = "labels.csv"


@disk.as_user_error
def prepare_table(data_folder, out, labels, table=TABLE, allow_missing=False):
    """Writes the manifests of what a table names, with its labels as their columns.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the recordings are and where the manifests go.
    labels : sequence of str
        Columns of the table.
    table : str
        The CSV file, relative to the data folder.
    allow_missing : bool
        Whether recordings that cannot be read are reported and not refused.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    PreparationError
        If the table lacks a column or a split, names another split, a recording twice or one that
        cannot be read, or as `prepare_items`.

    Example
    -------
    >>> import numpy, soundfile
    >>> folder = getfixture("tmp_path")
    >>> rows = ["file,split,quality"]
    >>> for split in prep.SPLITS:
    ...     soundfile.write(folder / f"{split}.wav", numpy.zeros(24000), 24000)
    ...     rows.append(f"{split}.wav,{split},minor")
    >>> _ = (folder / TABLE).write_text("\\n".join(rows))
    >>> report = prepare_table(folder, folder / "manifests", labels=["quality"])
    >>> report["splits"]["test"]["classes"]
    {'quality': {'minor': 1}}
    """
    root = disk.existing_folder(data_folder)
    path = root / table
    items = []
    for row in disk.read_table(path, ["file", "split", *labels]):
        if row["split"] not in prep.SPLITS:
            raise disk.PreparationError(
                f"{path} has the split {row['split']!r} at {row['file']}: "
                f"write {', '.join(prep.SPLITS)}."
            )
        values = tuple(row[label] for label in labels)
        items.append(prep.Item(row["file"], row["file"], row["split"], values))
    counts = Counter(item.split for item in items)
    if absent := [split for split in prep.SPLITS if not counts[split]]:
        raise disk.PreparationError(f"{path} has no recording of {', '.join(absent)}: add some.")
    data_set = prep.DataSet(
        title=root.name,
        source=str(path),
        licence="not stated",
        bibtex="",
        labels=tuple(labels),
        classes=tuple(labels),
    )
    return prep.prepare_items(
        data_set, root, out, items, counts=dict(counts), allow_missing=allow_missing
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> _ = (root / TABLE).write_text("file,split,quality\\na.wav,dev,minor\\n")
    >>> main([str(root), "--labels", "quality", "--out", str(root / "out")])  # dev is no split
    2
    """
    parser = command.make_parser("table", __doc__, allow_missing=True)
    parser.add_argument("--labels", nargs="+", required=True, help="columns of the table")
    parser.add_argument("--table", default=TABLE, help=f"the CSV file (default: {TABLE})")
    return command.answer(prepare_table, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
