"""MTG-Jamendo: 55,701 full tracks to pre-train on.

Expected tree (audio may be in audio/, audios/, audio-low/, raw_30s/audio/, raw_30s/audio-low/ or at
the top, with or without .low in its names; the table at the top or in data/):

    mtg-jamendo/data/raw_30s.tsv    or another table of its form; raw_30s, raw_30s_cleantags,
                                    ..._50artists and autotagging first, else the largest
    mtg-jamendo/audio/14/214.mp3

A share of the tracks is held out by their artists; without a table each file is its own artist.
"""

import csv
import logging

from speechbrain_music.data_prep import data_set, files

logger = logging.getLogger(__name__)

PLACES = ("audio", "audios", "audio-low", "raw_30s/audio", "raw_30s/audio-low", "")
TABLES = ("raw_30s", "raw_30s_cleantags", "raw_30s_cleantags_50artists", "autotagging")
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


def read_mtg_jamendo(data_folder, out=None):
    """Tracks of the table, or all files without one, with their artists and without split."""
    place = files.locate(data_folder, "MTG-Jamendo", (("[0-9][0-9]",), PLACES))[0]
    table = _table(data_folder)
    if table is None:
        logger.warning("No table of artists (%s.tsv): each file is its own artist.", TABLES[0])
        names = files.find_audio(data_folder, place)[0]
        stems = [name.rpartition(".")[0].removesuffix(".low") for name in names]
        items = [data_set.Item(s, name, None, ("",)) for s, name in zip(stems, names, strict=True)]
        return data_set.Annotations(items, (place,))
    logger.info("Artists are those of %s.", table)
    items = [
        data_set.Item(
            row["TRACK_ID"], f"{place}/{row['PATH']}".lstrip("/"), None, (row["ARTIST_ID"],)
        )
        for row in files.read_table(table, COLUMNS[:5], "\t", csv.QUOTE_NONE)
    ]
    return data_set.Annotations(items, (place,))


def _table(data_folder):
    """The table with the most artists: a known one, else the largest; None if there is none."""

    def rank(path):
        known = path.stem in TABLES
        return not known, TABLES.index(path.stem) if known else -path.stat().st_size, path

    def is_table(path):
        if path.stem in TABLES:  # autotagging.tsv is a link, which some copies hold as a short text
            return path.stat().st_size > 100
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return {*COLUMNS[:5]} <= {name.strip() for name in file.readline().split("\t")}

    paths = [path for part in ("", "data") for path in (data_folder / part).glob("*.tsv")]
    return next((path for path in sorted(paths, key=rank) if is_table(path)), None)


MTG_JAMENDO = data_set.DataSet(
    name="mtg_jamendo",
    title="MTG-Jamendo",
    reference="Bogdanov et al. (ICML workshop 2019)",
    licence="audio Creative Commons, track by track; metadata CC BY-NC-SA 4.0",
    home_page="https://github.com/MTG/mtg-jamendo-dataset",
    bibtex=data_set.cite("bogdanov2019mtg"),
    labels=("artist",),
    splits=("train", "valid"),
    min_seconds=data_set.MIN_SECONDS,
    endings=(".low",),
    read=read_mtg_jamendo,
    options=data_set.HELD_OUT,
)
prepare_mtg_jamendo = MTG_JAMENDO.prepare
