"""Tasks by the frame against mir_eval called by hand, slow references and real annotations.

SBMUSIC_ANNOTATIONS names the folder with the real ones: rwc_v2, beat_this, harmonix.
"""

import os
import warnings
from itertools import groupby, product
from pathlib import Path

import mir_eval
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from speechbrain_music.dataio.annotations import Beats, LabelledIntervals, positions
from speechbrain_music.metrics import frame_tasks
from speechbrain_music.metrics.frame_tasks import BeatTracking, ChordRecognition, StructureAnalysis
from speechbrain_music.utils.errors import UserError

ROOT = Path(os.environ.get("SBMUSIC_ANNOTATIONS", "/nonexistent"))
NO_BEATS = Beats(np.zeros(0), np.zeros(0, dtype=np.int64))
NOTHING = LabelledIntervals(np.zeros((0, 2)), [])
HEADS = ("majmin", "marble", "decomposed")


def real(pattern):
    files = sorted(ROOT.glob(pattern))
    if not files:
        pytest.skip("SBMUSIC_ANNOTATIONS names no folder of annotations")
    return files


def bars(bpm=121.0, seconds=60.0, meter=4, start=0.313):
    times = np.arange(start, seconds, 60 / bpm)
    return Beats(times, np.arange(len(times)) % meter + 1)


def sections(*rows):
    """Rows (start, label); the last is the end."""
    starts = np.array([start for start, _ in rows], dtype=float)
    return LabelledIntervals(
        np.stack([starts[:-1], starts[1:]], axis=1), [label for _, label in rows[:-1]]
    )


CHORDS = sections(
    (0, "N"), (1.3, "C:maj"), (3.17, "A:min7/b3"), (5.2, "G:sus4(b7)"), (7.91, "X"),
    (9.4, "F#:maj(*3)"), (12.0, "Bb:maj9"), (14.03, "Eb:hdim7"), (16.5, "D:maj/3"), (20.01, ""),
)  # fmt: skip
SONG = sections(
    (0.588, "intro"), (9.0, "verse"), (20.59, "prechorus2"), (24.1, "chorus"), (33.33, "chorus"),
    (41.0, "guitarsolo"), (50.2, "outro"), (60.4, "silence"), (63.0, "end"),
)  # fmt: skip


def corpus_mean(scores, weights):
    """dict metric -> weighted mean over tracks (lists of dicts) whose score is not nan."""
    scores, weights = pd.DataFrame(scores), pd.DataFrame(weights)
    return ((scores * weights).sum() / weights.where(scores.notna()).sum()).to_dict()


def scores_and_weights(task, *track):
    return ({m: pair[i] for m, pair in task.weighted_scores(*track).items()} for i in (0, 1))


def perfect(task, annotation, seconds):
    return task.decode(task.oracle(task.targets(annotation, round(seconds * task.rate))))


@pytest.mark.parametrize("rate", [25, 50])
@pytest.mark.parametrize("meter", [3, 4])
def test_perfect_beats(rate, meter):
    task, beats = BeatTracking(rate=rate), bars(meter=meter)
    found = perfect(task, beats, 60.5)
    assert found.positions.tolist() == beats.positions.tolist()
    assert np.abs(found.times - beats.times).max() <= 0.5 / rate + 1e-9
    scores = task.score(beats, found, 60.5)
    assert set(scores) == {*task.metrics, *task.corpus_metrics} and set(scores.values()) == {1.0}


@pytest.mark.parametrize("head", HEADS)
def test_perfect_chords(head):
    task = ChordRecognition(head=head)
    # Changes halfway between frames, so that nothing is lost to rounding.
    intervals = (np.round(CHORDS.intervals * 25) + 0.5) / 25
    intervals[0, 0], intervals[-1, 1] = 0, 20
    labels = ["N", "C:maj", "A:min", "Gb:maj", "F#:min", "Bb:maj", "N", "Eb:min", "D:maj"]
    chords = LabelledIntervals(intervals, labels)
    found = perfect(task, chords, 20.0)
    assert found.labels == ["Gb:min" if label == "F#:min" else label for label in labels]
    np.testing.assert_allclose(found.intervals[:-1], intervals[:-1])
    scores = task.score(chords, found, 20.0)
    assert {metric: round(score, 9) for metric, score in scores.items() if score < 1 - 1e-9} == {}


