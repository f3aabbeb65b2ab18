"""Embeddings of a collection: kills, a full disk, damaged stores."""

import os
import pickle
import resource
import shutil
import signal
import sys
from functools import partial
from itertools import count

import numpy as np
import pytest
import soundfile
from forked import in_child

from speechbrain_music.dataio.audio import AudioError
from speechbrain_music.inference.embeddings import Embeddings, read_embeddings, write_embeddings
from speechbrain_music.inference.encoder import Embedding
from speechbrain_music.inference.store import embed_collection, open_store
from speechbrain_music.utils.errors import UserError

SETTINGS = {"model": "f0", "source": "m", "pool": "mean", "layers": 2, "chunk": 30, "overlap": 0}
FILE_EVENTS = "open os.mkdir os.remove os.rename os.rmdir os.link".split()


class FakeEncoder:
    """Vectors that depend on the path only, without a model."""

    fingerprint = "f0"

    def __init__(self, dim=5):
        self.dim, self.encoded = dim, []

    def choose_layers(self, layers, pool):
        return [range(3)[layers]], True

    def encode_files(self, paths, pool, **options):
        for path in paths:
            self.encoded.append(path)
            if "bad" in path:
                yield path, AudioError(f"{path}: is not readable.")
                continue
            rng = np.random.default_rng(len(path))
            shape = (3, self.dim) if pool == "none" else self.dim
            yield path, Embedding(rng.normal(size=shape).astype("f4"), 3)


@pytest.fixture
def songs(tmp_path):
    names = ("1.wav", "bad.wav", "1234.wav", "not \udcff UTF-8.wav")
    paths = [f"{tmp_path}/{name}" for name in names]
    for path in paths:
        with open(os.fsencode(path), "wb") as file:
            soundfile.write(file, np.zeros(480), 24000, format="WAV")
    return paths


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def reopen(folder):
    with open_store(folder, SETTINGS, []):
        pass


def killed_at(event_number, job):
    """Run a job in a process that is killed at its n-th access to files."""

    def child():
        events = count(1)

        def hook(event, args):
            if event in FILE_EVENTS and next(events) == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        job()

    return in_child(child) == -signal.SIGKILL


@pytest.mark.parametrize("name, pool", [("a.npz", "mean"), ("folder", "none")])
def test_killed_run_is_resumed(name, pool, songs, tmp_path):
    whole = tmp_path / "whole" / name
    embed_collection(FakeEncoder(), "m", songs, whole, pool=pool)
    expected, reused, number = content(whole.parent), 0, 0
    killed = True
    while killed:
        number += 5
        out, encoder = tmp_path / f"{number}" / name, FakeEncoder()
        embed = partial(embed_collection, encoder, "m", songs, out, pool=pool)
        killed = killed_at(number, embed)
        assert list(embed()) == [songs[1]]
        assert not out.with_name(f"{name}.partial").exists()
        reused = max(reused, len(songs) - len(encoder.encoded))
        found = content(out.parent)
        assert {name: found[name] for name in found if ".partial" not in name} == expected, number
    assert number > 30 and reused == len(songs) - 1  # the unreadable file is tried again


