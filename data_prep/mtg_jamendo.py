"""MTG-Jamendo: 55,701 full tracks to pre-train on.

Expected tree (audio may be in audio/, audios/, audio-low/, raw_30s/audio/, raw_30s/audio-low/ or at
the top, with or without .low in its names; the table at the top or in data/):

    mtg-jamendo/data/raw_30s.tsv    or autotagging_moodtheme.tsv and the like; the largest is taken
    mtg-jamendo/audio/14/214.mp3

A share of the tracks is held out by their artists; without a table each file is its own artist.
"""

import csv
import logging

from speechbrain_music.data_prep import data_set, files

logger = logging.getLogger(__name__)

PLACES = ("audio", "audios", "audio-low", "raw_30s/audio", "raw_30s/audio-low", "")
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


def read_mtg_jamendo(data_folder, out=None):
    """Tracks of the table, or all files without one, with their artists and without split."""
    place = files.locate(data_folder, "MTG-Jamendo", (("[0-9][0-9]",), PLACES))[0]
    patterns = (f"{part}{name}*.tsv" for part in ("", "data/") for name in ("raw", "autotagging"))
    tables = (path for pattern in patterns for path in sorted(data_folder.glob(pattern)))
    table = max(tables, key=lambda path: path.stat().st_size, default=None)
    if table is None:
        logger.warning("No table of artists (raw_30s.tsv): each file is its own artist.")
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
