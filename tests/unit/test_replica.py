"""The composed corpus: true to its labels, the same each time, and hard to break."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import librosa
import mir_eval
import numpy as np
import pytest
import soundfile
from stuck import hang, hang_once

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica import __main__ as command
from speechbrain_music.data_prep.replica.corpus import CorpusError, CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.genres import GENRES, POOLS, programs_of
from speechbrain_music.data_prep.replica.mortal import StuckError, run_all
from speechbrain_music.data_prep.replica.players import (
    BASS_PATTERNS,
    COMP_PATTERNS,
    DRUM_PATTERNS,
    MELODY_PATTERNS,
    METERS,
    fit,
)
from speechbrain_music.data_prep.replica.synth import DRUMS, RATE, BankError, load_bank
from speechbrain_music.data_prep.replica.theory import MODES, TONICS, Chord

SHORT = CorpusPlan(shortest=3.0, longest=6.0)
HOURS = 0.004  # three or four tracks of SHORT

# Krumhansl and Kessler (1982), as given in Krumhansl, Cognitive Foundations of Musical Pitch.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


@pytest.fixture(scope="module")
def tracks():
    """40 tracks of 20 to 30 s, four a genre."""
    plan = CorpusPlan(seed=7, longest=30.0, per_artist=1)
    return [plan.track(index) for index in range(40)]


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha1(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


# Truth


def test_keys_agree_with_the_notes(tracks):
    """MIREX score of Krumhansl's profiles on the notes of the first key: 0.85 or more."""
    scores = []
    for _, truth in tracks:
        _, end, tonic, mode = truth["keys"][0]
        weights = np.zeros(12)
        for part in truth["instruments"]:
            for start, stop, pitch, _ in part["notes"]:
                if part["program"] != DRUMS and start < end:
                    weights[pitch % 12] += stop - start
        fits = {
            f"{TONICS[t]} {m}": np.corrcoef(np.roll(PROFILES[m], t), weights)[0, 1]
            for t in range(12)
            for m in MODES
        }
        estimate = max(fits, key=fits.get)
        scores.append(mir_eval.key.weighted_score(f"{tonic} {mode}", estimate))
    print(f"key: MIREX score {np.mean(scores):.2f}")
    assert np.mean(scores) >= 0.85


def test_tempo_and_beats_agree_with_the_audio(tracks):
    """librosa's beat tracker: the tempo within 8% on 85% of the tracks, up to a factor of 2, 3 or
    1.5 on 95%; F-measure of the beats, or of every other one, 0.75."""
    exact, related, beats = [], [], []
    for wave, truth in tracks:
        onsets = librosa.onset.onset_strength(y=wave, sr=RATE, hop_length=240)
        tempo, found = librosa.beat.beat_track(
            onset_envelope=onsets, sr=RATE, hop_length=240, units="time"
        )
        ratio = float(np.squeeze(tempo)) / truth["tempo"]
        exact.append(abs(ratio - 1) < 0.08)
        related.append(
            any(abs(ratio / factor - 1) < 0.08 for factor in (1 / 3, 1 / 2, 2 / 3, 1, 1.5, 2, 3))
        )
        true = np.array(truth["beats"])
        beats.append(max(mir_eval.beat.f_measure(b, found) for b in (true, true[::2], true[1::2])))
    print(f"tempo: {np.mean(exact):.0%}, {np.mean(related):.0%}; beats: F {np.mean(beats):.2f}")
    assert np.mean(exact) >= 0.85 and np.mean(related) >= 0.95 and np.mean(beats) >= 0.75


def test_chords_agree_with_the_audio(tracks):
    """Major and minor templates on the chroma of each chord: the right root on 65% of the time,
    root and third on 60% where the chord is a triad or seventh of either kind."""
    names = [f"{tonic}:{quality}" for quality in ("maj", "min") for tonic in TONICS]
    templates = np.array(
        [
            np.isin(np.arange(12), Chord(tonic, quality).pitch_classes)
            for quality in ("maj", "min")
            for tonic in range(12)
        ]
    )
    totals = np.zeros((2, 2))
    for wave, truth in tracks:
        chroma = librosa.feature.chroma_stft(y=wave, sr=RATE, n_fft=8192, hop_length=1200)
        true = [name for *_, name in truth["chords"]]
        found, lengths = [], []
        for start, end, _ in truth["chords"]:
            first = int(start * 20)
            heard = chroma[:, first : max(int(end * 20), first + 1)].mean(1)
            found.append(names[int(np.argmax(templates @ heard))])
            lengths.append(end - start)
        for row, compare in enumerate((mir_eval.chord.root, mir_eval.chord.majmin)):
            right = compare(true, found)  # -1 where it does not apply
            totals[row] += np.dot(right == 1, lengths), np.dot(right >= 0, lengths)
    root, majmin = totals[:, 0] / totals[:, 1]
    print(f"chords: root {root:.0%}, major or minor {majmin:.0%}")
    assert root >= 0.65 and majmin >= 0.6


