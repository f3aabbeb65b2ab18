"""Tasks by the frame on whole tracks: beats, chords, structure.

Frame i stands for the time i / rate. B tracks of a batch, T frames, C outputs. Scores compare
annotations in seconds, not frames, by mir_eval (the extra [probe]).
"""

import warnings
from functools import cache
from inspect import signature
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from speechbrain_music.dataio import annotations
from speechbrain_music.dataio.annotations import Beats, LabelledIntervals, positions
from speechbrain_music.nnet.frame_heads import HEADS
from speechbrain_music.utils.errors import UserError

WINDOW = 0.07  # seconds: the tolerance of the F-measure of beats, and the distance of peaks
PITCHES = "C Db D Eb E F Gb G Ab A Bb B".split()
DEGREES = "1 b2 2 b3 3 4 b5 5 b6 6 b7 7".split()
MAJMIN = (*(f"{pitch}:{mode}" for mode in ("maj", "min") for pitch in PITCHES), "N")
# Chords that the decomposed head names, on each root and over each of their notes.
QUALITIES = "maj min dim aug sus2 sus4 maj6 min6 7 maj7 min7 minmaj7 dim7 hdim7".split()
COMPARED = ("root", "majmin", "mirex", "thirds", "triads", "tetrads", "sevenths")
SECTIONS = {
    7: "intro verse chorus bridge inst outro silence".split(),
    10: "start end intro outro break bridge inst solo verse chorus".split(),
}


