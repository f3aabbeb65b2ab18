"""Free Music Archive (FMA), small to full: music to pre-train on, with its official split.

python -m speechbrain_music.data_prep.fma /data/fma --out manifests/fma
python -m speechbrain_music.data_prep.fma /data/fma --subset small --split artist --out DIR

Expected tree:

    fma/fma_metadata/tracks.csv
    fma/fma_large/000/000002.mp3    or fma_small, fma_medium, fma_full; the largest is taken

`official` trains, validates and tests as the authors have it; `artist` holds out a share of all
tracks by their artists. Some clips are known to be cut off or empty: they are listed, never an
error.

Source: Defferrard et al. (ISMIR 2017), https://github.com/mdeff/fma.
Licence: metadata CC BY 4.0, code MIT; each track its own (the column `license` in tracks.csv).
"""

import csv
import sys

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

SUBSETS = ("small", "medium", "large", "full")
SPLIT_NAMES = {"training": "train", "validation": "valid", "test": "test"}
# What the authors' own count of tracks.csv gives.
COUNTS = {
    "small": {"train": 6400, "valid": 800, "test": 800},
    "medium": {"train": 19922, "valid": 2505, "test": 2573},
    "large": {"train": 84353, "valid": 10958, "test": 11263},
    "full": {"train": 84353, "valid": 10958, "test": 11263},
}
FMA = prep.DataSet(
    title="FMA",
    source="Defferrard et al. (ISMIR 2017), github.com/mdeff/fma",
    licence="metadata CC BY 4.0; each track its own",
    bibtex="""@inproceedings{defferrard2017fma,
  title={{FMA}: a dataset for music analysis},
  author={Defferrard, Micha{\\"e}l and Benzi, Kirell and Vandergheynst, Pierre and
          Bresson, Xavier},
  booktitle={Proc. ISMIR}, pages={316--323}, year={2017}}""",
    labels=("artist", "genre"),
    min_seconds=prep.MIN_SECONDS,
)


def largest_subset(data_folder):
    """The largest of `SUBSETS` that has audio; "full" if none has.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> for name in ("fma_small", "fma_medium"):
    ...     (root / name).mkdir()
    >>> largest_subset(root)
    'medium'
    """
    present = [name for name in SUBSETS if (data_folder / f"fma_{name}").is_dir()]
    return (present or SUBSETS)[-1]


def read_fma(data_folder, subset, split="official"):
    """The tracks of a subset.

    Arguments
    ---------
    data_folder : Path
        The folder with `fma_metadata` and the audio.
    subset : str
        One of `SUBSETS`, each within the next; its audio may lie in a larger one's folder.
    split : str
        `official`, or `artist` for none yet.

    Returns
    -------
    list of Item
        With artist (its ID) and top genre ("" if none).

    Raises
    ------
    PreparationError
        If tracks.csv is missing, cut off or lacks a column.

    Example
    -------
    >>> table = getfixture("tmp_path") / "fma_metadata" / "tracks.csv"
    >>> table.parent.mkdir()
    >>> names = ",artist,set,set,track\\n,id,split,subset,genre_top\\ntrack_id,,,,\\n"
    >>> _ = table.write_text(names + "2,1,training,small,Hip-Hop\\n")
    >>> read_fma(table.parents[1], "small")
    [Item(id='000002', wav='fma_small/000/000002.mp3', split='train', labels=('1', 'Hip-Hop'))]
    """
    path = data_folder / disk.locate(data_folder, "FMA", "fma_metadata/tracks.csv")
    path = path / "fma_metadata" / "tracks.csv"
    size = SUBSETS.index(subset)
    audio = next((n for n in SUBSETS[size:] if (data_folder / f"fma_{n}").is_dir()), subset)
    within, items = SUBSETS[: size + 1], []
    csv.field_size_limit(2**31 - 1)  # biographies are longer than the default
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        names = [tuple(name) for name in zip(next(rows, []), next(rows, []), strict=False)]
        next(rows, None)  # the third header row names the first column
        wanted = (("artist", "id"), ("track", "genre_top"), ("set", "split"), ("set", "subset"))
        lacking = [" ".join(name) for name in wanted if name not in names]
        if lacking:
            raise disk.PreparationError(
                f"{path} lacks the column(s) {', '.join(lacking)}; fetch it."
            )
        places = [names.index(name) for name in wanted]
        for row in filter(None, rows):
            whole = len(row) == len(names) and row[0].isdigit()
            artist, genre, part, smallest = (row[place] for place in places) if whole else 4 * [""]
            if part not in SPLIT_NAMES or smallest not in SUBSETS:
                raise disk.PreparationError(
                    f"{path} breaks off or is damaged at line {rows.line_num}; fetch it again."
                )
            if smallest in within or subset == "full":
                number = f"{int(row[0]):06d}"
                wav = f"fma_{audio}/{number[:3]}/{number}.mp3"
                items.append(
                    prep.Item(
                        number,
                        wav,
                        SPLIT_NAMES[part] if split == "official" else None,
                        (artist, genre),
                    )
                )
    return items


@disk.as_user_error
def prepare_fma(data_folder, out, subset=None, split="official", valid_share=0.05, seed=0):
    """Writes FMA's manifests: columns `artist` and `genre`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    subset : str, optional
        One of `SUBSETS`; None takes the largest that has audio.
    split : str
        `official` (train, valid, test), or `artist` (train, valid).
    valid_share : float
        Held out by `artist`.
    seed : int
        Chooses the artists.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    PreparationError
        As `read_fma` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "fma"
    >>> _ = make_replica("fma", folder, scale=0.001, annotations_only=True)
    >>> len(read_fma(folder, "small")), len(read_fma(folder, "full"))
    (8, 106)
    """
    if split not in ("official", "artist"):
        raise disk.PreparationError(f"split is {split!r}; choose official or artist.")
    if subset not in (None, *SUBSETS):
        raise disk.PreparationError(f"subset is {subset!r}; choose one of {', '.join(SUBSETS)}.")
    root = disk.existing_folder(data_folder)
    subset = subset or largest_subset(root)
    share = {"valid_share": valid_share, "seed": seed} if split == "artist" else {}
    return prep.prepare_items(
        FMA,
        root,
        out,
        read_fma(root, subset, split),
        settings={"subset": subset, "split": split, **share},
        counts=None if share else COUNTS[subset],
        variant="artist" if share else subset,
        allow_missing=True,
        **share,
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/data/fma", "--out", "manifests", "--subset", "tiny"])  # there is no such subset
    2
    """
    parser = command.make_parser("fma", __doc__, valid_share=0.05)
    parser.add_argument("--subset", help="small, medium, large or full (default: what is there)")
    parser.add_argument("--split", default="official", help="official (default) or artist")
    return command.answer(prepare_fma, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