def test_stored_files_are_reused_unless_changed(songs, tmp_path, capsys):
    good = [path for path in songs if "bad" not in path]
    vectors = np.arange(6, dtype="f4").reshape(3, 2)
    with open_store(tmp_path / "a", SETTINGS, good) as store:
        for path, vector in zip(good, vectors, strict=True):
            store.add(path, 0.02, vector)

        def second_process():
            with pytest.raises(UserError, match="another process uses .*a: wait for it"):
                reopen(tmp_path / "a")

        assert in_child(second_process) == 0
    soundfile.write(good[1], np.zeros(960), 24000)
    os.remove(good[2])
    with open_store(tmp_path / "a", SETTINGS | {"source": "moved"}, good) as store:
        assert list(store.rows) == good[:1]
        _, duration, npy = store.rows[good[0]]
        np.testing.assert_array_equal(np.load(npy), vectors[0])
        assert duration == 0.02
    changes = {"model": "f1", "layers": "all", "pool": "mean_std", "chunk": None, "overlap": 1}
    for key, value in changes.items():
        with open_store(tmp_path / "a", SETTINGS | {key: value}, good) as store:
            assert not store.rows
    with open_store(tmp_path / "empty", SETTINGS, good):
        pass
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("name, pool", [("a.npz", "mean"), ("a.npy", "mean"), ("a", "none")])
def test_finished_embeddings_are_reused_and_not_lost(name, pool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [f"{n * '1'}.wav" for n in range(1, 5)]
    for path in paths:
        soundfile.write(path, np.zeros(480), 24000)
    embed = partial(embed_collection, source="m", out=name, pool=pool)
    embed(FakeEncoder(), paths=paths[:3])
    before = content(tmp_path)
    for files, options, fault in (
        (paths[:1], {}, "2 of its 3 files are not among the 1 given"),
        (paths, {"chunk": 9}, "settings are others \\(chunk 30.0, now 9\\)"),
    ):
        with pytest.raises(UserError, match=f"{fault}: .*--overwrite"):
            embed(FakeEncoder(), paths=files, **options)
    assert content(tmp_path) == before
    soundfile.write(paths[1], np.zeros(960), 24000)
    encoder, whole = FakeEncoder(), FakeEncoder()
    embed(encoder, paths=[os.path.abspath(path) for path in paths])
    assert [os.path.basename(path) for path in encoder.encoded] == [paths[1], paths[3]]
    embed(whole, paths=paths, overwrite=True, chunk=9)
    assert whole.encoded == paths
    embed(FakeEncoder(), paths=paths[:1], overwrite=True, chunk=9)
    shutil.rmtree(name) if pool == "none" else os.remove(name)
    embed(FakeEncoder(), paths=paths[:3])
    expected = content(tmp_path)
    encoder = FakeEncoder()
    embed(encoder, paths=paths[:3])
    assert content(tmp_path) == expected and not encoder.encoded


def test_other_files_at_out_are_refused(tmp_path):
    path = f"{tmp_path}/x.wav"
    soundfile.write(path, np.zeros(480), 24000)
    embed_collection(FakeEncoder(), "m", [path], tmp_path / "a", pool="none")
    (tmp_path / "a/notes.txt").touch()
    (tmp_path / "a.npz").write_text("do re mi")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    before = content(tmp_path)
    for name, pool, fault in (
        ("a", "none", "notes.txt would be lost"),
        ("link", "none", "link already exists"),
        ("a.npz", "mean", "holds no embeddings .*--overwrite"),
    ):
        with pytest.raises(UserError, match=fault):
            embed_collection(FakeEncoder(), "m", [path], tmp_path / name, pool=pool)
    assert content(tmp_path) == before


def test_links_in_a_store_are_refused(songs, tmp_path):
    with open_store(tmp_path / "a", SETTINGS, []) as store:
        store.add(songs[0], 1.0, np.zeros(2))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (npy,) = (tmp_path / "a").iterdir()
    (tmp_path / "c" / npy.name).symlink_to(npy)
    for folder in "bc":
        with pytest.raises(UserError, match=f"{folder} is not a folder of unfinished embeddings"):
            reopen(tmp_path / folder)
    assert npy.is_file()


def test_another_folder_is_refused_and_kept(tmp_path):
    notes = tmp_path / "b/notes.txt"  # another program's folder and file
    notes.parent.mkdir()
    notes.write_text("do re mi")
    for path in (notes.parent, notes):
        with pytest.raises(UserError, match="is not a folder of unfinished embeddings"):
            reopen(path)
    assert notes.read_text() == "do re mi"


@pytest.mark.parametrize("change", [b"", b"do re mi", pickle.dumps([1]), 100, -1])
def test_damaged_file_is_embedded_again(change, songs, tmp_path):
    embed_collection(FakeEncoder(), "m", songs, tmp_path / "whole.npz")
    whole = read_embeddings(tmp_path / "whole.npz")
    good = [path for path in songs if "bad" not in path]
    settings = SETTINGS | {"chunk": 30.0, "overlap": 0.0}
    with open_store(tmp_path / "a.npz.partial", settings, songs) as store:
        for row in zip(good, whole.durations.tolist(), whole.values, strict=True):
            store.add(*row)
        _, _, npy = store.rows[good[1]]
    npy.write_bytes(npy.read_bytes()[:change] if isinstance(change, int) else change)
    encoder = FakeEncoder()
    embed_collection(encoder, "m", songs, tmp_path / "a.npz")
    assert encoder.encoded == [songs[1], good[1]]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_stored_arrays_of_another_shape_are_refused(songs, tmp_path):
    settings = SETTINGS | {"chunk": 30.0, "overlap": 0.0}
    with open_store(tmp_path / "a.npz.partial", settings, songs) as store:
        store.add(songs[0], 0.02, np.zeros(7))
    with pytest.raises(UserError, match="a.npz.partial .* is damaged .*: delete it to start again"):
        embed_collection(FakeEncoder(), "m", songs, tmp_path / "a.npz")


SPOILED = {
    "text": b"do re mi",
    "empty": b"",
    "pickle": pickle.dumps([1]),
    "half": 0.5,
    "settings": {"settings": "[" * 10**5},
    "no settings": {"settings": "{}"},
    "number": {"settings": "3"},
    "one path": {"paths": np.array("a")},
    "text for numbers": {"embeddings": np.array([["a"]])},
    "text for seconds": {"durations": np.array(["a"])},
    "objects": {"paths": np.array([{}], dtype=object)},
    "no rows": {
        "paths": np.zeros(0, "U1"),
        "durations": np.zeros(0),
        "embeddings": np.zeros((0, 2)),
    },
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_damaged_embeddings_are_refused(change, tmp_path):
    path = tmp_path / "a.npz"
    write_embeddings(path, Embeddings(["a"], np.ones(1), np.ones((1, 2), "f4"), SETTINGS))
    with np.load(path) as arrays:
        arrays = dict(arrays)
    if isinstance(change, dict):
        np.savez(path, **arrays | change)
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if change == 0.5 else change)
    with pytest.raises(UserError, match="a.npz .*embed"):
        read_embeddings(path)


@pytest.mark.parametrize("limit, again", [(100_000, 4), (500_000, 1)])
def test_full_disk_keeps_finished_files(limit, again, songs, tmp_path):
    whole, out = tmp_path / "whole.npz", tmp_path / "a.npz"
    embed_collection(FakeEncoder(50_000), "m", songs, whole)

    def with_full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(OSError):
            embed_collection(FakeEncoder(50_000), "m", songs, out)

    assert in_child(with_full_disk) == 0 and not out.exists()
    encoder = FakeEncoder(50_000)
    embed_collection(encoder, "m", songs, out)
    assert len(encoder.encoded) == again  # the unreadable file is tried again
    assert out.read_bytes() == whole.read_bytes()
    assert read_embeddings(out).paths[-1].endswith("not \\xff UTF-8.wav")
