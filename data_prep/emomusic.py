"""EmoMusic emotion: 744 clips of 45 s, arousal and valence as many people felt them.

python -m speechbrain_music.data_prep.emomusic /data/EmoMusic --out manifests/emomusic

Expected tree (the tables may also lie at the top, the clips in clips_45sec/):

    EmoMusic/annotations/{songs_info,static_annotations}.csv
    EmoMusic/clips_45seconds/2.mp3

The evaluation set (125) tests; the development set is divided by its artists into 504 to train
and 115 to validate, as JukeMIR and MARBLE divide it: the SHA-1 of the name in lower case, only
ASCII letters and single spaces kept, modulo 10; 8 and 9 validate. 43 artists of the evaluation
set have music in the development set too: `--split artist_disjoint` leaves that music out.

Source: Soleymani et al. (2013), https://cvml.unige.ch/databases/emoMusic/.
Licence: research use, on request; the clips are from the Free Music Archive, CC.
"""

import hashlib
import statistics
import sys

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep

COUNTS = {"train": 504, "valid": 115, "test": 125}
EMOTIONS = ("arousal", "valence")
CLIPS = ("clips_45seconds", "clips_45sec")
EMOMUSIC = prep.DataSet(
    title="EmoMusic",
    source="Soleymani et al. (CrowdMM 2013), cvml.unige.ch/databases/emoMusic",
    licence="research use; clips of the Free Music Archive, Creative Commons",
    bibtex="""@inproceedings{soleymani2013thousand,
  title={1000 songs for emotional analysis of music},
  author={Soleymani, Mohammad and Caro, Micheal N. and Schmidt, Erik M. and Sha, Cheng-Ya and
          Yang, Yi-Hsuan},
  booktitle={Proc. ACM Workshop on Crowdsourcing for Multimedia}, pages={1--6}, year={2013}}""",
    labels=("artist", *EMOTIONS, *(f"{name}_z" for name in EMOTIONS)),
)


def plain_name(artist):
    """An artist's name as the split hashes it.

    Example
    -------
    >>> plain_name("Motörhead & The  2 Friends")
    'motrhead the friends'
    """
    kept = (c for c in artist.lower() if c.isascii() and (c.isalpha() or c.isspace()))
    return " ".join("".join(kept).split())


def artist_split(artist):
    """`train` or `valid`: where the published rule puts an artist of the development set.

    Example
    -------
    >>> artist_split("Queen") == artist_split("QUEEN (2)")
    True
    """
    share = int(hashlib.sha1(plain_name(artist).encode()).hexdigest(), 16) % 10
    return "train" if share < 8 else "valid"


def _felt(text, path):
    try:
        if 1 <= float(text) <= 9:
            return float(text)
    except ValueError:
        pass
    raise disk.PreparationError(f"{path} has the emotion {text!r}, not 1 to 9; fetch it again.")


def read_emomusic(data_folder, split="published"):
    """The clips, with their emotions and what standardises them.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.
    split : str
        `published` or `artist_disjoint`.

    Returns
    -------
    items : list of Item
        Arousal and valence on the scale of 1 to 9, then both standardised.
    scale : dict
        Emotion -> `mean` and `std` (of the population) over the development set, so that
        value = mean + std * standardised value.

    Raises
    ------
    PreparationError
        If a table is missing or damaged.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> songs = "song_id,Artist,Mediaeval 2013 set\\n2,Ann,development\\n3,Bob,development"
    >>> _ = (root / "songs_info.csv").write_text(songs)
    >>> felt = "song_id,mean_arousal,mean_valence\\n2,3,6\\n3,5,6"
    >>> _ = (root / "static_annotations.csv").write_text(felt)
    >>> items, scale = read_emomusic(root)
    >>> items[0].labels, scale["arousal"]
    (('Ann', 3.0, 6.0, '-1.000000', '0.000000'), {'mean': 4.0, 'std': 1.0})
    """
    place = disk.locate(data_folder, "EmoMusic", "songs_info.csv", ("annotations", ""))
    clips = next((name for name in CLIPS if (data_folder / name).is_dir()), CLIPS[0])
    static = data_folder / place / "static_annotations.csv"
    info = data_folder / place / "songs_info.csv"
    emotions, songs = {}, {}
    for row in disk.read_table(static, ("song_id", "mean_arousal", "mean_valence")):
        emotions[row["song_id"]] = [_felt(row[f"mean_{name}"], static) for name in EMOTIONS]
    for row in disk.read_table(info, ("song_id", "Artist", "Mediaeval 2013 set")):
        song, artist, part = row["song_id"], row["Artist"], row["Mediaeval 2013 set"]
        if song not in emotions or part not in ("development", "evaluation"):
            raise disk.PreparationError(
                f"{info} has a song {song!r} of the set {part!r}; sets are development and "
                f"evaluation, and {static.name} must have each song: fetch both again."
            )
        songs[song] = artist, "test" if part == "evaluation" else artist_split(artist)
    developed = [emotions[song] for song, (_, part) in songs.items() if part != "test"]
    if not developed:
        raise disk.PreparationError(f"{info} has no song of the development set; fetch it again.")
    scale = {
        name: {"mean": statistics.fmean(values), "std": statistics.pstdev(values) or 1.0}
        for name, values in zip(EMOTIONS, zip(*developed, strict=True), strict=True)
    }
    tested = {plain_name(artist) for artist, part in songs.values() if part == "test"}
    items = []
    for song, (artist, part) in songs.items():
        if split == "artist_disjoint" and part != "test" and plain_name(artist) in tested:
            continue
        values = emotions[song]
        standard = [
            f"{(value - scale[name]['mean']) / scale[name]['std']:.6f}"
            for name, value in zip(EMOTIONS, values, strict=True)
        ]
        items.append(prep.Item(song, f"{clips}/{song}.mp3", part, (artist, *values, *standard)))
    return items, scale


@disk.as_user_error
def prepare_emomusic(data_folder, out, split="published", allow_missing=False):
    """Writes EmoMusic's manifests: columns `artist`, `arousal`, `valence` (1 to 9), `arousal_z`
    and `valence_z` (standardised by the development set).

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    split : str
        `published` or `artist_disjoint`: the same test clips, and no other music of their
        artists.
    allow_missing : bool
        Whether other counts than 504, 115 and 125 are reported and not refused.

    Returns
    -------
    dict
        The report; its `scale` brings standardised predictions back to 1 to 9.

    Raises
    ------
    PreparationError
        As `read_emomusic` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "EmoMusic"
    >>> _ = make_replica("emomusic", folder, scale=0.1, annotations_only=True)
    >>> items, scale = read_emomusic(folder)
    >>> len(items), sorted(scale)
    (74, ['arousal', 'valence'])
    """
    if split not in ("published", "artist_disjoint"):
        raise disk.PreparationError(f"split is {split!r}; choose published or artist_disjoint.")
    root = disk.existing_folder(data_folder)
    items, scale = read_emomusic(root, split)
    return prep.prepare_items(
        EMOMUSIC,
        root,
        out,
        items,
        settings={"split": split},
        counts=COUNTS if split == "published" else None,
        variant=split,
        allow_missing=allow_missing,
        folders=[str(items[0].wav).rpartition("/")[0]],
        facts={"scale": scale},
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     main(["/data/EmoMusic", "--out", "manifests", "--split", "random"])
    error: split is 'random'; choose published or artist_disjoint.
    2
    """
    parser = command.make_parser("emomusic", __doc__, allow_missing=True)
    parser.add_argument("--split", default="published", help="published or artist_disjoint")
    return command.answer(prepare_emomusic, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
