"""Copies and links of recordings: found, and on one side of a split."""

import os
import shutil

import pytest
from small_trees import SOUNDS, prepare, refused

from speechbrain_music.data_prep.files import equal_files
from speechbrain_music.data_prep.registry import DATA_SETS

LABELLED = DATA_SETS["labelled_folder"]


def test_equal_files_are_found_by_their_bytes(tmp_path):
    head = b"x" * 5000 + b"middle" + b"y" * 5000
    contents = {"a": head, "b": b"short", "c": head, "d": head[:-1] + b"z", "e": b"", "f": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.symlink(tmp_path / "b", tmp_path / "link")
    found = equal_files(tmp_path, ["link", *contents, "missing"])
    assert found == {
        **{name: name for name in ("link", "a", "d", "e", "missing")},
        **{"b": "link", "c": "a", "f": "e"},
    }


def copy_second(root, name):
    """The second recording of a data set becomes a copy of its first."""
    first, second = (root / path for path in SOUNDS[name][:2])
    shutil.copyfile(first, second)
    return second.relative_to(root).as_posix()


@pytest.mark.parametrize(
    "name, options",
    [("music4all", {}), ("fma", {"split": "artist"}), ("fma", {"split": "official"})],
)
def test_copies_are_used_once_or_reported(name, options, tree, out):
    root = tree(name)
    second = copy_second(root, name)
    report = prepare(name, root, out, **options)
    if options == {"split": "official"}:  # the published split stays as it is
        assert report["skipped"] == 0 and report["deviations"][0].endswith(f"{second} (valid)")
        assert report["deviations"][0].startswith("1 file(s) have a copy in another split, for exa")
    else:
        assert report["examples"] == {second: "a copy of another file"}
        assert not any("copy" in text for text in report["deviations"])


@pytest.mark.parametrize("make", [shutil.copyfile, os.symlink])
def test_a_table_with_one_recording_in_two_splits(make, tree, out):
    """A link to the same file is refused; a copy is reported, for a user's split stays as it is."""
    root = tree("music4all")
    first, second = (root / path for path in SOUNDS["music4all"][:2])
    second.unlink()
    make(first, second)
    table = "file,split,tag\naudios/a.mp3,train,x\naudios/b.mp3,test,x\naudios/c.mp3,valid,x\n"
    (root / "labels.csv").write_text(table)
    what = "1 file(s) have a copy in another split, for example audios/a.mp3 (train) and audios/b"
    if make is os.symlink:
        with refused(what):
            LABELLED.prepare(root, out, labels=["tag"])
    else:
        assert LABELLED.prepare(root, out, labels=["tag"])["deviations"][0].startswith(what)
