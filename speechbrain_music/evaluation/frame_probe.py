"""What an encoder's frames tell about pitch, on composed music: ridge regressions, in seconds."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.metrics.frame_tasks import PITCHES
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, TOKEN_RATE
from speechbrain_music.models.ssl import stack_frames

TRACKS, FEWEST = 36, 6  # to score on; twice as many to fit on
SECONDS = 10.0  # of the middle of a track
PENALTIES = tuple(10.0**power for power in range(-6, 3))  # of the ridge, times the frames
PITCH, CHORD = "pitch_class_r2", "chord_root_accuracy"
MEL = "mel"  # in place of a layer: the four mel frames of a token, without an encoder


def frame_labels(annotations, start, frames):
    """Labels of a composed track's 40 ms frames from `start` (seconds) on.

    `annotations` are the JSON values beside the track (`data_prep.replica.compose.Piece.truth`).
    Returns (T, 12) float64, 1 where a pitch class sounds in the middle of a frame (drums left out),
    and (T, 12), 1 at the root of the chord.
    """
    times = start + (np.arange(frames) + 0.5) / TOKEN_RATE
    sounding, roots = np.zeros((2, frames, 12))
    for instrument in annotations["instruments"]:
        if instrument["role"] != "drums":
            for begin, end, pitch, _ in instrument["notes"]:
                sounding[(begin <= times) & (times < end), pitch % 12] = 1
    for begin, end, name in annotations["chords"]:
        roots[(begin <= times) & (times < end), PITCHES.index(name.split(":")[0])] = 1
    return sounding, roots


class FrameProbe:
    """Scores of linear predictions from frames: of pitch classes (R2), of chord roots (accuracy).

    `fitted` and `tested` are audio files; those are used that have annotations of composed music
    beside them, at most 72 and 36. The regressions are fitted on the first, without each fourth
    track, on which their penalty is chosen, and scored on the second. `usable` is False where there
    are too few tracks.
    """

    def __init__(self, fitted, tested):
        fitted, tested = _find(fitted, 2 * TRACKS), _find(tested, TRACKS)
        self.usable = len(fitted) >= 2 * FEWEST and len(tested) >= FEWEST
        self.tracks = [(int(place % 4 == 3), *track) for place, track in enumerate(fitted)]
        self.tracks += [(2, *track) for track in tested]

    @torch.no_grad()
    def __call__(self, features, encoder):
        """Scores of the mel and of each layer: figure -> value, such as pitch_class_r2_layer_4.

        `features` (`LogMel`) and `encoder` are on one device. AudioError: a track is gone.
        """
        states, targets, parts = {}, [], []
        device = features.normalize.mean.device
        for part, path, start, *labels in self.tracks:
            length = len(labels[0]) * SAMPLES_PER_TOKEN
            wave = torch.from_numpy(read_segment(path, start * SAMPLES_PER_TOKEN, length))
            wave = torch.nn.functional.pad(wave, (0, length - len(wave))).to(device).unsqueeze(0)
            mel, lengths = features(wave, torch.tensor([length], device=device))
            hidden = encoder(mel, lengths)[1]
            named = {MEL: stack_frames(mel)} | {f"layer_{n}": x for n, x in enumerate(hidden)}
            for name, values in named.items():
                states.setdefault(name, []).append(values[0].double().cpu())
            targets.append(torch.from_numpy(np.stack(labels)))
            parts.append(torch.full((len(labels[0]),), part))
        scored = dict(zip(((PITCH, _r2), (CHORD, _accuracy)), torch.cat(targets, 1), strict=True))
        parts = [torch.cat(parts) == part for part in range(3)]
        return {
            f"{figure}_{name}": _ridge_score(torch.cat(values), target, parts, score)
            for name, values in states.items()
            for (figure, score), target in scored.items()
        }


def _find(paths, most):
    """(path, first token of its middle, two `frame_labels`) of composed tracks, evenly chosen."""
    found = []
    paths = [path for path in sorted(set(map(Path, paths))) if path.with_suffix(".json").is_file()]
    for path in paths[:: max(1, -(-len(paths) // most))]:
        # Another program may have put any JSON beside the audio.
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            annotations = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            tokens = int(min(annotations["seconds"], SECONDS) * TOKEN_RATE)
            start = int((annotations["seconds"] * TOKEN_RATE - tokens) / 2)
            labels = frame_labels(annotations, start / TOKEN_RATE, tokens)
            found += [(path, start, *labels)] if tokens > 0 else []
    return found


def _ridge_score(rows, targets, parts, score):
    """Fits (frames, d) rows to (frames, 12) targets, chooses and scores, each on one of `parts`."""
    rows, targets = ([values[part] for part in parts] for values in (rows, targets))
    mean, std = rows[0].mean(dim=0), rows[0].std(dim=0).clamp(min=1e-6)
    fit, choose, test = ((part - mean) / std for part in rows)
    offset = targets[0].mean(dim=0)
    gram, product = fit.T @ fit / len(fit), fit.T @ (targets[0] - offset) / len(fit)
    eye = torch.eye(len(gram), dtype=gram.dtype)
    maps = [torch.linalg.solve(gram + penalty * eye, product) for penalty in PENALTIES]
    best = max(maps, key=lambda weights: score(choose @ weights + offset, targets[1]))
    return score(test @ best + offset, targets[2])


def _r2(predicted, target):
    """Mean over the pitch classes that sound somewhere and not everywhere."""
    total = (target - target.mean(dim=0)).square().sum(dim=0)
    left = (predicted - target).square().sum(dim=0)
    varied = total > 0
    return float((1 - left[varied] / total[varied]).mean()) if varied.any() else 0.0


def _accuracy(predicted, target):
    """Share of the frames within chords whose root is predicted."""
    inside = target.any(dim=1)
    hits = predicted.argmax(dim=1) == target.argmax(dim=1)
    return float(hits[inside].double().mean()) if inside.any() else 0.0
