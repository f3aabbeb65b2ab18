"""Atomic files under faults, folders that change places, locks."""

import multiprocessing
import os

import pytest
from forked import in_child

from speechbrain_music.utils import atomic
from speechbrain_music.utils.atomic import (
    atomic_file,
    locked_folder,
    one_at_a_time,
    replace_folder,
    write_together,
)
from speechbrain_music.utils.errors import UserError


def contents(folder):
    """Everything below a folder: path -> text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("[!.]*")
        if path.is_file()
    }


def kill(*_, **__):
    raise KeyboardInterrupt


def disk_full(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.fixture(params=["first", "again"])
def before(request, tmp_path):
    """The content of a folder before the write: nothing, or an older version."""
    if request.param == "again":
        (tmp_path / "a.txt").write_text("old")
        (tmp_path / "b.txt").write_text("old too")
    return contents(tmp_path)


@pytest.mark.parametrize("fault", [kill, disk_full])
@pytest.mark.parametrize("where", ["block", "fsync", "replace"])
def test_interrupted_file_is_old_or_new(tmp_path, before, monkeypatch, where, fault):
    if where != "block":
        monkeypatch.setattr(atomic.os, where, fault)
    with pytest.raises((KeyboardInterrupt, OSError)):
        with atomic_file(tmp_path / "a.txt") as file:
            file.write("half")
            file.flush()
            assert contents(tmp_path).get("a.txt") == before.get("a.txt")
            if where == "block":
                fault()
    assert contents(tmp_path) == before
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
    for name in ("a.txt", "folders/made/a.txt"):
        with atomic_file(tmp_path / name) as file:
            file.write("new")
    assert contents(tmp_path) == before | {"a.txt": "new", "folders/made/a.txt": "new"}


@pytest.mark.parametrize("bad", ["a.txt", "b.txt"])
def test_write_together_is_all_or_nothing(tmp_path, before, bad):
    texts = {"a.txt": "new", "b.txt": "new"} | {bad: None}  # None cannot be written
    with pytest.raises(AttributeError):
        write_together({tmp_path / name: text for name, text in texts.items()})
    assert contents(tmp_path) == before


def test_write_together_keeps_order(tmp_path):
    (tmp_path / "a.txt").mkdir()  # in the way of the first one
    with pytest.raises(OSError):
        write_together({tmp_path / "a.txt": "data", tmp_path / "done.txt": "all is there"})
    assert contents(tmp_path) == {}
    write_together({tmp_path / "b.txt": "data", tmp_path / "done.txt": "all is there"})
    assert contents(tmp_path) == {"b.txt": "data", "done.txt": "all is there"}


@pytest.mark.parametrize("renames_done", [0, 1])
def test_failure_between_two_renames(tmp_path, monkeypatch, renames_done):
    """The new folder, which is whole, is still there."""
    for name in ("out", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    replace, calls = os.replace, []

    def failing(*paths):
        calls.append(paths)
        disk_full() if len(calls) > renames_done else replace(*paths)

    monkeypatch.setattr(atomic.os, "replace", failing)
    with pytest.raises(OSError):
        replace_folder(tmp_path / "new", tmp_path / "out")
    monkeypatch.undo()
    assert contents(tmp_path)["new/a.txt"] == "new"
    replace_folder(tmp_path / "new", tmp_path / "out")
    assert contents(tmp_path) == {"out/a.txt": "new"} and len(list(tmp_path.iterdir())) == 1


# ---- several processes ----


def test_two_processes_write_one_path(tmp_path):
    """Each has a temporary name of its own; both succeed, the last one stays."""

    def write_many():
        for number in range(10):
            with atomic_file(tmp_path / "a.txt") as file:
                file.write("x" * number)

    writers = [multiprocessing.get_context("fork").Process(target=write_many) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt"}


def test_one_at_a_time(tmp_path):
    """Each of three processes reads a number and writes the next; none is lost."""

    def count():
        for _ in range(5):
            with one_at_a_time(number):
                number.write_text(str(int(number.read_text()) + 1))

    (number := tmp_path / "number").write_text("0")
    writers = [multiprocessing.get_context("fork").Process(target=count) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert number.read_text() == "15" and list(tmp_path.iterdir()) == [number]


@pytest.mark.parametrize("name", ["a.txt", "n" * 250])
def test_remains_of_killed_processes_are_removed(tmp_path, name):
    def killed():
        with atomic_file(tmp_path / name) as file:
            file.write("half")
            os._exit(9)

    assert in_child(killed) == 9 == len(list(tmp_path.iterdir())) + 8
    with atomic_file(tmp_path / name) as file:
        file.write("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_locked_folder_refuses_a_second_process(tmp_path):
    def second():
        with locked_folder(tmp_path / "made" / "run", "trains in"):
            pass

    with locked_folder(tmp_path / "made" / "run"):
        with pytest.raises(UserError, match="another process trains in .*run: wait for it"):
            second()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # as a worker: it outlives the lock, and does not have it
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    second()  # released
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    os.close(reader)
    assert in_child(lambda: locked_folder(tmp_path).__enter__() or os._exit(9)) == 9
    with locked_folder(tmp_path):  # of a process that ended without releasing it
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="file.run cannot be written to"),
        locked_folder(tmp_path / "file" / "run"),
    ):
        pass