def test_decomposed_head_names_bass_and_sevenths():
    found = perfect(ChordRecognition(head="decomposed"), CHORDS, 20.0)
    names = ["C:maj", "A:min7/b3", "Bb:maj7", "Eb:hdim7", "D:maj/3"]
    assert [label for label in found.labels if label in names] == names


@pytest.mark.parametrize("classes", [7, 10])
@pytest.mark.parametrize("rate", [25 / 3, 5, 25])
def test_perfect_structure(classes, rate):
    task = StructureAnalysis(rate=rate, functions=classes)
    found = perfect(task, SONG, 65)
    scores = task.score(SONG, found, 65)
    assert scores["hr_05_f"] == scores["hr_3_f"] == 1.0
    assert min(scores["pairwise_f"], scores["accuracy"]) > 0.98
    middle = ["intro", "verse", "verse", "chorus", "chorus"]
    ends = (["silence"], ["inst", "outro", "silence", "silence"])
    if classes == 10:
        ends = (["start"], ["solo", "outro", "end", "end"])
    assert found.labels == [*ends[0], *middle, *ends[1]]


def jittered(beats, seed):
    rng = np.random.default_rng(seed)
    times = np.sort(beats.times + rng.normal(0, 0.04, len(beats.times)))
    keep = rng.random(len(times)) < 0.9
    return Beats(times[keep], np.roll(beats.positions, seed)[keep])


@pytest.mark.parametrize("seed", range(3))
def test_beat_scores_are_mir_evals(seed):
    task, true = BeatTracking(), bars()
    found = jittered(true, seed)
    scores = task.score(true, found, 60)
    for name, start in (("beat", None), ("downbeat", 1)):
        one, other = (
            beats.times[beats.positions == start] if start else beats.times
            for beats in (true, found)
        )
        assert scores[f"marble_{name}_f"] == mir_eval.beat.f_measure(one, other)
        one, other = mir_eval.beat.trim_beats(one), mir_eval.beat.trim_beats(other)
        assert scores[f"{name}_f"] == mir_eval.beat.f_measure(one, other)
        _, cmlt, _, amlt = mir_eval.beat.continuity(one, other)
        assert (scores[f"{name}_cmlt"], scores[f"{name}_amlt"]) == (cmlt, amlt)


def test_marble_f_is_that_of_pooled_hits():
    task = BeatTracking()
    pairs = [(bars(seconds=20 * n), jittered(bars(seconds=20 * n), n), 20 * n) for n in (1, 2, 3)]
    pairs.append((Beats(np.arange(9.0), np.zeros(9)), bars(), 60))  # no downbeats known
    scores, weights = zip(*(scores_and_weights(task, *pair) for pair in pairs), strict=True)
    means = corpus_mean(scores, weights)
    for name, start in (("beat", slice(1, 9)), ("downbeat", slice(1, 2))):
        hits = total = 0
        for true, found, _ in pairs[: 4 if name == "beat" else 3]:
            one, other = (
                beats.times[np.isin(beats.positions, np.r_[start])] for beats in (true, found)
            )
            one = true.times if name == "beat" else one
            hits += len(mir_eval.util.match_events(one, other, 0.07))
            total += len(one) + len(other)
        assert means[f"marble_{name}_f"] == pytest.approx(2 * hits / total)
    assert np.isnan(scores[3]["downbeat_f"]) and not np.isnan(scores[3]["beat_f"])
    plain = np.mean([track["downbeat_f"] for track in scores[:3]])
    assert means["downbeat_f"] == pytest.approx(plain)


def test_chord_scores_are_mir_evals():
    task = ChordRecognition()
    found = sections((0, "N"), (1, "C:maj"), (4, "A:min"), (8, "G:maj"), (13, "Bb:7"), (25, ""))
    scores = task.score(CHORDS, found, 25)
    by_hand = mir_eval.chord.evaluate(*CHORDS, *found)
    assert {m: scores[m] for m in scores if m != "marble_accuracy"} == {
        m: by_hand[m] for m in scores if m != "marble_accuracy"
    }
    _, weights = scores_and_weights(task, CHORDS, found, 25)
    lengths = np.diff(CHORDS.intervals)[:, 0]
    places = task.classes(CHORDS.labels)
    assert weights["majmin"] == pytest.approx(lengths[places >= 0].sum())
    assert weights["seg"] == pytest.approx(20.01)
    # N is right for 1 s; C 1.87 - 0; A:min7/b3 1.2 of 2.03, Bb:maj9 1.03 of 2.03; X counts as N.
    right = 1 + 1.87 + (5.2 - 4) + (14.03 - 13)
    assert scores["marble_accuracy"] * weights["marble_accuracy"] == pytest.approx(right)
    comparable = 20.01 - sum(lengths[[3, 5, 7]])
    assert weights["marble_accuracy"] == pytest.approx(comparable)


