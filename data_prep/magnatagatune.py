"""MagnaTagATune tagging: 25,860 clips of 29 s, the 50 commonest of 188 tags, split by folder.

python -m speechbrain_music.data_prep.magnatagatune /data/MTT --out manifests/mtt

Expected tree (the sixteen folders may also lie at the top, the table in a folder annotations/):

    MTT/annotations_final.csv    tab separated: clip_id, 188 tags of 0 or 1, mp3_path
    MTT/mp3/0/*.mp3 ... MTT/mp3/f/*.mp3

Folders 0 to b train, c validates, d to f test. Three clips are unreadable as published. Clips
with none of the 50 tags are kept, as MARBLE keeps them; --tagged_only leaves them out.

Source: Law et al. (ISMIR 2009), https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset.
Licence: the recordings are Magnatune's, CC BY-NC-SA.
"""

import sys
from pathlib import PurePosixPath

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

# The order that the field has used since musicnn's `MTT_LABELS`.
TAGS = tuple(
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,"
    "vocal,synth,female,indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,"
    "woman,male vocal,no vocal,pop,soft,sitar,solo,man,classic,choir,voice,new age,dance,"
    "male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,female voice,"
    "choral".split(",")
)
FOLDERS = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
COUNTS = {"train": 18706, "valid": 1825, "test": 5329}
TAGGED_COUNTS = {"train": 15247, "valid": 1529, "test": 4332}
UNREADABLE = frozenset({"35644", "55753", "57881"})  # in every copy
MAGNATAGATUNE = prep.DataSet(
    title="MagnaTagATune",
    source="Law et al. (ISMIR 2009), mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
    licence="recordings of Magnatune, CC BY-NC-SA",
    bibtex="""@inproceedings{law2009evaluation,
  title={Evaluation of algorithms using games: the case of music tagging},
  author={Law, Edith and West, Kris and Mandel, Michael and Bay, Mert and Downie, J. Stephen},
  booktitle={Proc. ISMIR}, pages={387--392}, year={2009}}""",
    labels=("tags",),
    classes=("tags",),
)


def read_magnatagatune(data_folder, tagged_only=False):
    """The clips that can be read, with their tags.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.
    tagged_only : bool
        Whether clips with none of `TAGS` are left out.

    Returns
    -------
    list of Item
        `tags` are joined by "|", in the order of `TAGS`.

    Raises
    ------
    PreparationError
        If the table or the folders are missing or damaged.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "c").mkdir()
    >>> rows = [["clip_id", *TAGS, "mp3_path"], ["2", "1", "1", *"0" * 48, "c/song.mp3"]]
    >>> _ = (root / "annotations_final.csv").write_text("\\n".join(map("\\t".join, rows)))
    >>> read_magnatagatune(root)
    [Item(id='2', wav='c/song.mp3', split='valid', labels=('guitar|classical',))]
    """
    place = disk.locate(
        data_folder, "MagnaTagATune", "annotations_final.csv", ("", "annotations", "mp3")
    )
    table = data_folder / place / "annotations_final.csv"
    audio = disk.locate(data_folder, "MagnaTagATune", "[0-9a-f]", ("mp3", "", "audio"))
    items = []
    for row in disk.read_table(table, ("clip_id", *TAGS, "mp3_path"), delimiter="\t"):
        path = PurePosixPath(row["mp3_path"])
        if path.parent.name not in FOLDERS:
            raise disk.PreparationError(
                f"{table} has the path {row['mp3_path']!r}, which is in none of the folders 0 to "
                "f; fetch it again."
            )
        tags = [tag for tag in TAGS if row[tag] == "1"]
        if row["clip_id"] not in UNREADABLE and (tags or not tagged_only):
            wav = PurePosixPath(audio, path).as_posix()
            items.append(
                prep.Item(
                    row["clip_id"], wav, FOLDERS[path.parent.name], (prep.SEVERAL.join(tags),)
                )
            )
    return items


@disk.as_user_error
def prepare_magnatagatune(data_folder, out, tagged_only=False, allow_missing=False):
    """Writes MagnaTagATune's manifests: column `tags`, of `TAGS`, joined by "|".

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    tagged_only : bool
        Whether clips with none of the 50 tags are left out.
    allow_missing : bool
        Whether other counts than 18,706, 1,825 and 5,329 (tagged: 15,247, 1,529 and 4,332) are
        reported and not refused.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    PreparationError
        As `read_magnatagatune` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "MTT"
    >>> _ = make_replica("magnatagatune", folder, scale=0.01, annotations_only=True)
    >>> len(read_magnatagatune(folder)), len(read_magnatagatune(folder, tagged_only=True))
    (258, 210)
    """
    root = disk.existing_folder(data_folder)
    return prep.prepare_items(
        MAGNATAGATUNE,
        root,
        out,
        read_magnatagatune(root, tagged_only),
        settings={"tagged_only": tagged_only},
        counts=TAGGED_COUNTS if tagged_only else COUNTS,
        variant="tagged" if tagged_only else "published",
        allow_missing=allow_missing,
        folders=[disk.locate(root, "MagnaTagATune", "[0-9a-f]", ("mp3", "", "audio"))],
        facts={"left_out": "unreadable as published: " + ", ".join(sorted(UNREADABLE))},
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/nowhere/MTT", "--out", "manifests"])
    2
    """
    parser = command.make_parser("magnatagatune", __doc__, allow_missing=True)
    parser.add_argument("--tagged_only", action="store_true", help="leave out untagged clips")
    return command.answer(prepare_magnatagatune, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
