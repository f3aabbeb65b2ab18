"""MTG-Jamendo tagging: genres, instruments, moods and themes, or the 50 most frequent tags.

Expected tree (the lists may also lie in split-0/, at the top, or in a clone of the data set's
repository, mtg-jamendo-dataset/; audio may lie where `mtg_jamendo` has it):

    mtg-jamendo/data/splits/split-0/autotagging_genre-{train,validation,test}.tsv    of the task
    mtg-jamendo/audio-low/14/214.low.mp3

Split 0 of five, by artist. Its lists have 87 of 95 genres, 40 of 41 instruments and 56 of 59 moods
and themes: only tags that all three parts have. A track is in a list if it has one of its tags.
"""

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
