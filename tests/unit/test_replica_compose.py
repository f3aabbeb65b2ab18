"""Composed pieces: their annotations agree with independent estimates, styles with their tables."""

import librosa
import mir_eval
import numpy as np
import pytest

from speechbrain_music.data_prep.replica.corpus import CorpusPlan
from speechbrain_music.data_prep.replica.genres import POOLS
from speechbrain_music.data_prep.replica.synth import DRUMS, RATE
from speechbrain_music.data_prep.replica.theory import MODES, TONICS, Chord

# Krumhansl and Kessler (1982), as given in Krumhansl, Cognitive Foundations of Musical Pitch.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


@pytest.fixture(scope="module")
def tracks():
    """20 tracks of 20 to 25 s, two a genre."""
    plan = CorpusPlan(seed=7, longest=25.0, per_artist=1)
    return [plan.track(index) for index in range(20)]


def test_keys_agree_with_the_notes(tracks):
    """Krumhansl's profiles on the notes of the first key: MIREX score 0.85 or more."""
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
        factors = np.array([1 / 3, 1 / 2, 2 / 3, 1, 1.5, 2, 3])
        related.append((abs(ratio / factors - 1) < 0.08).any())
        true = np.array(truth["beats"])
        beats.append(max(mir_eval.beat.f_measure(b, found) for b in (true, true[::2], true[1::2])))
    assert np.mean(exact) >= 0.85 and np.mean(related) >= 0.95 and np.mean(beats) >= 0.75


def test_chords_agree_with_the_audio(tracks):
    """Major and minor templates on the chroma of each chord: the root is right for 65% of the time,
    root and third for 60% where the chord is a triad or a seventh chord."""
    chords = [Chord(tonic, quality) for quality in ("maj", "min") for tonic in range(12)]
    templates = np.array([np.isin(np.arange(12), chord.pitch_classes) for chord in chords])
    totals = np.zeros((2, 2))
    for wave, truth in tracks:
        chroma = librosa.feature.chroma_stft(y=wave, sr=RATE, n_fft=8192, hop_length=1200)
        true = [name for *_, name in truth["chords"]]
        found, lengths = [], []
        for start, end, _ in truth["chords"]:
            first = int(start * 20)
            mean = chroma[:, first : max(int(end * 20), first + 1)].mean(1)
            found.append(chords[np.argmax(templates @ mean)].name)
            lengths.append(end - start)
        for row, compare in enumerate((mir_eval.chord.root, mir_eval.chord.majmin)):
            right = compare(true, found)  # -1 where it does not apply
            totals[row] += np.dot(right == 1, lengths), np.dot(right >= 0, lengths)
    root, majmin = totals[:, 0] / totals[:, 1]
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


def test_training_tracks_play_no_held_out_program():
    known, everything = (
        {program for both in POOLS.values() for program in both[0] + held_out * both[1]}
        for held_out in (False, True)
    )
    assert 0.25 <= 1 - len(known) / len(everything) <= 0.35

    def programs(plan):
        return {p for i in range(200) for ps in plan.artist(i).programs.values() for p in ps}

    assert programs(CorpusPlan(per_artist=1)) <= known
    assert not programs(CorpusPlan(per_artist=1, held_out=True)) <= known