def test_truth_is_consistent(tracks):
    for wave, truth in tracks:
        seconds = truth["seconds"]
        assert len(wave) == round(seconds * RATE)
        assert 60 <= truth["tempo"] <= 180
        for spans in (truth["chords"], truth["sections"], truth["keys"]):
            starts, ends = [s[0] for s in spans], [s[1] for s in spans]
            assert np.allclose(starts[1:], ends[:-1]) and ends[-1] == pytest.approx(seconds)
        assert set(truth["downbeats"]) <= set(truth["beats"])
        intervals = np.diff(truth["beats"])
        assert np.allclose(intervals, 60 / truth["tempo"])
        assert {len(note) for part in truth["instruments"] for note in part["notes"]} == {4}
        for part in truth["instruments"]:
            notes = np.array(part["notes"])
            assert (notes[:, 0] < notes[:, 1]).all() and notes[:, 1].max() <= seconds + 1e-3
            assert ((notes[:, 3] >= 1) & (notes[:, 3] <= 127)).all()
        assert all(-1 <= truth["mood"][name] <= 1 for name in ("arousal", "valence"))


# Material


def test_about_a_third_of_the_programs_is_held_out():
    known = {program for pool in POOLS for program in programs_of(pool, held_out=False)}
    everything = {program for pool in POOLS for program in programs_of(pool, held_out=True)}
    assert known < everything
    assert 0.25 <= 1 - len(known) / len(everything) <= 0.35


def test_training_tracks_play_no_held_out_program():
    known = {program for pool in POOLS for program in programs_of(pool, held_out=False)}

    def programs(plan):
        return {p for i in range(200) for ps in plan.artist(i).programs.values() for p in ps}

    assert programs(CorpusPlan(per_artist=1)) <= known
    assert not programs(CorpusPlan(per_artist=1, held_out=True)) <= known


def test_an_artist_has_a_style():
    plan = CorpusPlan()
    assert plan.artist(0) == plan.artist(50) != plan.artist(60)
    assert plan.artist(60).genre == plan.artist(0).genre == "blues"


def test_every_weight_names_something_that_exists():
    ways = {"bass": BASS_PATTERNS, "comp": COMP_PATTERNS, "melody": MELODY_PATTERNS}
    for genre in GENRES.values():
        assert set(genre.beats) <= set(DRUM_PATTERNS)
        assert all(set(getattr(genre, part)) <= set(table) for part, table in ways.items())
        assert set(genre.neighbours) <= set(GENRES) and set(genre.meters) <= set(METERS)
        assert all(set(pools) <= set(POOLS) for pools in genre.instruments.values())
        for loops in genre.loops.values():
            for symbol in " ".join(loops).replace("/", " ").split():
                assert len(Chord.parse(symbol, 0).pitch_classes) >= 2
    for table in (*ways.values(), *DRUM_PATTERNS.values()):
        for alternatives in table.values():
            assert {len(fit(p, m)) for p in alternatives for m in METERS.values()} == {16, 12}


# The corpus on disk


