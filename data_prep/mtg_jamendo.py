"""Read MTG-Jamendo: all tracks with their artists."""

import csv
from itertools import chain

from speechbrain_music.data_prep import data_set, files

TABLES = ("raw*.tsv", "data/raw*.tsv", "autotagging*.tsv", "data/autotagging*.tsv")
PLACES = ("audio", "audios", "audio-low", "raw_30s/audio", "raw_30s/audio-low", "")
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


def read_mtg_jamendo(data_folder, out=None):
    """Tracks of the table with their artists and without split."""
    needs = (("[0-9][0-9]",), PLACES), (TABLES, ("",))
    place = files.locate(data_folder, "MTG-Jamendo", *needs)[0]
    tables = chain.from_iterable(sorted(data_folder.glob(pattern)) for pattern in TABLES)
    table = max(tables, key=lambda path: path.stat().st_size)
    items = [
        data_set.Item(
            row["TRACK_ID"], f"{place}/{row['PATH']}".lstrip("/"), None, (row["ARTIST_ID"],)
        )
        for row in files.read_table(table, COLUMNS[:5], "\t", csv.QUOTE_NONE)
    ]
    return data_set.Annotations(items, extra={"table": table.name})
