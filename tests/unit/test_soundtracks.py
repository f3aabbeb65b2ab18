"""Soundtracks from an archive in place of Debian's: `apt-get` and `dpkg-deb` are scripts."""

import csv
import os
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

from speechbrain_music.data_prep import soundtracks
from speechbrain_music.data_prep.files import PreparationError
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.soundtracks import read_copyright

SOUNDTRACKS = DATA_SETS["soundtracks"]

PACKAGES = {
    "gone-music": ("train",),
    "table-music": ("train",),
    "songs": ("valid", "CC-BY-SA-3.0", "A. Band"),
    "zipped-music": ("test", "GPL-2+", "A Team | Friends"),
}
APT = """#!/bin/sh
[ "$1 $2" = "-q download" ] || exit 1
[ -e "$ARCHIVE/$3_1.deb" ] || { echo "E: Unable to locate package $3" >&2; exit 100; }
echo "$3" >> "$ARCHIVE/fetched"
cp "$ARCHIVE/$3_1.deb" .
"""
DPKG = """#!/bin/sh
mkdir "$3" && tar -xf "$2" -C "$3"
"""
TABLE = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2001 The Team
License: GPL-2+

Files: data/music/hymn*.ogg
 data/music/other.ogg
Copyright: 2002 A. Composer
           2003 B. Composer
License: CC-BY-SA-3.0
 The text.

