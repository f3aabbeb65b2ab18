"""A thousand composed tracks: none silent, clipped or stuck, and no label leaks."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.draws import TRACK, keyed
from speechbrain_music.data_prep.replica.mix import CEILING
from speechbrain_music.data_prep.replica.synth import load_bank

pytestmark = pytest.mark.slow
PLAN = CorpusPlan(seed=3, shortest=5.0, longest=9.0, per_artist=1)
TRACKS = 1000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    hours = sum(PLAN.seconds(index) for index in range(TRACKS)) / 3600
    table = read_manifest(make_corpus(folder, hours, PLAN), folder)
    assert len(table) >= TRACKS - 1  # a rounding error of the hours
    rows = []
    for track in table.itertuples():
        wave, rate = soundfile.read(track.wav, dtype="float32")
        frames = wave[: len(wave) // 240 * 240].reshape(-1, 240)
        levels = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
        loudness = 10 * np.log10(np.mean(wave**2) + 1e-12)
        size = len(wave) * 2 + 44
        rows.append((loudness, len(wave) / rate, np.mean(levels < -60), size, np.abs(wave).max()))
    return table, np.array(rows)


SCRIPT = """
import re, resource, sys
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
if __name__ == "__main__":
    make_corpus(sys.argv[1], float(sys.argv[2]), CorpusPlan(shortest=5.0, longest=9.0), workers=1)
    own = re.search("VmHWM: *([0-9]+)", open("/proc/self/status").read().replace("\\t", " "))
    print(own.group(1), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Ten times the tracks: less than a tenth more memory, in the parent and in the renderer."""
    (tmp_path / "make.py").write_text(SCRIPT)
    peaks = []  # a process of its own: a child's peak counts what its parent held when it began
    for hours in (0.02, 0.2):
        command = [sys.executable, tmp_path / "make.py", tmp_path / str(hours), str(hours)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks.append([int(kilobytes) for kilobytes in output.split()])
    print(f"peaks in kB, parent and renderer: {peaks}")
    assert (np.array(peaks[1]) < 1.1 * np.array(peaks[0])).all()


def test_no_track_is_silent_clipped_or_was_stuck(corpus):
    table, rows = corpus
    loudness, peaks = rows[:, 0], rows[:, 4]
    assert loudness.min() > -30 and peaks.max() <= CEILING + 1e-4
    assert (peaks > CEILING - 1e-3).mean() < 0.01
    truths = [json.loads(open(wav.replace(".wav", ".json")).read()) for wav in table["wav"]]
    assert {truth["attempt"] for truth in truths} == {0}


@pytest.mark.parametrize("label", ["genre", "key"])
def test_level_length_silence_and_size_reveal_nothing(corpus, label):
    table, rows = corpus
    chance = max(Counter(table[label]).values()) / len(table)
    forest = RandomForestClassifier(200, min_samples_leaf=10, random_state=0)
    accuracy = cross_val_score(forest, rows[:, :4], table[label], cv=5).mean()
    assert accuracy <= chance + 0.05


def test_another_seed_is_other_music_of_the_same_kind(corpus):
    table, _ = corpus
    plan, bank = CorpusPlan(seed=4, shortest=5.0, longest=9.0, per_artist=1), load_bank()
    pieces = [
        compose(plan.artist(i), plan.seconds(i), keyed(plan.seed, TRACK, i, 0), bank)
        for i in range(len(table))
    ]
    tempi = [piece.tempo for piece in pieces]
    seconds = [piece.seconds for piece in pieces]
    assert np.isclose(tempi, table["tempo"].astype(float), atol=1e-3).mean() < 0.01
    assert stats.ks_2samp(tempi, table["tempo"].astype(float)).pvalue > 0.001
    assert stats.ks_2samp(seconds, table["duration"]).pvalue > 0.001
    for name in ("arousal", "valence"):
        moods = [piece.mood[name] for piece in pieces]
        assert stats.ks_2samp(moods, table[name].astype(float)).pvalue > 0.001
    keys = Counter(f"{piece.keys[0][2]} {piece.keys[0][3]}" for piece in pieces)
    names = sorted(set(keys) | set(table["key"]))
    counts = [[keys[name] for name in names], [sum(table["key"] == name) for name in names]]
    assert stats.chi2_contingency(counts).pvalue > 0.001
