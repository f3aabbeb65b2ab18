"""MTG-Jamendo: 55,701 full tracks to pre-train on.

Expected tree (audio may be in audio/, audio-low/, raw_30s/audio/, raw_30s/audio-low/ or at the
top, as .mp3, .low.mp3, .flac or .low.flac; the table at the top or in data/):

    mtg-jamendo/data/raw_30s.tsv    or raw_30s_cleantags.tsv, ..._50artists.tsv, autotagging.tsv
    mtg-jamendo/audio/14/214.mp3

A share of the tracks is held out by their artists; without a table each file is its own artist.
"""

import csv
import logging
import re

from speechbrain_music.data_prep import data_set, files

logger = logging.getLogger(__name__)

PLACES = ("audio", "audio-low", "raw_30s/audio", "raw_30s/audio-low", "")
TABLES = ("raw_30s", "raw_30s_cleantags", "raw_30s_cleantags_50artists", "autotagging")
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")


def read_mtg_jamendo(data_folder, out=None):
    """Tracks of the table, or all files without one, with their artists and without split."""
    place = files.locate(data_folder, "MTG-Jamendo", "[0-9][0-9]", PLACES)
    names = files.find_audio(data_folder, place)[0]
    here = {re.sub(r"(\.low)?\.\w+$", "", name): name for name in names}
    tables = [data_folder / f / f"{name}.tsv" for name in TABLES for f in ("", "data")]
    # autotagging.tsv is a link: where links are not followed it is a file that holds a name.
    table = next((path for path in tables if path.is_file() and path.stat().st_size > 100), None)
    if table is None:
        logger.warning("No table of artists (%s.tsv): each file is its own artist.", TABLES[0])
        items = [data_set.Item(stem, name, None, ("",)) for stem, name in here.items()]
        return data_set.Annotations(items, (place,))
    items = []
    for row in files.read_table(table, COLUMNS[:5], "\t", csv.QUOTE_NONE):
        stem = f"{place}/{row['PATH']}".removeprefix("/").removesuffix(".mp3")
        wav = here.get(stem, f"{stem}.mp3")
        items.append(data_set.Item(row["TRACK_ID"], wav, None, (row["ARTIST_ID"],)))
    return data_set.Annotations(items, (place,))


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
    read=read_mtg_jamendo,
    options=data_set.HELD_OUT,
)
prepare_mtg_jamendo = MTG_JAMENDO.prepare