@pytest.mark.parametrize("trim", [False, True])
def test_structure_scores_are_mir_evals(trim):
    task = StructureAnalysis(trim=trim)
    found = sections((0, "intro"), (9.4, "verse"), (25, "chorus"), (52, "inst"), (63.0, "end"))
    scores = task.score(SONG, found, 63)
    intervals, labels = mir_eval.util.adjust_intervals(*SONG, t_min=0.0, start_label="silence")
    labels = task.classes(labels)
    for name, window in (("05", 0.5), ("3", 3)):
        by_hand = mir_eval.segment.detection(intervals, found.intervals, window, trim=trim)[2]
        assert scores[f"hr_{name}_f"] == by_hand
    pairwise = mir_eval.segment.pairwise(
        intervals, labels, found.intervals, task.classes(found.labels)
    )
    assert scores["pairwise_f"] == pairwise[2]
    right = (9.0 - 0.588) + (20.59 - 9.4) + (24.1 - 20.59) + (41 - 25) + 0
    right += (50.2 - 41) * 0  # a chorus is predicted until 52
    assert scores["accuracy"] == pytest.approx(right / 63)


@pytest.mark.parametrize(
    "label, place, other",
    [
        ("N", 24, 24), ("X", -1, 24), ("C", 0, 0), ("C:7", 0, 0), ("C:min7", 12, 12),
        ("D:maj/2", -1, 2), ("Bb:min6", 22, 22), ("C:sus4", -1, -1), ("C:aug", -1, -1),
        ("A:5", -1, -1), ("G:maj(*3)", -1, -1), ("F#:maj9", 6, 6), ("B#:min", 12, 12),
    ],
)  # fmt: skip
def test_chord_classes(label, place, other):
    assert frame_tasks.triad(label) == place
    assert frame_tasks.triad(label, exact=False) == other


def every_path(scores, min_frames, change):
    """The best total of all paths whose inner runs are long enough."""
    best = -np.inf
    for path in product(range(scores.shape[1]), repeat=len(scores)):
        lengths = [len(list(run)) for _, run in groupby(path)]
        if min(lengths[1:-1], default=min_frames) >= min_frames:
            total = scores[range(len(path)), path].sum() - change * (len(lengths) - 1)
            best = max(best, total)
    return best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_frames, change", [(0, 0.0), (1, 0.5), (2, 0.3), (3, 0.0), (12, 0.1)])
def test_viterbi_finds_the_best_path(min_frames, change, seed):
    scores = np.log(np.random.default_rng(seed).dirichlet([0.3] * 3, 8))
    path = frame_tasks.viterbi(scores, min_frames, change)
    lengths = [len(list(run)) for _, run in groupby(path)]
    assert min(lengths[1:-1], default=99) >= min_frames
    total = scores[range(8), path].sum() - change * (len(lengths) - 1)
    assert total == pytest.approx(every_path(scores, min_frames, change))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reach", [0, 1, 3])
def test_peaks(reach, seed):
    values = np.random.default_rng(seed).integers(-4, 5, 40).astype(float)
    threshold = np.where(np.arange(40) < 20, 0, 2)
    expected, group = [], []
    for t in range(41):
        window = values[max(0, t - reach) : t + reach + 1]
        if t < 40 and values[t] > threshold[t] and values[t] == window.max():
            group.append(t)
        elif group:
            expected.append(sum(group) / len(group))
            group = []
    assert frame_tasks.peaks(values, reach, threshold).tolist() == expected


def slow_loss(task, logits, targets, valid, tolerance):
    weights = torch.as_tensor(task.positive_weight).expand(2)
    losses = torch.zeros(len(targets))
    for t, column in product(valid.nonzero()[:, 0].tolist(), range(2)):
        target = targets[t, column]
        near = [s for s in range(len(targets)) if abs(s - t) <= 2 * tolerance]
        if target < 0 or (target == 0 and any(targets[s, column] > 0 for s in near)):
            continue
        window = [s for s in near if abs(s - t) <= tolerance and valid[s]]
        p = torch.sigmoid(logits[window, column].max())
        losses[t] += -weights[column] * p.log() if target else -(1 - p).log()
    return losses


