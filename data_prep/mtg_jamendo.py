"""Read MTG-Jamendo: all tracks with their artists, or the lists of a task with their tags."""

import csv
from itertools import chain
from pathlib import Path

import yaml

from speechbrain_music.data_prep import data_set, files

TABLES = ("raw*.tsv", "data/raw*.tsv", "autotagging*.tsv", "data/autotagging*.tsv")
PLACES = ("audio", "audios", "audio-low", "raw_30s/audio", "raw_30s/audio-low", "")
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
LISTS = "data/splits/split-0"
LIST_PLACES = (LISTS, f"mtg-jamendo-dataset/{LISTS}", "split-0", "")
PARTS = {"train": "train", "valid": "validation", "test": "test"}
TAGS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
GENRES, INSTRUMENTS, MOODS, TOP50 = TAGS.values()


def read_mtg_jamendo(data_folder, out=None):
    """Tracks of the table with their artists and without split."""
    needs = (("[0-9][0-9]",), PLACES), (TABLES, ("",))
    place = files.locate(data_folder, "MTG-Jamendo", *needs)[0]
    tables = chain.from_iterable(sorted(data_folder.glob(pattern)) for pattern in TABLES)
    table = max(tables, key=lambda path: path.stat().st_size)
    items = []
    for row in files.read_table(table, COLUMNS[:5], "\t", csv.QUOTE_NONE):
        wav = f"{place}/{row['PATH']}".lstrip("/")
        items.append(data_set.Item(row["TRACK_ID"], wav, None, (row["ARTIST_ID"],)))
    return data_set.Annotations(items, extra={"table": table.name})


def read_mtg_tagging(data_folder, out=None, *, task):
    """Tracks of a task's lists with their artists; `tags` are joined by "|", without category."""
    needs = ((f"autotagging_{task}-train.tsv",), LIST_PLACES), (("[0-9][0-9]",), PLACES)
    lists, audio = files.locate(data_folder, "MTG-Jamendo tagging", *needs)
    items = []
    for split, part in PARTS.items():
        table = data_folder / lists / f"autotagging_{task}-{part}.tsv"
        for row in files.read_table(table, COLUMNS, "\t", csv.QUOTE_NONE):
            tags = [tag.partition("---")[2] for tag in row["TAGS"].split("\t")]
            labels, wav = (data_set.SEVERAL.join(tags), row["ARTIST_ID"]), f"{audio}/{row['PATH']}"
            items.append(data_set.Item(row["TRACK_ID"], wav.lstrip("/"), split, labels))
    return data_set.Annotations(items, settings={"task": task}, variant=task)