Files: debian/*
Copyright: 2004 A Packager
License: MIT
"""


def sound(path, seconds, level=0.1, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.random.default_rng(seed).uniform(-1, 1, (int(8000 * seconds), 2))
    soundfile.write(path, wave, 8000)
    return wave


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive of three packages, and commands that fetch and unpack them."""
    made, commands = tmp_path / "made", tmp_path / "commands"
    table = made / "table-music/usr/share/games/table/music"
    sound(table / "hymn one.ogg", 12)
    sound(table / "march.ogg", 11, seed=1)
    sound(table / "click.ogg", 1)
    sound(table.with_name("Sounds") / "long effect.ogg", 20, seed=5)
    (table / "link.ogg").symlink_to("march.ogg")
    song = made / "songs/usr/share/games/fof/my song"
    sound(song / "song.ogg", 11, level=0.8, seed=2)
    sound(song / "guitar.ogg", 12, level=0.8, seed=3)
    zipped = made / "zipped-music/usr/share/games/zipped"
    sound(made / "inside.ogg", 13)
    zipped.mkdir(parents=True)
    with zipfile.ZipFile(zipped / "data.pk3", "w") as content:
        content.write(made / "inside.ogg", "../../music/inside.ogg")
    for package in ("table-music", "songs", "zipped-music"):
        doc = made / package / "usr/share/doc" / package
        doc.mkdir(parents=True)
        (doc / "copyright").write_text(TABLE if package == "table-music" else "GPL and so on")
        with tarfile.open(tmp_path / f"{package}_1.deb", "w") as tar:
            tar.add(made / package / "usr", "usr")
    commands.mkdir()
    for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ARCHIVE", str(tmp_path))
    monkeypatch.setattr(soundtracks, "PACKAGES", PACKAGES)
    return tmp_path


def rows(out, split):
    with open(out / f"{split}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_tracks_licences_and_what_is_left_out(archive, caplog):
    root, out = archive / "sound tracks", archive / "out"
    report = SOUNDTRACKS.prepare(root, out)
    assert report["missing_packages"] == ["gone-music"]
    assert "gone-music is left out: the mirror lacks it (E: Unable to locate" in caplog.text
    assert report["reasons"] == {"shorter than 10 s": 1}
    train = rows(out, "train")
    assert [row["wav"].removeprefix("$data_root/") for row in train] == [
        "table-music/table/music/hymn one.ogg",
        "table-music/table/music/march.ogg",
    ]
    assert [row["licence"] for row in train] == ["CC-BY-SA-3.0", "GPL-2+"]
    assert train[0]["holder"] == "2002 A. Composer 2003 B. Composer"
    assert [row["album"] for row in train] == ["table-music"] * 2
    (song,), (inside,) = rows(out, "valid"), rows(out, "test")
    assert song["wav"].endswith("songs/fof/my song/mix.flac") and inside["licence"] == "GPL-2+"
    assert inside["wav"].startswith("$data_root/zipped-music/") and ".." not in inside["wav"]
    assert song["holder"] == "A. Band"
    page = (out / "LICENCES.md").read_text()
    assert "| GPL-2+ | A Team / Friends |" in page
    assert "| table-music/table/music/hymn one.ogg | CC-BY-SA-3.0 | 2002 A. Composer" in page
    assert sorted(path.name for path in root.iterdir()) == ["songs", "table-music", "zipped-music"]


def test_out_is_checked_before_anything_is_fetched(archive):
    (archive / "file").touch()
    with pytest.raises(PreparationError, match="cannot be written"):
        SOUNDTRACKS.prepare(archive / "music", archive / "file/out")
    assert not (archive / "fetched").exists()


def test_stems_are_added(archive):
    SOUNDTRACKS.prepare(archive / "music", archive / "out")
    (path,) = (archive / "music").rglob("mix.flac")
    mix, rate = soundfile.read(path)
    made = archive / "made/songs/usr/share/games/fof/my song"
    song, guitar = (soundfile.read(made / f"{name}.ogg")[0] for name in ("song", "guitar"))
    expected = np.pad(song, ((0, len(guitar) - len(song)), (0, 0))) + guitar
    assert rate == 8000 and np.abs(expected).max() > 1
    np.testing.assert_allclose(mix, expected / np.abs(expected).max(), atol=1e-4)
    assert not list(path.parent.glob("*.ogg"))


def test_a_killed_command_is_continued(archive, monkeypatch):
    root = archive / "music"
    SOUNDTRACKS.prepare(archive / "undisturbed", archive / "whole")
    whole = {p.name: p.read_bytes() for p in (archive / "whole").glob("*.csv")}
    (archive / "fetched").unlink()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(soundtracks, "_add_stems", die)  # in the second package
        with pytest.raises(KeyboardInterrupt):
            SOUNDTRACKS.prepare(root, archive / "out")
    assert (root / "table-music").is_dir() and not (root / "songs").exists()
    (root / ".fetching_abcdefgh").mkdir()  # as SIGKILL leaves it
    SOUNDTRACKS.prepare(root, archive / "out")
    assert whole == {p.name: p.read_bytes() for p in (archive / "out").glob("*.csv")}
    assert (archive / "fetched").read_text().split().count("table-music") == 1
    assert not list(root.glob(".fetching*"))
    tracks = SOUNDTRACKS.prepare(root, archive / "by_track", split="track")
    assert tracks["settings"] == {"split": "track"}


def test_failed_download_is_no_missing_package(archive):
    apt = archive / "commands/apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Could not resolve host: deb.debian.org' >&2; exit 100\n")
    with pytest.raises(PreparationError, match="fetch gone-music .*resolve host.*same command"):
        SOUNDTRACKS.prepare(archive / "music", archive / "out")


def test_refused_preparation_keeps_the_licences(archive):
    SOUNDTRACKS.prepare(archive / "music", archive / "out")
    before = (archive / "out/LICENCES.md").read_bytes()
    (archive / "other").mkdir()
    (archive / "table-music_1.deb").rename(archive / "other/table-music_1.deb")
    with pytest.raises(PreparationError, match="were prepared from"):
        SOUNDTRACKS.prepare(archive / "other", archive / "out")
    assert (archive / "out/LICENCES.md").read_bytes() == before


def test_without_apt_own_packages_are_used(archive, monkeypatch, caplog):
    (archive / "music").mkdir()
    monkeypatch.setattr(soundtracks.shutil, "which", lambda name: None)
    with pytest.raises(PreparationError, match="none of the packages can be fetched: .*songs"):
        SOUNDTRACKS.prepare(archive / "music", archive / "out")
    (archive / "songs_1.deb").rename(archive / "music" / "songs_1.deb")
    report = SOUNDTRACKS.prepare(archive / "music", archive / "out")
    assert report["splits"]["valid"]["files"] == 1 and len(report["missing_packages"]) == 3
    assert (archive / "music" / "songs_1.deb").exists()
    assert "zipped-music is left out: apt-get is not there; download it" in caplog.text


def rebuild(archive, package):
    with tarfile.open(archive / f"{package}_1.deb", "w") as tar:
        tar.add(archive / "made" / package / "usr", "usr")


@pytest.mark.parametrize("damage", ["archive", "zip", "rate", "channels", "no audio"])
def test_damaged_package_is_one_sentence(damage, archive):
    package = "zipped-music" if damage == "zip" else "songs"
    song = archive / "made/songs/usr/share/games/fof/my song/song.ogg"
    if damage == "zip":
        (archive / "made/zipped-music/usr/share/games/zipped/data.pk3").write_bytes(b"no zip")
    elif damage in ("rate", "channels"):
        rate, channels = (16000, 2) if damage == "rate" else (8000, 1)
        soundfile.write(song, 0.1 * np.ones((rate, channels)), rate)
    else:
        song.write_bytes(b"no audio")
    rebuild(archive, package)
    if damage == "archive":
        (archive / "songs_1.deb").write_bytes(b"no archive")
    with pytest.raises(PreparationError, match=f"{package}_1.deb cannot be unpacked .*delete the"):
        SOUNDTRACKS.prepare(archive / "music", archive / "out")
    assert not (archive / "music" / package).exists()


def test_empty_folders_are_filled_and_a_whole_corpus_is_not_locked(archive, monkeypatch):
    monkeypatch.setattr(soundtracks, "PACKAGES", {k: PACKAGES[k] for k in ("songs", "table-music")})
    (archive / "music/songs").mkdir(parents=True)
    SOUNDTRACKS.prepare(archive / "music", archive / "out")
    assert list((archive / "music/songs").rglob("mix.flac"))

    def lock(*_):
        raise AssertionError("a read-only folder cannot be locked")

    monkeypatch.setattr(soundtracks, "locked_folder", lock)
    assert SOUNDTRACKS.prepare(archive / "music", archive / "out")["missing_packages"] == []


def test_copyright_files():
    assert [paragraph[1] for paragraph in read_copyright(TABLE)] == [
        "GPL-2+",
        "CC-BY-SA-3.0",
        "MIT",
    ]
    assert read_copyright("It was downloaded from\n\nCopyright: somebody") == []