def test_same_seed_same_bytes_on_any_number_of_processes(tmp_path):
    for workers in (1, 2):
        make_corpus(tmp_path / str(workers), HOURS, SHORT, workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert len(digests(tmp_path / "1")) >= 8
    other, _ = CorpusPlan(seed=1, shortest=3.0, longest=6.0).track(0)
    assert not np.array_equal(other[:1000], SHORT.track(0)[0][:1000])


def test_manifest_names_what_is_there(tmp_path):
    table = read_manifest(make_corpus(tmp_path, HOURS, SHORT), tmp_path)
    assert set(table["genre"]) <= set(GENRES) and table["ID"].is_unique
    for row in table.itertuples():
        info = soundfile.info(row.wav)
        assert (info.samplerate, info.frames, info.channels) == (RATE, row.stop, 1)
        truth = json.loads(open(row.wav.replace(".wav", ".json")).read())
        assert float(row.tempo) == pytest.approx(truth["tempo"], abs=1e-3)


def test_a_longer_corpus_begins_with_a_shorter_one(tmp_path):
    make_corpus(tmp_path, HOURS / 2, SHORT)
    before = digests(tmp_path)
    make_corpus(tmp_path, HOURS, SHORT)
    after = digests(tmp_path)
    assert len(after) > len(before)
    assert all(after[name] == digest for name, digest in before.items() if "/" in name)


def test_a_killed_run_is_continued(tmp_path):
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
    make_corpus(tmp_path / "killed", HOURS, SHORT)
    make_corpus(tmp_path / "whole", HOURS, SHORT)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert all(file.stat().st_mtime_ns == at for file, at in done.items())


def test_what_hangs_is_ended_and_tried_again(tmp_path):
    jobs = [(str(tmp_path), name) for name in ("a", "stuck", "b")]
    run_all(hang_once, jobs, patience=2.0, attempts=2, workers=2)
    assert {file.name for file in tmp_path.iterdir()} == {"a_0", "b_0", "stuck_1"}
    with pytest.raises(StuckError, match="hung or died 1 times"):
        run_all(hang, [()], patience=1.0, attempts=1)


# Bad input


@pytest.mark.parametrize(
    ("hours", "plan", "message"),
    [
        (0, SHORT, "hours is 0"),
        (float("nan"), SHORT, "hours is nan"),
        (1, CorpusPlan(shortest=9.0, longest=3.0), "tracks of 9 to 3 seconds"),
        (1, CorpusPlan(soundfont="/nowhere/bank.sf2"), "cannot be read"),
        (1, CorpusPlan(soundfont=__file__), "is no SF2 sound bank"),
    ],
)
def test_bad_wishes_leave_nothing(hours, plan, message, tmp_path):
    with pytest.raises((CorpusError, BankError), match=message):
        make_corpus(tmp_path / "corpus", hours, plan)
    assert not any(tmp_path.iterdir())


def test_another_corpus_is_not_written_over(tmp_path):
    make_corpus(tmp_path / "one", 0.0005, SHORT)
    before = digests(tmp_path)
    with pytest.raises(CorpusError, match="another seed"):
        make_corpus(tmp_path / "one", 0.0005, CorpusPlan(seed=5, shortest=3.0, longest=6.0))
    (tmp_path / "note.txt").touch()
    with pytest.raises(CorpusError, match="is not empty"):
        make_corpus(tmp_path, HOURS, SHORT)
    with pytest.raises(CorpusError, match="cannot be written"):
        make_corpus(tmp_path / "note.txt" / "below", HOURS, SHORT)
    (tmp_path / "note.txt").unlink()
    assert digests(tmp_path) == before


def test_a_full_disk_is_said_and_the_corpus_continued(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    command = [sys.executable, "-m", "speechbrain_music.data_prep.replica", "corpus"]
    command += ["--hours", "0.001", "--out", str(tmp_path / "corpus"), "--workers", "1"]
    limited = (
        "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (99_000, 99_000))"
    )
    limited += "; os.execv(sys.argv[1], sys.argv[1:])"
    result = subprocess.run(
        [sys.executable, "-c", limited, *command], capture_output=True, text=True
    )
    assert result.returncode == 2 and result.stderr.count("\n") <= 2
    assert "cannot be written" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.rglob("*.tmp"))
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (tmp_path / "corpus" / "tracks.csv").exists()


def test_command_line_makes_a_corpus_and_its_card(tmp_path, capsys):
    command.main(["corpus", "--hours", "0.001", "--out", str(tmp_path / "my corpus")])
    command.main(["card", str(tmp_path / "my corpus")])
    page = (tmp_path / "my corpus" / "replica_card.md").read_text()
    pictures = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line[:1] == "!"]
    assert len(pictures) >= 2
    assert all((tmp_path / "my corpus" / picture).stat().st_size > 5000 for picture in pictures)
    with pytest.raises(CorpusError, match="holds no complete corpus"):
        command.main(["card", str(tmp_path)])


def test_an_unscanned_bank_plays_everything_in_range():
    bank = load_bank()
    assert bank.unsafe and bank.loudness and not bank.plays(0, 20) and not bank.plays(0, 109)
    assert bank.unsafe.keys() <= bank.loudness.keys()
