"""Corpora on disk: equal bytes for a seed, continued after a kill, never overwritten; timeouts."""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
from stuck import die, hang

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica import __main__ as command
from speechbrain_music.data_prep.replica import storage
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.storage import render_all, write_audio
from speechbrain_music.data_prep.replica.synth import RATE, SOUNDFONT, load_bank
from speechbrain_music.data_prep.replica.trees import make_replica
from speechbrain_music.utils.errors import UserError

SHORT = CorpusPlan(shortest=3.0, longest=6.0)
HOURS = 0.004  # three or four tracks of SHORT


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha1(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder of a corpus; not to be written to."""
    return make_corpus(tmp_path_factory.mktemp("corpus") / "whole", HOURS, SHORT, 2).parent


def test_longer_corpus_begins_with_shorter_one_on_any_number_of_processes(corpus, tmp_path):
    make_corpus(tmp_path, HOURS / 2, SHORT, workers=1)
    before = digests(tmp_path)
    make_corpus(tmp_path, HOURS, SHORT, workers=1)
    assert digests(tmp_path) == digests(corpus)
    assert len(digests(corpus)) > len(before) and len(digests(corpus)) >= 8
    assert before.items() - digests(corpus).items() == {
        (name, before[name]) for name in ("corpus.json", "tracks.csv")
    }


def test_manifest_agrees_with_files(corpus):
    table = read_manifest(corpus / "tracks.csv", corpus)
    assert set(table["genre"]) <= set(GENRES) and table["ID"].is_unique
    for row in table.itertuples():
        info = soundfile.info(row.wav)
        assert (info.samplerate, info.frames, info.channels) == (RATE, row.stop, 1)


def test_two_runs_begin_at_once(corpus, tmp_path):
    """What the other has written so far is no reason to refuse the folder."""
    out = tmp_path / "corpus"
    out.mkdir()
    (out / ".corpus.json.tmp").touch()
    make_corpus(out, HOURS, SHORT, workers=1)
    assert digests(out) == digests(corpus)


def test_killed_run_is_continued(corpus, tmp_path):
    code = (
        "from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus\n"
        "if __name__ == '__main__':\n"
        f"    make_corpus({str(tmp_path / 'killed')!r}, {HOURS}, {SHORT!r}, workers=1)\n"
    )
    script = tmp_path / "make.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script], start_new_session=True)
    while not list(tmp_path.glob("killed/*/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "tracks.csv").exists()
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("killed/*/*.json")}
    make_corpus(tmp_path / "killed", HOURS, SHORT, workers=1)
    assert digests(tmp_path / "killed") == digests(corpus)
    assert all(file.stat().st_mtime_ns == at for file, at in done.items())


@pytest.mark.parametrize(
    ("hours", "plan", "message"),
    [
        (0, SHORT, "hours is 0"),
        (float("nan"), SHORT, "hours is nan"),
        (1, CorpusPlan(shortest=9.0, longest=3.0), "tracks of 9 to 3 seconds"),
    ],
)
def test_bad_options_leave_nothing(hours, plan, message, tmp_path):
    with pytest.raises(UserError, match=message):
        make_corpus(tmp_path / "corpus", hours, plan)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "file, message", [("/nowhere/bank.sf2", "cannot be read"), (__file__, "is no SF2 sound bank")]
)
def test_bad_sound_banks(file, message, tmp_path, monkeypatch):
    monkeypatch.setenv(SOUNDFONT, file)
    with pytest.raises(UserError, match=f"{message}.*set {SOUNDFONT} to another file"):
        make_corpus(tmp_path / "corpus", 1, SHORT)
    assert not any(tmp_path.iterdir())


def test_another_bank_plays_the_same_notes(tmp_path, monkeypatch):
    """A copy of the bank with other bytes at its end is another bank, whose levels are unknown."""
    (sounds, truth), content = SHORT.track(0), load_bank().content
    monkeypatch.setenv(SOUNDFONT, str(tmp_path / "copy.sf2"))
    (tmp_path / "copy.sf2").write_bytes(content + bytes(2))
    assert load_bank().loudness == {} and load_bank().unsafe
    other, same = SHORT.track(0)
    assert same == truth and len(other) == len(sounds) and not np.array_equal(other, sounds)


def test_other_folder_content_is_refused(corpus, tmp_path):
    before = digests(corpus)
    with pytest.raises(UserError, match="another seed"):
        make_corpus(corpus, HOURS, CorpusPlan(seed=5, shortest=3.0, longest=6.0))
    with pytest.raises(UserError, match="is not empty"):
        make_corpus(corpus.parent, HOURS, SHORT)
    assert digests(corpus) == before
    (tmp_path / "note.txt").touch()
    with pytest.raises(NotADirectoryError):
        make_corpus(tmp_path / "note.txt" / "below", HOURS, SHORT)


def test_full_disk_is_reported_and_the_corpus_continued(corpus, tmp_path):
    """A limit on the size of files, which processes inherit, simulates a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            make_corpus(tmp_path, HOURS / 8, SHORT, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.rglob("*.tmp"))
    table = read_manifest(make_corpus(tmp_path, HOURS / 8, SHORT, workers=1), tmp_path)
    for name in table["ID"]:
        assert (tmp_path / f"{name}.wav").read_bytes() == (corpus / f"{name}.wav").read_bytes()


def test_silence_is_refused(tmp_path):
    with pytest.raises(UserError, match="a.wav is silent; use another sound bank"):
        write_audio(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
    assert not any(tmp_path.iterdir())


def test_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "make_corpus", made := Mock())
    command.main("corpus --hours 3 --out x --seed 5 --held_out --workers 1".split())
    plan = CorpusPlan(seed=5, held_out=True)
    made.assert_called_once_with(plan=plan, hours=3.0, out="x", workers=1)
    out = tmp_path / "replica"
    monkeypatch.setattr(storage, "render_all", Mock())
    command.main(["music4all", "--out", str(out), "--scale", "0.0001"])
    assert {path.name for path in out.iterdir()} == {"audios", "id_information.csv", "replica.json"}
    with pytest.raises(UserError, match="scale is 2.0; it must be above 0 and at most 1"):
        command.main(["gtzan", "--out", str(tmp_path / "a"), "--scale", "2"])
    with pytest.raises(UserError, match="seed is -1; it must be 0 or more"):
        command.main(["gtzan", "--out", str(tmp_path / "a"), "--scale", "0.1", "--seed", "-1"])
    with pytest.raises(UserError, match="There is no replica of 'gztan'; choose one of"):
        make_replica("gztan", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_jobs_that_hang_or_fail():
    for work in (hang, die):
        with pytest.raises(UserError, match="took more than 2 s or its process died .*again"):
            render_all(work, [()] * 3, seconds=2, workers=2)
    with pytest.raises(ZeroDivisionError):  # the job's own error
        render_all(divmod, [(0, 0)], workers=1)
