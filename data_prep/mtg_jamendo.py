"""MTG-Jamendo: 55,701 full tracks to pre-train on.

python -m speechbrain_music.data_prep.mtg_jamendo /data/mtg-jamendo --out manifests/jamendo

Expected tree (audio may be in audio/, audio-low/, raw_30s/audio/, raw_30s/audio-low/ or at the
top, as .mp3, .low.mp3, .flac or .low.flac; the table at the top or in data/):

    mtg-jamendo/data/raw_30s.tsv    or raw_30s_cleantags.tsv, ..._50artists.tsv, autotagging.tsv
    mtg-jamendo/audio/14/214.mp3

A share of the tracks is held out by their artists; without a table each file is its own artist.

Source: Bogdanov et al. (ICML workshop 2019), https://github.com/MTG/mtg-jamendo-dataset.
Licence: audio Creative Commons, track by track; metadata CC BY-NC-SA 4.0.
"""

import csv
import logging
import re
import sys

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

logger = logging.getLogger(__name__)

PLACES = ("audio", "audio-low", "raw_30s/audio", "raw_30s/audio-low", "")
TABLES = ("raw_30s", "raw_30s_cleantags", "raw_30s_cleantags_50artists", "autotagging")
COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
MTG_JAMENDO = prep.DataSet(
    title="MTG-Jamendo",
    source="Bogdanov et al. (2019), github.com/MTG/mtg-jamendo-dataset",
    licence="audio Creative Commons, track by track; metadata CC BY-NC-SA 4.0",
    bibtex="""@inproceedings{bogdanov2019mtg,
  title={The {MTG-Jamendo} dataset for automatic music tagging},
  author={Bogdanov, Dmitry and Won, Minz and Tovstogan, Philip and Porter, Alastair and
          Serra, Xavier},
  booktitle={Machine Learning for Music Discovery Workshop, ICML}, year={2019}}""",
    labels=("artist",),
    min_seconds=prep.MIN_SECONDS,
)


def read_mtg_jamendo(data_folder):
    """The tracks, with their artists and without split.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.

    Returns
    -------
    list of Item
        All of the table, or all files if there is none.

    Raises
    ------
    PreparationError
        If there is no audio folder, or the table is damaged.

    Example
    -------
    >>> path = getfixture("tmp_path") / "audio-low" / "14" / "214.low.mp3"
    >>> path.parent.mkdir(parents=True)
    >>> path.touch()
    >>> read_mtg_jamendo(path.parents[2])
    [Item(id='audio-low/14/214', wav='audio-low/14/214.low.mp3', split=None, labels=('',))]
    """
    place = disk.locate(data_folder, "MTG-Jamendo", "[0-9][0-9]", PLACES)
    here = {
        re.sub(r"(\.low)?\.\w+$", "", name): name for name in disk.find_audio(data_folder, place)[0]
    }
    tables = [data_folder / f / f"{name}.tsv" for name in TABLES for f in ("", "data")]
    # autotagging.tsv is a link: where links are not followed it is a file that holds a name.
    table = next((path for path in tables if path.is_file() and path.stat().st_size > 100), None)
    if table is None:
        logger.warning("No table of artists (%s.tsv): each file is its own artist.", TABLES[0])
        return [prep.Item(stem, name, None, ("",)) for stem, name in here.items()]
    items = []
    for row in disk.read_table(table, COLUMNS[:5], "\t", csv.QUOTE_NONE):
        stem = f"{place}/{row['PATH']}".removeprefix("/").removesuffix(".mp3")
        items.append(
            prep.Item(row["TRACK_ID"], here.get(stem, f"{stem}.mp3"), None, (row["ARTIST_ID"],))
        )
    return items


@disk.as_user_error
def prepare_mtg_jamendo(data_folder, out, valid_share=0.05, seed=0):
    """Writes MTG-Jamendo's manifests: column `artist`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    valid_share : float
        Share of the tracks to hold out, whole artists at a time.
    seed : int
        Chooses the artists.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    PreparationError
        As `read_mtg_jamendo` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "jamendo"
    >>> _ = make_replica("mtg_jamendo", folder, scale=0.001, annotations_only=True)
    >>> len(read_mtg_jamendo(folder))
    56
    """
    root = disk.existing_folder(data_folder)
    return prep.prepare_items(
        MTG_JAMENDO,
        root,
        out,
        read_mtg_jamendo(root),
        settings={"valid_share": valid_share, "seed": seed},
        allow_missing=True,
        folders=[disk.locate(root, "MTG-Jamendo", "[0-9][0-9]", PLACES)],
        valid_share=valid_share,
        seed=seed,
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/nowhere/jamendo", "--out", "manifests"])
    2
    """
    parser = command.make_parser("mtg_jamendo", __doc__, valid_share=0.05)
    return command.answer(prepare_mtg_jamendo, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
