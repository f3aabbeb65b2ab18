"""Music4All: 109,269 clips of 30 s to pre-train on.

python -m speechbrain_music.data_prep.music4all /data/music4all --out manifests/music4all

Expected tree:

    music4all/id_information.csv    tab separated: id, artist, song, album_name
    music4all/audios/0009fFIM1eYThaPg.mp3

A share of the clips is held out by their artists.

Source: Santana et al. (IWSSIP 2020), https://sites.google.com/view/contact4music4all.
Licence: research use, on request and signature.
"""

import sys

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

MUSIC4ALL = prep.DataSet(
    title="Music4All",
    source="Santana et al. (IWSSIP 2020), sites.google.com/view/contact4music4all",
    licence="research use, on request",
    bibtex="""@inproceedings{santana2020music4all,
  title={{Music4All}: a new music database and its applications},
  author={Santana, Igor Andr{\\'e} Pegoraro and Pinhelli, Fabio and Donini, Juliano and
          Catharin, Leonardo and Mangolin, Rafael Biazus and Feltrim, Valeria Delisandra and
          Domingues, Marcos Aur{\\'e}lio and others},
  booktitle={Proc. IWSSIP}, pages={399--404}, year={2020}}""",
    labels=("artist",),
    min_seconds=prep.MIN_SECONDS,
)


def read_music4all(data_folder):
    """The clips, with their artists and without split.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.

    Returns
    -------
    list of Item

    Raises
    ------
    PreparationError
        If `id_information.csv` is missing or damaged.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> _ = (root / "id_information.csv").write_text("id\\tartist\\n0009fF\\tAnn\\n")
    >>> read_music4all(root)
    [Item(id='0009fF', wav='audios/0009fF.mp3', split=None, labels=('Ann',))]
    """
    disk.locate(data_folder, "Music4All", "id_information.csv")
    table = disk.read_table(data_folder / "id_information.csv", ("id", "artist"), delimiter="\t")
    return [
        prep.Item(row["id"], f"audios/{row['id']}.mp3", None, (row["artist"],)) for row in table
    ]


@disk.as_user_error
def prepare_music4all(data_folder, out, valid_share=0.05, seed=0):
    """Writes Music4All's manifests: column `artist`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    valid_share : float
        Share of the clips to hold out, whole artists at a time.
    seed : int
        Chooses the artists.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    PreparationError
        As `read_music4all` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "music4all"
    >>> _ = make_replica("music4all", folder, scale=0.001, annotations_only=True)
    >>> len(read_music4all(folder))
    109
    """
    root = disk.existing_folder(data_folder)
    return prep.prepare_items(
        MUSIC4ALL,
        root,
        out,
        read_music4all(root),
        settings={"valid_share": valid_share, "seed": seed},
        allow_missing=True,
        folders=["audios"],
        valid_share=valid_share,
        seed=seed,
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/nowhere/music4all", "--out", "manifests"])
    2
    """
    parser = command.make_parser("music4all", __doc__, valid_share=0.05)
    return command.answer(prepare_music4all, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