def test_balance():
    task = BeatTracking(rate=10)
    beats = Beats(np.arange(0, 10, 0.5), np.arange(20) % 4 + 1)
    unknown = beats._replace(positions=np.zeros(20, dtype=int))
    task.balance([task.targets(beats, 100), task.targets(unknown, 60)])
    assert task.positive_weight == [4, 19]
    structure = StructureAnalysis(rate=10)
    structure.balance([structure.targets(SONG, 640)])
    ones = structure.targets(SONG, 640)[:, 1].sum().item()
    assert structure.positive_weight == pytest.approx([(640 - ones) / ones])


@pytest.mark.parametrize("tolerant, tolerance", [(False, 0), (True, 3)])
def test_beat_loss(tolerant, tolerance):
    task = BeatTracking(shift_tolerant=tolerant, positive_weight=[3.0, 7.0])
    assert task.shift_tolerant * task.reach == tolerance
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (3, 120, 2))).float()
    beats = [bars(seconds=2.4), bars(bpm=200, seconds=2.0), bars(seconds=2)]
    beats[2] = Beats(beats[2].times, beats[2].positions * 0)
    targets = torch.stack([task.targets(track, 120) for track in beats])
    valid = torch.arange(120) < torch.tensor([[120], [100], [0]])
    logits[1, 100:], targets[~valid] = 50, -1  # padding
    found = task.loss(logits, targets)
    expected = [
        slow_loss(task, *rows, tolerance) for rows in zip(logits, targets, valid, strict=True)
    ]
    np.testing.assert_allclose(found, torch.stack(expected), rtol=1e-3, atol=1e-6)
    assert not found[2].any() and not found[1, 100:].any() and found[0].all() == (not tolerance)
    shifted = 40 * targets.roll(2, dims=1).float().clamp(min=0) - 20
    low = task.loss(shifted, targets)[:2]
    assert (low < 1e-3).all() == tolerant


@pytest.mark.parametrize("head", HEADS)
def test_chord_loss(head):
    task = ChordRecognition(head=head)
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 500, task.outputs))).float()
    targets = task.targets(CHORDS, 500)
    known = (targets[:, 0] >= 0).nonzero()[:, 0]
    assert 0 < len(known) < 500
    rows, truth = logits[0, known], targets[known]
    if head == "decomposed":
        expected = F.cross_entropy(rows[:, :13], truth[:, 0], reduction="sum")
        expected += F.cross_entropy(rows[:, 13:26], truth[:, 1], reduction="sum")
        binary = F.binary_cross_entropy_with_logits
        expected += binary(rows[:, 26:], truth[:, 2:].float(), reduction="sum")
    else:
        expected = F.cross_entropy(rows, truth[:, 0], reduction="sum")
    found = task.loss(logits, torch.stack([targets, torch.full_like(targets, -1)]))
    np.testing.assert_allclose(found.sum(dim=1), [expected, 0], rtol=1e-5)
    assert not found[0, targets[:, 0] < 0].any()


def test_structure_targets_and_loss():
    task = StructureAnalysis(rate=10, positive_weight=4.0)
    targets = task.targets(SONG, 640)
    assert task.vocabulary[targets[3, 0]] == "silence" and task.vocabulary[targets[639, 0]]
    at = (targets[:, 1] == 1).nonzero()[:, 0] / 10
    distance = (at[:, None] - torch.from_numpy(np.unique(SONG.intervals))).abs().amin(dim=1)
    assert distance.max() < 0.5001 and len(at) >= 10 * 9
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 640, 8))).float()
    expected = F.cross_entropy(logits[0, :600, :7], targets[:600, 0])
    expected += F.binary_cross_entropy_with_logits(
        logits[0, :600, 7], targets[:600, 1].float(), pos_weight=torch.tensor(4.0)
    )
    targets[600:] = -1  # padding
    found = task.loss(logits, targets[None])
    assert found.sum().item() / 600 == pytest.approx(expected.item(), rel=1e-5)
    assert not found[0, 600:].any()


ONE_BEAT = Beats(np.array([7.0]), np.array([1]))
EARLY = Beats(np.array([1.0, 2.0]), np.array([1, 2]))


def lasting(label):
    return LabelledIntervals(np.array([[0.0, 30.0]]), [label])


