"""Read GTZAN: the clips of the fault-filtered lists, which are downloaded if missing."""

import hashlib
import logging
import urllib.request
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from speechbrain_music.data_prep import data_set, files
from speechbrain_music.utils.atomic import write_together

logger = logging.getLogger(__name__)

GENRES = tuple("blues classical country disco hiphop jazz metal pop reggae rock".split())
PLACES = ("genres", "genres_original", "Data/genres_original", "")
NEEDS = [((g, g.capitalize(), f"{g}.*"), PLACES) for g in ("blues", "rock")]
LISTS = "https://raw.githubusercontent.com/coreyker/dnn-mgr/master/gtzan/"
SHA256 = {
    "train": "2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa",
    "valid": "f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956",
    "test": "09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72",
}


def read_gtzan(data_folder, out=None, lists=None):
    """Clips of the three lists, with their genre.

    Lists that are not with the data are downloaded to `out/lists`, unless `lists` names their
    folder. `official_lists` of the report tells whether they are the published ones.
    """
    place = files.locate(data_folder, "GTZAN", *NEEDS)[0]
    audio = data_folder / place
    where = [Path(lists)] if lists else [data_folder, audio.parent, audio]
    items, official = [], True
    for split in data_set.SPLITS:
        name = f"{split}_filtered.txt"
        path = next((folder / name for folder in where if (folder / name).is_file()), None)
        if path is None:
            if lists or out is None:
                raise files.damaged(where[0], f"has no {name}", f"get it from {LISTS}{name}")
            path = _download(split, out / "lists" / name)
        data = path.read_bytes()
        official &= hashlib.sha256(data).hexdigest() == SHA256[split]
        for line in data.decode("utf-8-sig", errors="replace").split():
            clip = PurePosixPath(line.replace("\\", "/"))
            if clip.parent.name not in GENRES:
                what = f"names {line!r}, which is in none of the genres {', '.join(GENRES)}"
                raise files.damaged(path, what, "download the list again")
            wav = PurePosixPath(place, clip.parent.name, f"{clip.stem}.wav").as_posix()
            items.append(data_set.Item(clip.stem, wav, split, (clip.parent.name,)))
    return data_set.Annotations(items, extra={"official_lists": official})


def _download(split, path):
    """Download a list once; one with another checksum is not kept."""
    if not path.is_file():
        url = f"{LISTS}{path.name}"
        logger.info("downloading %s", url)
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                data = response.read()
            if hashlib.sha256(data).hexdigest() != SHA256[split]:
                raise OSError("its sha256 is not that of the published list")
        except (OSError, HTTPException) as error:
            raise files.PreparationError(
                f"{url} could not be downloaded ({error}); put {path.name} into the data folder, "
                "or name its folder with --lists."
            ) from error
        write_together({path: data})
    return path
