"""Read MTG-Jamendo's tags: the lists of split 0 of a task."""

import csv
from pathlib import Path

import yaml

from speechbrain_music.data_prep import data_set, files, mtg_jamendo

LISTS = "data/splits/split-0"
PLACES = (LISTS, f"mtg-jamendo-dataset/{LISTS}", "split-0", "")
PARTS = {"train": "train", "valid": "validation", "test": "test"}
TAGS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
GENRES, INSTRUMENTS, MOODS, TOP50 = TAGS.values()


def read_mtg_tagging(data_folder, out=None, *, task):
    """Tracks of a task's lists with their artists; `tags` are joined by "|", without category."""
    needs = ((f"autotagging_{task}-train.tsv",), PLACES), (("[0-9][0-9]",), mtg_jamendo.PLACES)
    lists, audio = files.locate(data_folder, "MTG-Jamendo tagging", *needs)
    items = []
    for split, part in PARTS.items():
        table = data_folder / lists / f"autotagging_{task}-{part}.tsv"
        for row in files.read_table(table, mtg_jamendo.COLUMNS, "\t", csv.QUOTE_NONE):
            tags = [tag.partition("---")[2] for tag in row["TAGS"].split("\t")]
            labels, wav = (data_set.SEVERAL.join(tags), row["ARTIST_ID"]), f"{audio}/{row['PATH']}"
            items.append(data_set.Item(row["TRACK_ID"], wav.lstrip("/"), split, labels))
    return data_set.Annotations(items, settings={"task": task}, variant=task)