@pytest.mark.parametrize(
    "task, reference, estimate, expected",
    [
        (BeatTracking(), NO_BEATS, NO_BEATS, {0.0}),
        (BeatTracking(), NO_BEATS, bars(), {0.0}),
        (BeatTracking(), bars(), NO_BEATS, {0.0}),
        (BeatTracking(), ONE_BEAT, ONE_BEAT, {0.0, 1.0}),
        (BeatTracking(), EARLY, EARLY, {0.0, 1.0}),
        (ChordRecognition(), lasting("N"), lasting("N"), {1.0}),
        (ChordRecognition(), lasting("N"), NOTHING, {1.0}),
        (ChordRecognition(), NOTHING, lasting("N"), {1.0}),
        (ChordRecognition(), lasting("X"), lasting("N"), {0.0, 1.0}),
        (ChordRecognition(), lasting("C:maj"), NOTHING, {0.0, 1.0}),
        (StructureAnalysis(), lasting("verse"), lasting("verse"), {1.0}),
        (StructureAnalysis(trim=True), lasting("verse"), lasting("verse"), {0.0, 1.0}),
        (StructureAnalysis(), NOTHING, lasting("silence"), {1.0}),
        (StructureAnalysis(), lasting("verse"), NOTHING, {0.0, 1.0}),
    ],
)
def test_degenerate_tracks(task, reference, estimate, expected):
    with warnings.catch_warnings(action="error"):
        scores, weights = scores_and_weights(task, reference, estimate, 30.0)
        assert set(task.metrics) <= set(scores) == set(weights)
        assert set(scores.values()) == expected
        assert task.score(reference, estimate, 30.0) == scores
        task.score(reference, estimate, 0.0)
        targets = task.targets(reference, 200)
        found = task.loss(task.oracle(targets)[None], targets[None])
        assert found.isfinite().all() and targets.dtype == torch.int64
        for frames in (0, 1, 300):
            for value in (-10.0, 0.0, 10.0):
                decoded = task.decode(torch.full((frames, task.outputs), value))
                task.score(reference, decoded, 30.0)
                task.score(decoded, reference, 30.0)
        assert len(task.targets(reference, 0)) == 0
        task.score(reference, task.constant([], 30.0), 30.0)
        task.score(reference, task.constant([reference, estimate], 30.0), 30.0)


def test_another_rate():
    for task in (BeatTracking(), ChordRecognition(head="decomposed"), StructureAnalysis()):
        other = task.at(20)
        assert (other.rate, other.outputs) == (20.0, task.outputs) and task.rate != 20
    assert [task.reach for task in (BeatTracking(), BeatTracking().at(100))] == [3, 7]
    assert perfect(BeatTracking().at(20), bars(), 61).times == pytest.approx(
        bars().times, abs=0.026
    )


def test_open_end():
    """A last section whose end nobody wrote lasts to the end of the track."""
    for task, label in ((ChordRecognition(), "C:maj"), (StructureAnalysis(), "verse")):
        track = LabelledIntervals(np.array([[0, 9], [9, np.inf]]), ["N", label])
        track = track._replace(labels=["outro", label] if label == "verse" else ["N", label])
        found = perfect(task, track, 30)
        scores = task.score(track, found, 30.0)
        assert min(scores.values()) > 0.98
        assert np.isfinite([*task.weighted_scores(track, found, 30.0).values()]).all()
        task.constant([track], 30.0)


def test_decoded_silence():
    assert len(BeatTracking().decode(torch.full((200, 2), -1.0)).times) == 0
    for head in HEADS:
        task = ChordRecognition(head=head)
        found = perfect(task, lasting("N"), 30)
        assert found.labels == ["N"] and found.intervals.tolist() == [[0, 30]]
    assert perfect(StructureAnalysis(), lasting("end"), 30).labels == ["silence"]


def test_downbeats_move_to_beats():
    logits = np.full((200, 2), -5.0)
    logits[[10, 11, 35, 60, 85, 110, 135, 160], 0] = 4  # 10 and 11: one beat between them
    logits[[36, 108, 111, 185], 1] = 3  # 108 and 111: one downbeat, or a near one
    found = BeatTracking().decode(logits)
    assert found.times.tolist() == [0.21, 0.7, 1.2, 1.7, 2.2, 2.7, 3.2]
    assert found.positions.tolist() == [3, 1, 2, 3, 1, 2, 1]
    logits[:, 1] = -5
    assert BeatTracking().decode(logits).positions.tolist() == [0] * 7