class FrameTask:
    """A task by the frame: `targets` of annotations, loss, decoding and scores of whole tracks.

    Attributes as of `Task`. The logits of a frame are those of classes, by `groups` (sizes), and of
    yes or no; a column of targets (T, columns) int64 is a group or a yes or no, -1 is ignored.
    `metrics` are reported as means over tracks, `corpus_metrics` weighted, too. An empty
    annotation scores mir_eval's value, 0, without its warning. A yes counts `positive_weight`
    times in the loss; None: as often as there are noes for each, see `balance`.
    """

    note, heads = "", HEADS
    shift_tolerant = False  # whether the loss tolerates a shift by `reach` frames

    def __init__(self, names, column, rate, groups=(), positive_weight=1.0):
        if not 0 < rate <= 1000:
            raise UserError(f"rate is {rate!r} frames a second: set a number from 0 to 1000")
        self.names, self.column, self.rate = tuple(names), column, float(rate)
        self.outputs, self.groups = len(self.names), tuple(groups)
        self.positive_weight = positive_weight

    @property
    def config(self):
        """The arguments that make this task, as JSON holds them."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def at(self, rate):
        """A copy of the task at another rate."""
        return type(self)(**self.config | {"rate": rate})

    def _split(self, logits):
        return logits.split((*self.groups, self.outputs - sum(self.groups)), dim=-1)

    def loss(self, logits, targets):
        """Loss of each frame, summed over columns, (B, T) float32; 0 where it is ignored.

        Logits (B, T, C), targets (B, T, columns), -1 after a track's end.
        """
        *classes, binary = self._split(logits.float())
        losses = [
            F.cross_entropy(part.mT, targets[..., i], ignore_index=-1, reduction="none")[..., None]
            for i, part in enumerate(classes)
        ]
        counted, positive = targets >= 0, targets[..., len(classes) :] > 0
        if self.shift_tolerant:
            binary = _spread(binary.masked_fill(~counted, -1e4), self.reach)
            counted &= positive | (_spread(positive.float(), 2 * self.reach) == 0)
        weight = torch.as_tensor(self.positive_weight or 1.0).to(binary)
        loss = F.binary_cross_entropy_with_logits
        losses.append(loss(binary, positive.float(), pos_weight=weight, reduction="none"))
        return torch.cat(losses, dim=-1).masked_fill(~counted, 0).sum(dim=-1)

    def balance(self, targets):
        """Sets `positive_weight`, if it is None, to the noes for each yes in targets of tracks."""
        if self.positive_weight is not None:
            return
        binary = torch.cat(list(targets))[:, len(self.groups) :]
        ratios = (binary == 0).sum(dim=0) / (binary > 0).sum(dim=0).clamp(min=1)
        self.positive_weight = ratios.clamp(min=1).tolist()

    def decode(self, logits):
        """The annotation that logits (T, C) of a track predict; ValueError if not finite."""
        logits = torch.as_tensor(logits).detach().cpu().double()
        if logits.shape[1:] != (self.outputs,) or not logits.isfinite().all():
            raise ValueError(f"logits {[*logits.shape]} must be finite, (frames, {self.outputs})")
        return self._decode(logits)

    def oracle(self, targets):
        """Logits (T, C) of a perfect probe: they score what frames and decoding allow."""
        parts = [targets[:, i, None] == torch.arange(size) for i, size in enumerate(self.groups)]
        return torch.cat([*parts, targets[:, len(parts) :] > 0], dim=1) * 20.0 - 10

    def weighted_scores(self, reference, estimate, duration):
        """dict metric -> score of a track of `duration` s, its weight in the mean over a corpus.

        A score is nan, of weight 0, where no one annotated downbeats.
        """
        with warnings.catch_warnings(action="ignore"):  # of empty annotations
            pairs = self._compare(reference, estimate, duration)
        return {metric: tuple(map(float, pair)) for metric, pair in pairs.items()}

    def score(self, reference, estimate, duration):
        """dict metric -> float, without the weights of `weighted_scores`."""
        pairs = self.weighted_scores(reference, estimate, duration)
        return {metric: score for metric, (score, _) in pairs.items()}


class IntervalTask(FrameTask):
    """A task whose annotations are labelled intervals; `vocabulary` holds their classes."""

    def read(self, path, seconds):
        """The annotation of a file, for a track of so many seconds."""
        return annotations.read_intervals(path, seconds=seconds)

    def targets(self, annotation, frames):
        """Targets (frames, columns) of a track."""
        whole = spanned(annotation, 0, (frames + 1) / self.rate, self.filler)
        places = np.searchsorted(whole.intervals[:-1, 1], np.arange(frames) / self.rate, "right")
        return torch.as_tensor(self._columns(whole.labels))[places]

    def constant(self, tracks, duration):
        """The prediction for a track of `duration` s that is best without its audio."""
        seconds = np.zeros(len(self.vocabulary) + 1)  # the last: labels without a class
        for intervals, labels in tracks:
            lengths = np.diff(intervals)[:, 0]
            np.add.at(seconds, self.classes(labels), np.nan_to_num(lengths, posinf=0))
        label = self.vocabulary[seconds[:-1].argmax()]
        return spanned(LabelledIntervals([], []), 0, duration, label)

    def _columns(self, labels):
        return self.classes(labels)[:, None]


class BeatTracking(FrameTask):
    """Beats and downbeats; F, CMLt and AMLt of each, of beats from 5 s on.

    The loss of `shift_tolerant` is Beat This's: the largest logit within 70 ms stands for a frame,
    and frames within twice that of a beat are ignored. Where all positions are 0, downbeats have
    no loss and no metric.
    Decoding: peaks above 0 within 70 ms; downbeats move to the nearest beat.
    """

    metrics = ("beat_f", "beat_cmlt", "beat_amlt", "downbeat_f", "downbeat_cmlt", "downbeat_amlt")
    corpus_metrics = ("marble_beat_f", "marble_downbeat_f")
    selected = scored = ("beat_f", "downbeat_f")
    note = "marble_*: not trimmed to 5 s; the hits of all tracks are pooled."

    def __init__(self, column="beats", rate=50.0, shift_tolerant=True, positive_weight=None):
        self.shift_tolerant = shift_tolerant
        super().__init__(("beat", "downbeat"), column, rate, (), positive_weight)
        self.reach = int(WINDOW * self.rate + 1e-6)  # frames

    def read(self, path, seconds):
        """The annotation of a file."""
        return annotations.read_beats(path)

    def targets(self, annotation, frames):
        """Targets (frames, 2): whether a beat, a downbeat is nearest to the frame."""
        targets = torch.zeros(frames, 2, dtype=torch.int64)
        for column, times in enumerate(_times(annotation)):
            places = np.round(times * self.rate).astype(np.int64)
            targets[places[(places >= 0) & (places < frames)], column] = 1
        if len(annotation.times) and not np.any(annotation.positions):
            targets[:, 1] = -1
        return targets

    def _decode(self, logits):
        times, starts = (peaks(column, self.reach, 0) / self.rate for column in logits.numpy().T)
        nearest = np.abs(times[:, None] - starts).argmin(axis=0) if len(times) else []
        return Beats(times, positions(len(times), np.unique(nearest)))

    def constant(self, tracks, duration):
        """Regular beats of the median interval, in the median bar."""
        intervals = [np.diff(track.times) for track in tracks]
        bars = [np.diff(np.flatnonzero(track.positions == 1)) for track in tracks]
        interval, bar = (np.median(np.concatenate(x)) if any(map(len, x)) else 0
                         for x in (intervals, bars))  # fmt: skip
        times = np.arange(0, duration, max(interval, 0.01)) if interval else np.zeros(0)
        return Beats(times, positions(len(times), np.arange(0, len(times) if bar else 0, bar or 1)))

    def _compare(self, reference, estimate, duration):
        from mir_eval import beat

        pairs, both = {}, zip(_times(reference), _times(estimate), strict=True)
        for name, (true, found) in zip(self.names, both, strict=True):
            # F is 2 hits / (true + found): so weighted, its mean is the F of the pooled counts.
            pairs[f"marble_{name}_f"] = beat.f_measure(true, found), len(true) + len(found)
            true, found = beat.trim_beats(true), beat.trim_beats(found)
            _, cmlt, _, amlt = beat.continuity(true, found)
            scores = {"f": beat.f_measure(true, found), "cmlt": cmlt, "amlt": amlt}
            pairs |= {f"{name}_{metric}": (score, 1) for metric, score in scores.items()}
        if len(reference.times) and not np.any(reference.positions):
            pairs |= {metric: (np.nan, 0) for metric in pairs if "downbeat" in metric}
        return pairs


class ChordRecognition(IntervalTask):
    """Chords in Harte's syntax; mir_eval's comparisons, weighted by duration.

    `head` is "majmin": 25 classes (12 major, 12 minor, N), others ignored, by mir_eval's rule;
    "marble": the same by MARBLE's rule; or "decomposed": root (12 and none), bass (the same) and 12
    notes, decoded as the chord that fits best.
    Decoding: Viterbi with a shortest duration (s) and a penalty of a change (nats).
    """

    metrics = corpus_metrics = (*COMPARED, "seg", "marble_accuracy")
    selected = scored = ("majmin",)
    note = "The reference's span counts. marble_accuracy: share of the time, by MARBLE's classes."
    vocabulary, filler = MAJMIN, "X"

    def __init__(self, column="chords", rate=25.0, head="majmin", min_seconds=0.5, change=5.0):
        if head not in ("majmin", "marble", "decomposed"):
            raise UserError(f"head is {head!r}: set majmin, marble or decomposed")
        if not 0 <= min_seconds <= 60:
            raise UserError(f"min_seconds is {min_seconds!r}: set a number from 0 to 60")
        names, groups, self.exact = MAJMIN, (25,), head != "marble"
        self.head, self.states, self.templates = head, MAJMIN, torch.eye(25).double()
        if head == "decomposed":
            parts, groups = (("root", 13), ("bass", 13), ("note", 12)), (13, 13)
            names = [f"{part} {name}" for part, n in parts for name in [*PITCHES, "N"][:n]]
            self.states, self.templates = _templates()
        super().__init__(names, column, rate, groups)
        self.min_seconds, self.change = min_seconds, change

    def classes(self, labels):
        """Places (N,) of labels in the vocabulary, -1 for none."""
        return np.array([triad(label, self.exact) for label in labels], dtype=np.int64)

    def _columns(self, labels):
        decomposed = len(self.groups) > 1
        return np.array([*map(decompose, labels)]) if decomposed else super()._columns(labels)

    def _decode(self, logits):
        *classes, notes = self._split(logits)
        parts = [part.log_softmax(dim=1) for part in classes]
        scores = torch.cat([*parts, F.logsigmoid(notes), F.logsigmoid(-notes)], dim=1)
        min_frames = round(self.min_seconds * self.rate)
        path = viterbi((scores @ self.templates.T).numpy(), min_frames, self.change)
        starts = np.flatnonzero(np.diff(path, prepend=-1))
        # Halfway between the frames that differ.
        bounds = np.append(np.maximum(starts - 0.5, 0), len(path)) / self.rate
        return LabelledIntervals(_between(bounds), [self.states[path[start]] for start in starts])

    def _compare(self, reference, estimate, duration):
        from mir_eval import chord

        span, filler = (0, duration), "N"
        if len(reference.labels):
            end = np.nan_to_num(np.max(reference.intervals), posinf=duration)
            span, filler = (np.min(reference.intervals), end), "X"
        estimate = spanned(estimate, *span, "N", 1 / self.rate)
        reference = spanned(reference, *span, filler)
        labels = reference.labels
        if not labels:
            return dict.fromkeys(self.metrics, (0, 0))
        marble = agreement(reference, estimate, lambda x: np.array([triad(y, False) for y in x]))
        scores, seconds = chord.evaluate(*reference, *estimate), np.diff(reference.intervals)[:, 0]
        pairs = {  # what a metric can compare is what it compares with itself
            metric: (scores[metric], seconds @ (getattr(chord, metric)(labels, labels) >= 0))
            for metric in COMPARED
        }
        return pairs | {"seg": (scores["seg"], seconds.sum()), "marble_accuracy": marble}


class StructureAnalysis(IntervalTask):
    """Sections of 7 or 10 classes, and boundaries; hit rates, pairwise F, accuracy by duration.

    Ten classes tell breaks and solos from other instrumental parts, and silence before the music
    (start) from silence after it (end). Frames within `width` s of a boundary are its target.
    Decoding: boundaries are peaks within 1 s that lie `threshold` above the mean probability of
    12 s on both sides; a section has the class of the largest mean probability.
    """

    metrics = ("hr_05_f", "hr_3_f", "pairwise_f", "accuracy")
    corpus_metrics = ("accuracy",)
    selected = scored = ("hr_05_f", "accuracy")
    filler = "silence"

    def __init__(self, column="segments", rate=25 / 3, functions=7, trim=False, width=0.5,
                 threshold=0.1, positive_weight=None):  # fmt: skip
        if functions not in SECTIONS:
            raise UserError(f"functions is {functions!r}: set one of {[*SECTIONS]}")
        self.functions, self.vocabulary = functions, SECTIONS[functions]
        table = pd.read_csv(Path(__file__).with_name("sections.csv"), index_col="part")
        self.table = table[str(functions)].to_dict()
        names = (*self.vocabulary, "boundary")
        super().__init__(names, column, rate, (functions,), positive_weight)
        self.trim, self.width, self.threshold = trim, width, threshold
        self.note = f"Hit rates are {'' if trim else 'not '}trimmed of the first and last boundary."

    def classes(self, labels):
        """Places (N,) in the vocabulary of the labels of a track, in order."""
        names = [self._section(label.strip().lower()) for label in labels]
        if "silence" not in self.vocabulary:
            pairs = zip(names, np.cumsum([name != "silence" for name in names]), strict=True)
            names = [x if x != "silence" else "end" if music else "start" for x, music in pairs]
        return np.array([self.vocabulary.index(name) for name in names], dtype=np.int64)

    def _section(self, label):
        for part, name in self.table.items():
            if part == label or part in label and part != "end":
                return name
        raise UserError(f"section label {label!r} has no class: add a part of it to sections.csv")

    def targets(self, annotation, frames):
        """Targets (frames, 2): class, silence outside of all sections; whether at a boundary."""
        starts = spanned(annotation, 0, frames / self.rate, self.filler).intervals[1:, 0]
        distances = np.abs(np.arange(frames)[:, None] / self.rate - starts)
        near = torch.from_numpy((distances < self.width + 1e-6).any(axis=1, keepdims=True))
        return torch.cat([super().targets(annotation, frames), near], dim=1)

    def _decode(self, logits):
        if not len(logits):
            return LabelledIntervals(np.zeros((0, 2)), [])
        (classes, boundary), frames, reach = self._split(logits), len(logits), round(12 * self.rate)
        boundary = boundary.sigmoid().T
        means = F.avg_pool1d(boundary, 2 * reach + 1, 1, reach, count_include_pad=False)[0]
        found = peaks(boundary[0].numpy(), round(self.rate), means.numpy() + self.threshold)
        inner = (found > 0) & (found < frames - self.width * self.rate)
        starts = np.append(0, found[inner])
        shares = np.add.reduceat(classes.softmax(1).numpy(), np.ceil(starts).astype(int), axis=0)
        labels = [self.vocabulary[place] for place in shares.argmax(axis=1)]
        return LabelledIntervals(_between(np.append(starts, frames) / self.rate), labels)

    def _compare(self, reference, estimate, duration):
        from mir_eval import segment

        end = np.max(reference.intervals, initial=0)  # no boundary just before the track's end
        end = end if duration - self.width <= end < np.inf else duration
        if not end:
            return dict.fromkeys(self.metrics, (0, 0))
        reference = spanned(reference, 0, end, self.filler)
        tracks = reference, spanned(estimate, 0, end, self.filler, 1 / self.rate)
        true, found = ((track.intervals, self.classes(track.labels)) for track in tracks)
        scores = [segment.detection(true[0], found[0], x, trim=self.trim)[2] for x in (0.5, 3)]
        scores.append(segment.pairwise(*true, *found)[2])
        pairs = [*((score, 1) for score in scores), agreement(*tracks, self.classes)]
        return dict(zip(self.metrics, pairs, strict=True))


def spanned(annotation, start, end, filler, slack=0):
    """The annotation from `start` to `end` s; gaps have the label `filler`.

    The last interval lasts to `end` if it ends less than `slack` s before.
    """
    intervals = np.asarray(annotation.intervals, dtype=float).reshape(-1, 2)
    edges = np.unique(np.clip([start, end, *intervals.flat], start, end))
    if len(edges) > 2 and edges[-1] - edges[-2] < slack:
        edges = np.delete(edges, -2)
    inside = (intervals[:, 0] <= edges[:-1, None]) & (edges[:-1, None] < intervals[:, 1])
    labels = [annotation.labels[row.nonzero()[0][-1]] if row.any() else filler for row in inside]
    return LabelledIntervals(_between(edges), labels)


def agreement(one, other, classes):
    """Share of the time in which `classes` are equal, where that of `one` is not -1; that time."""
    from mir_eval.util import merge_labeled_intervals

    intervals, *labels = merge_labeled_intervals(*one, *other)
    true, found = map(classes, labels)
    seconds = np.diff(intervals)[:, 0] * (true >= 0)
    return seconds @ (true == found) / (seconds.sum() or 1), seconds.sum()


def peaks(values, reach, threshold):
    """Frames, (N,) float64, of the largest of values (T,) within `reach` frames, above threshold.

    Adjacent ones are one peak, in their middle.
    """
    padded = np.pad(values, (reach, reach + 1), constant_values=-np.inf)
    highest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=-1)
    found = np.flatnonzero((values == highest[:-1]) & (values > threshold))
    groups = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1)
    return np.array([group.mean() for group in groups if len(group)])


def viterbi(scores, min_frames, change):
    """The best path (T,) int64 through log probabilities (T, states).

    A change of state costs `change` and is followed by `min_frames` of the new state; only the
    first and the last state, which the track cuts, may be shorter.
    """
    frames, min_frames = len(scores), max(min_frames, 1)
    scores = np.pad(scores, ((0, min_frames - 1), (0, 0)))  # where the last state goes on
    sums, best, changed = scores.cumsum(axis=0), scores.copy(), np.zeros(scores.shape, dtype=bool)
    for t in range(1, len(scores)):
        best[t] += best[t - 1]
        if t >= min_frames:  # the state may have begun min_frames ago
            begun = best[t - min_frames].max() - change + sums[t] - sums[t - min_frames]
            changed[t] = begun > best[t]
            np.maximum(best[t], begun, out=best[t])
    path, t, state = np.empty(len(scores), dtype=np.int64), len(scores), None
    while t:
        state = best[t - 1].argmax() if state is None else state
        first = t - min_frames if changed[t - 1, state] else t - 1
        path[first:t] = state
        t, state = first, None if changed[t - 1, state] else state
    return path[:frames]


@cache
def _encode(label, reduce=False):
    """Root, notes above it (12,) and bass above it, of mir_eval; UserError for a bad label."""
    from mir_eval import chord

    try:
        return chord.encode(label, reduce_extended_chords=reduce)
    except chord.InvalidChordException as error:
        raise UserError(f"chord {label!r}: {error}; write it as Eb:min7/5 (Harte)") from None


def triad(label, exact=True):
    """Place in MAJMIN of a chord, -1 for none: what mir_eval's `majmin` compares.

    Not `exact` is MARBLE's rule: all that contains a major or minor triad has it; X is N.
    """
    root, notes, _ = _encode(label)
    if root < 0:
        return 24 if label == "N" or not exact else -1
    for third, place in ((4, root), (3, root + 12)):
        if notes[[0, third, 7]].all() and (notes[:8].sum() == 3 or not exact):
            return place
    return -1


def decompose(label):
    """Root and bass (12 for none) and 12 notes (0 or 1) of a chord, -1 for X."""
    root, notes, bass = _encode(label, reduce=True)
    if root < 0:
        return (-1,) * 14 if label == "X" else (12, 12, *[0] * 12)
    return (root, (root + bass) % 12, *np.roll(notes, root).tolist())


def _templates():
    """Labels of the chords that are decoded, and which of 13 + 13 + 12 + 12 scores each adds up."""
    labels = ["N"]
    for pitch, quality, bass in product(PITCHES, QUALITIES, range(12)):
        if _encode(f"C:{quality}")[1][bass]:
            labels.append(f"{pitch}:{quality}" + (f"/{DEGREES[bass]}" if bass else ""))
    root, bass, notes = torch.tensor([decompose(x) for x in labels]).tensor_split((1, 2), dim=1)
    parts = (torch.eye(13)[root[:, 0]], torch.eye(13)[bass[:, 0]], notes, 1 - notes)
    return labels, torch.cat(parts, dim=1).double()


def _between(bounds):
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def _times(annotation):
    """Times of beats, and of downbeats, s."""
    times = np.asarray(annotation.times, dtype=float)
    return times, times[np.asarray(annotation.positions) == 1]


def _spread(values, reach):
    """The largest of values (B, T, C) within `reach` frames."""
    return F.max_pool1d(values.mT, 2 * reach + 1, 1, reach).mT
