"""Probes of frames: labels of composed music, scores of what is known to be there or not."""

import json

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from speechbrain_music.evaluation.frame_probe import (
    CHORD,
    FEWEST,
    PITCH,
    PITCHES,
    FrameProbe,
    frame_labels,
)
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.reporting.run_log import format_held_out

SECONDS, RATE = 12.0, 24000


def annotations(rng):
    """One note per second, a chord of which it is the root, and drums that do not count."""
    pitches = rng.permutation(12)
    notes = [[float(i), i + 0.7, 48 + int(p), 90] for i, p in enumerate(pitches)]
    return {
        "seconds": SECONDS,
        "instruments": [
            {"role": "melody", "notes": notes},
            {"role": "drums", "notes": [[0.0, SECONDS, 36, 90]]},
        ],
        "chords": [[i, i + 1.0, f"{PITCHES[p]}:maj"] for i, p in enumerate(pitches)],
    }


def test_labels_are_of_the_middles_of_frames():
    truth = annotations(np.random.default_rng(0))
    sounding, roots = frame_labels(truth, start=2.0, frames=75)
    first, second = (note[2] % 12 for note in truth["instruments"][0]["notes"][2:4])
    # A note of 0.7 s: the frame whose middle is at 0.70 s has ended, that at 0.66 s has not.
    assert sounding[:17, first].all() and not sounding[17:25].any()
    assert sounding[25:42, second].all() and sounding.sum() == 3 * 17
    assert roots.sum(axis=1).tolist() == [1] * 75 and roots[:25, first].all()


class Known(nn.Module):
    """Layers that hold the truth, the truth a second late, noise, the truth under a loud one."""

    def __init__(self, tracks):
        super().__init__()
        self.tracks = iter(tracks)

    def forward(self, mel, lengths):
        truth = torch.from_numpy(np.hstack(next(self.tracks)))
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
        loud = truth + 30 * noise[:, :1]  # the same in all dimensions
        layers = (truth, truth.roll(25, dims=0), noise, loud)
        hidden = [layer.unsqueeze(0) for layer in layers]
        return hidden[-1], hidden, lengths


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("composed"), np.random.default_rng(3)
    for artist in range(9):
        for track in range(2):
            path = folder / f"artist_{artist}" / f"{track}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(int(SECONDS * RATE)), RATE)
            path.with_suffix(".json").write_text(json.dumps(annotations(rng)))
    return sorted(folder.glob("*/*.wav"))


def test_truth_scores_one_and_noise_nothing(tracks):
    probe = FrameProbe(map(str, reversed(tracks[:12])), tracks[12:])
    assert probe.usable and [track[1] for track in probe.tracks] == tracks
    assert [track[0] for track in probe.tracks] == 3 * [0, 0, 0, 1] + 6 * [2]
    truths = [json.loads(path.with_suffix(".json").read_text()) for path in tracks]
    known = Known([frame_labels(truth, 1.0, 250) for truth in truths])
    figures = probe(LogMel(), known)
    for layer in ("layer_0", "layer_3"):
        assert figures[f"{PITCH}_{layer}"] > 0.99 and figures[f"{CHORD}_{layer}"] == 1.0
    for layer in ("layer_1", "layer_2", "mel"):  # a second late is another note
        assert figures[f"{PITCH}_{layer}"] < 0.1 and figures[f"{CHORD}_{layer}"] < 0.3
    text = format_held_out(figures | {"codes_used": 9, "perplexity": 4})
    assert "\n  chord roots, accuracy   1.000 " in text and " by layer   mel " in text


OTHER = {
    "own metadata": {"title": "my song"},
    "a list": [1, 2],
    "no number": {"seconds": "3:20", "instruments": [], "chords": []},
    "not finite": {"seconds": float("nan"), "instruments": [], "chords": []},
    "too short": {"seconds": 0.01, "instruments": [], "chords": []},
    "odd chord": {"seconds": 12.0, "instruments": [], "chords": [[0, 1, "C#:min"]]},
    "odd pitch": {
        "seconds": 12.0,
        "instruments": [{"role": "comp", "notes": [[0, 1, 60.5, 90]]}],
        "chords": [],
    },
}


@pytest.mark.parametrize("name", [*OTHER, "damaged"])
def test_json_of_other_programs_is_ignored(name, tracks, tmp_path):
    """It lies beside a user's own song.wav."""
    text = "{" if name == "damaged" else json.dumps(OTHER[name])
    (tmp_path / "song.json").write_text(text)
    probe = FrameProbe(tracks, [*tracks[12:], tmp_path / "song.wav"])
    assert probe.usable and [track[1] for track in probe.tracks[18:]] == tracks[12:]


def test_few_tracks_and_other_music_are_not_probed(tracks, tmp_path):
    assert not FrameProbe(tracks, tracks[: FEWEST - 1]).usable
    assert not FrameProbe(tracks[: 2 * FEWEST - 1], tracks).usable
    assert not FrameProbe([tmp_path / "a.wav"], []).usable