@pytest.mark.parametrize("beats, starts, expected", [
    (5, [1, 4], [3, 1, 2, 3, 1]), (5, [], [0] * 5), (4, [2], [0, 0, 1, 2]), (0, [], []),
    (6, [4, 6], [0, 0, 0, 2, 1, 2]),
])  # fmt: skip
def test_positions(beats, starts, expected):
    assert positions(beats, starts).tolist() == expected


def test_constant_predictions():
    beats = BeatTracking().constant([bars(120, meter=3), bars(120), bars(120, meter=3)], 10.0)
    np.testing.assert_allclose(beats.times, np.arange(0, 10, 0.5))
    assert beats.positions[:6].tolist() == [1, 2, 3, 1, 2, 3]
    unknown = BeatTracking().constant([Beats(bars(120).times, np.zeros(120))], 10.0)
    assert set(unknown.positions) == {0}
    song = StructureAnalysis().constant([SONG], 100.0)
    assert song.labels == ["chorus"] and song.intervals.tolist() == [[0, 100]]
    chords = sections((0, "C:7"), (4, "X"), (20, "D:min"), (23, "C:maj"), (25, ""))
    assert ChordRecognition().constant([chords], 9.0).labels == ["C:maj"]


@pytest.mark.parametrize("build", [
    lambda: BeatTracking(rate=0),
    lambda: StructureAnalysis().classes(["A"]),
    lambda: ChordRecognition(head="170"), lambda: StructureAnalysis(functions=8),
    lambda: ChordRecognition().targets(lasting("H:maj"), 9),
])  # fmt: skip
def test_refused(build):
    with pytest.raises(UserError):
        build()


@pytest.mark.parametrize("logits", [torch.full((9, 2), np.nan), torch.zeros(9, 3)])
def test_bad_logits(logits):
    with pytest.raises(ValueError):
        BeatTracking().decode(logits)


def read_beats(path):
    rows = [line.replace(";", "\t").split("\t") for line in path.read_text().splitlines() if line]
    rows = [row for row in rows if row[0] != "t"]
    times = np.array([float(row[0]) for row in rows])
    return Beats(times, np.array([int(row[1]) if len(row) > 1 else 0 for row in rows]))


@pytest.mark.parametrize("pattern", ["beat_this/*/annotations/beats/*.beats", "rwc_v2/beats/*/*"])
def test_real_beats(pattern):
    task = BeatTracking()
    for path in real(pattern)[::25]:
        beats = read_beats(path)
        seconds = beats.times.max(initial=0) + 1
        found = perfect(task, beats, seconds)
        scores = task.score(beats, found, seconds)
        unknown = not beats.positions.any()
        assert np.isnan(scores["downbeat_f"]) == unknown
        assert scores["marble_beat_f"] > 0.99, path
        assert unknown or scores["marble_downbeat_f"] > 0.99, path


def test_real_chords():
    scores = {head: [] for head in HEADS}
    heads = {head: ChordRecognition(head=head) for head in HEADS}
    for number, path in enumerate(real("rwc_v2/chords/RWC-P/*.csv")):
        lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
        rows = [line.split(";") for line in lines if line]
        chords = LabelledIntervals(np.array([row[:2] for row in rows], float), [r[2] for r in rows])
        places = np.array([frame_tasks.triad(label) for label in chords.labels])
        ignored = mir_eval.chord.majmin(chords.labels, chords.labels) < 0
        assert (places < 0).tolist() == ignored.tolist()
        seconds = chords.intervals.max()
        for head, task in heads.items():
            targets = task.targets(chords, round(seconds * 25))
            if number % 25 == 0:
                found = task.decode(task.oracle(targets))
                scores[head].append(task.score(chords, found, seconds))
    for head in HEADS:
        assert min(track["majmin"] for track in scores[head]) > 0.95
    assert min(track["tetrads"] for track in scores["decomposed"]) > 0.9


@pytest.mark.parametrize("classes", [7, 10])
def test_real_sections(classes):
    task, scores = StructureAnalysis(functions=classes), []
    for number, path in enumerate(real("harmonix/segments/*.txt")):
        rows = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line]
        song = sections(*((float(time), label) for time, label in rows))
        places = task.classes(song.labels)
        assert places.min() >= 0
        if number % 10 == 0:
            seconds = song.intervals.max() + 1
            scores.append(task.score(song, perfect(task, song, seconds), seconds))
    assert np.mean([track["hr_05_f"] for track in scores]) > 0.99
    assert np.mean([track["accuracy"] for track in scores]) > 0.98
