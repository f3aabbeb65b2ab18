"""GTZAN genre: 930 clips of 30 s in ten genres, split by the fault-filtered lists.

python -m speechbrain_music.data_prep.gtzan /data/GTZAN --out manifests/gtzan

Expected tree (the folders of genres may also lie in genres_original/, Data/genres_original/ or at
the top; clips may be .wav or .au):

    GTZAN/genres/blues/blues.00000.wav
    GTZAN/{train,valid,test}_filtered.txt    one path a line; fetched if they are nowhere

Source: Tzanetakis and Cook (2002). The archive is no longer at its first address; copies are on
the Hugging Face hub and on Kaggle. Lists: Kereliuk, Sturm and Larsen (2015), who removed repeated,
distorted and mislabelled clips and keep artists apart.
Licence: none was given; research use is customary.
"""

import hashlib
import logging
import sys
import urllib.request
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep
from speechbrain_music.utils.atomic import atomic_file

logger = logging.getLogger(__name__)

GENRES = tuple("blues classical country disco hiphop jazz metal pop reggae rock".split())
COUNTS = {"train": 443, "valid": 197, "test": 290}
PLACES = ("genres", "genres_original", "Data/genres_original", "")
LISTS = "https://raw.githubusercontent.com/coreyker/dnn-mgr/master/gtzan/"
SHA256 = {
    "train": "2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa",
    "valid": "f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956",
    "test": "09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72",
}
GTZAN = prep.DataSet(
    title="GTZAN",
    source="Tzanetakis and Cook (2002), lists of Kereliuk et al. (2015)",
    licence="none given; research use is customary",
    bibtex="""@article{tzanetakis2002musical,
  title={Musical genre classification of audio signals},
  author={Tzanetakis, George and Cook, Perry},
  journal={IEEE Transactions on Speech and Audio Processing},
  volume={10}, number={5}, pages={293--302}, year={2002}}
@article{kereliuk2015deep,
  title={Deep learning and music adversaries},
  author={Kereliuk, Corey and Sturm, Bob L. and Larsen, Jan},
  journal={IEEE Transactions on Multimedia},
  volume={17}, number={11}, pages={2059--2071}, year={2015}}""",
    labels=("genre",),
    classes=("genre",),
    unreadable=frozenset({"jazz.00054"}),  # damaged in the copy that most people have
)


def read_gtzan(data_folder, lists=None, fetched=None):
    """The clips of the three lists.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.
    lists : str | Path, optional
        The folder with the lists, if they are not with the data.
    fetched : Path, optional
        Where to put lists that have to be fetched; None fetches none.

    Returns
    -------
    items : list of Item
        With their genre.
    official : bool
        Whether the lists are the published ones.

    Raises
    ------
    PreparationError
        If genres or lists are not there, or a list names something else.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "blues").mkdir()
    >>> for split in prep.SPLITS:
    ...     _ = (root / f"{split}_filtered.txt").write_text("blues/blues.00029.wav")
    >>> read_gtzan(root)[0][0]
    Item(id='blues.00029', wav='blues/blues.00029.wav', split='train', labels=('blues',))
    """
    place = disk.locate(data_folder, "GTZAN", "blues", PLACES)
    audio = data_folder / place
    where = [Path(lists)] if lists else [data_folder, audio.parent, audio]
    items, official = [], True
    for split in prep.SPLITS:
        name = f"{split}_filtered.txt"
        path = next((folder / name for folder in where if (folder / name).is_file()), None)
        if path is None:
            if lists or fetched is None:
                raise disk.PreparationError(f"{where[0]} has no {name}; get it from {LISTS}{name}.")
            path = _fetch(split, fetched / name)
        data = path.read_bytes()
        official &= hashlib.sha256(data).hexdigest() == SHA256[split]
        for line in data.decode("utf-8-sig").split():
            clip = PurePosixPath(line.replace("\\", "/"))
            if clip.parent.name not in GENRES:
                raise disk.PreparationError(
                    f"{path} names {line!r}, which is in none of the genres "
                    f"{', '.join(GENRES)}; fetch the list again."
                )
            stem = PurePosixPath(clip.parent.name, clip.stem)
            wav = next((f for f in (f"{stem}.wav", f"{stem}.au") if (audio / f).exists()), clip)
            wav = PurePosixPath(place, wav).as_posix()
            items.append(prep.Item(clip.stem, wav, split, (clip.parent.name,)))
    return items, official


def _fetch(split, path):
    """Fetches a list once; what does not have its checksum is not kept."""
    if not path.is_file():
        url = f"{LISTS}{path.name}"
        logger.info("fetching %s", url)
        try:
            with urllib.request.urlopen(url, timeout=30) as answered:
                data = answered.read()
        except (OSError, HTTPException) as error:
            raise disk.PreparationError(
                f"{url} could not be fetched ({error}); put {path.name} into the data folder, or "
                "name its folder with --lists."
            ) from error
        if hashlib.sha256(data).hexdigest() != SHA256[split]:
            raise disk.PreparationError(
                f"{url} is not the list it was (its sha256 is another); find the published one "
                "and name its folder with --lists."
            )
        with atomic_file(path, "wb") as file:
            file.write(data)
    return path


@disk.as_user_error
def prepare_gtzan(data_folder, out, lists=None, allow_missing=False):
    """Writes GTZAN's manifests: column `genre`, one of `GENRES`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    lists : str | Path, optional
        The folder with the three lists, if they are not with the data; otherwise they are
        fetched, with a checksum.
    allow_missing : bool
        Whether other counts than 443, 197 and 290 are reported and not refused.

    Returns
    -------
    dict
        The report; its `official_lists` tells whether the lists are the published ones.

    Raises
    ------
    PreparationError
        As `read_gtzan` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = make_replica("gtzan", getfixture("tmp_path") / "GTZAN", annotations_only=True)
    >>> items, official = read_gtzan(folder)
    >>> len(items), items[0].id, items[0].labels, official
    (930, 'blues.00000', ('blues',), False)
    """
    root = disk.existing_folder(data_folder)
    items, official = read_gtzan(root, lists, Path(out) / "lists")
    return prep.prepare_items(
        GTZAN,
        root,
        out,
        items,
        counts=COUNTS,
        allow_missing=allow_missing,
        folders=[disk.locate(root, "GTZAN", "blues", PLACES)],
        facts={"official_lists": official},
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/nowhere/GTZAN", "--out", "manifests"])
    2
    """
    parser = command.make_parser("gtzan", __doc__, allow_missing=True)
    parser.add_argument("--lists", help="folder with the three lists, if not with the data")
    return command.answer(prepare_gtzan, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
