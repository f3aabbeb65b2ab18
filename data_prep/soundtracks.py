"""Fetch and read soundtracks of free games, from Debian's archive."""

import logging
import os
import re
import shutil
import subprocess
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

import numpy as np
import soundfile
import yaml

from speechbrain_music.data_prep import data_set, files
from speechbrain_music.utils.atomic import locked_folder, sync_folder

logger = logging.getLogger(__name__)

PACKAGES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
NO_MUSIC = {"sounds", "speech"}  # folders of effects
# What apt-get says of a package that the mirror lacks; anything else is a failure.
LACKED = ("Unable to locate package", "no installation candidate", "find a source to download")
STEMS = ("song", "guitar", "rhythm")  # one song in three files
COPYRIGHT = "copyright"
FETCHING = ".fetching_"


def fetch(root):
    """Fetch and unpack what is missing; return the packages that the mirror lacks.

    Raises a PreparationError if one cannot be fetched for another reason, such as the network.
    """
    wanted, missing = [name for name in PACKAGES if not any((root / name).glob("*"))], []
    with locked_folder(root, "fetches into") if wanted else nullcontext():
        for rest in root.glob(f"{FETCHING}????????"):  # of a run that was killed
            shutil.rmtree(rest, ignore_errors=True)
        for package in wanted:
            with TemporaryDirectory(dir=root, prefix=FETCHING) as folder:
                archive = next(root.glob(f"{package}_*.deb"), None)
                archive = archive or _download(package, Path(folder))
                if archive:
                    _unpack(archive, Path(folder, "unpacked"), Path(folder, package))
                    sync_folder(Path(folder, package))
                    Path(folder, package).rename(root / package)
                else:
                    missing.append(package)
    return missing


def _download(package, folder):
    """The archive of a package; None if the mirror lacks it, or without apt."""
    if not shutil.which("apt-get"):
        where = f"download it from a Debian mirror into {folder.parent}"
        logger.warning("%s is left out: apt-get is not there; %s, or go on without", package, where)
        return None
    logger.info("fetching %s", package)
    command = ["apt-get", "-q", "download", package]
    english = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(command, cwd=folder, env=english, capture_output=True, text=True)
    archive = next(folder.glob("*.deb"), None)
    if done.returncode == 0 and archive:
        return archive
    reason = (done.stderr.strip().splitlines() or ["no archive was written"])[-1]
    if not any(words in done.stderr for words in LACKED):
        raise files.PreparationError(
            f"apt-get cannot fetch {package} ({reason}); check the network and the disk, then run "
            "the same command again."
        )
    logger.warning("%s is left out: the mirror lacks it (%s)", package, reason)
    return None


def _unpack(archive, unpacked, out):
    """Move a package's audio and copyright file to the folder `out`; add stems."""
    try:
        command = ["dpkg-deb", "-x", archive, unpacked]
        subprocess.run(command, check=True, capture_output=True, text=True)
        # Zips, whose names `zipfile` keeps below the folder.
        for path in [path for path in unpacked.rglob("*") if path.suffix.lower() == ".pk3"]:
            with ZipFile(path) as content:
                content.extractall(path.with_suffix(""))
        _move(unpacked, out)
        for song in sorted(out.rglob(f"{STEMS[0]}.ogg")):
            _add_stems([song, *(song.with_stem(name) for name in STEMS[1:])])
    # zipfile raises RuntimeError for an encrypted file, soundfile for a damaged one.
    except (OSError, subprocess.CalledProcessError, BadZipFile, RuntimeError, ValueError) as error:
        reason = " ".join((getattr(error, "stderr", "") or str(error)).split())
        raise files.PreparationError(
            f"{archive.name} cannot be unpacked ({reason}); install dpkg, or delete the archive "
            "and run the same command again."
        ) from error


def _move(unpacked, out):
    out.mkdir()
    for path in sorted(unpacked.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        parts = path.relative_to(unpacked).parts
        if parts[:3] == ("usr", "share", "doc") and path.name == COPYRIGHT:
            path.rename(out / COPYRIGHT)
        elif path.suffix.lower() in files.EXTENSIONS and not NO_MUSIC & {*map(str.lower, parts)}:
            target = out.joinpath(*parts[3:])  # without usr/share/games
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def _add_stems(paths):
    """Replace stems by their sum, as loud as full scale allows."""
    paths = [path for path in paths if path.is_file()]
    if len(paths) > 1:
        waves, rates = zip(*(soundfile.read(p, always_2d=True) for p in paths), strict=True)
        if len({(rate, wave.shape[1]) for wave, rate in zip(waves, rates, strict=True)}) > 1:
            raise ValueError(f"the stems in {paths[0].parent.name} differ in rate or channels")
        longest = max(map(len, waves))
        mix = sum(np.pad(wave, ((0, longest - len(wave)), (0, 0))) for wave in waves)
        peak = max(1.0, np.abs(mix).max())
        soundfile.write(paths[0].with_name("mix.flac"), mix / peak, rates[0], subtype="PCM_16")
        for path in paths:
            path.unlink()


def read_copyright(text):
    """(patterns, licence, holder) of each paragraph about files; [] if it is not such a table.

    The format is Debian's machine-readable copyright format 1.0 (DEP-5).
    """
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields = dict(re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        if {"Files", "License"} <= fields.keys():
            holder = " ".join(fields.get("Copyright", "").split())
            licence = fields["License"].strip().splitlines()
            found.append((fields["Files"].split(), licence[0] if licence else "not stated", holder))
    return found


def _of_file(name, table):
    """Licence and holder of a file: of the last paragraph that matches, as the format defines.

    A package puts files elsewhere than its source, so the last two parts of a path are compared.
    """
    licence = holder = "not stated"
    for patterns, named, owner in table:
        for pattern in patterns:
            tail = pattern if pattern == "*" else "*" + "/".join(pattern.split("/")[-2:])
            if fnmatch(f"/{name}", tail) and not pattern.startswith("debian/"):
                licence, holder = named, owner
    return licence, holder


def read_soundtracks(data_folder, out=None, split="album"):
    """Tracks with their album (the package), licence and holder."""
    missing = fetch(data_folder)
    if len(missing) == len(PACKAGES):
        raise files.PreparationError(
            f"none of the packages can be fetched: run `apt-get update` as root, or download them "
            f"from a Debian mirror into {data_folder}: {', '.join(PACKAGES)}."
        )
    items = []
    for package, (side, *stated) in PACKAGES.items():
        if package in missing:
            continue
        path = data_folder / package / COPYRIGHT
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        table = [(["*"], *stated)] if stated else read_copyright(text)
        for name in files.find_audio(data_folder, package)[0]:
            licence, holder = _of_file(name, table)
            if split == "track":
                digit = (data_set.sha1(name) >> 152) % 10  # of the first byte
                side = {0: "test", 1: "valid"}.get(digit, "train")
            items.append(data_set.Item(name, name, side, (package, licence, holder)))
    lines = [[x.replace("|", "/") for x in (item.wav, *item.labels[1:])] for item in items]
    head = "# Licences, as the packages' copyright files give them\n\n| file | licence | holder |\n"
    page = head + "|---|---|---|\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    extra, texts = {"missing_packages": missing}, {"LICENCES.md": page}
    return data_set.Annotations(items, {"split": split}, extra=extra, texts=texts)
