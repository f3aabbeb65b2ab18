"""Frames of whole tracks: every frame once, the same in chunks as in one piece, half precision."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from tiny import untrained_model

from speechbrain_music.dataio.annotations import Beats
from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.evaluation.chunks import LabelledChunks
from speechbrain_music.evaluation.features import FeatureCache
from speechbrain_music.evaluation.frame_features import (
    FrameCache,
    TrackSplit,
    TrainingWindows,
    plan_tracks,
)
from speechbrain_music.evaluation.protocol import results_key
from speechbrain_music.metrics.frame_tasks import BeatTracking, ChordRecognition
from speechbrain_music.models.export import WaveEncoder
from speechbrain_music.models.frozen import ExportEncoder, MelEncoder, make_encoders
from speechbrain_music.models.frozen_encoder import FrozenEncoder
from speechbrain_music.nnet.frame_heads import FrameHead
from speechbrain_music.utils.errors import UserError

RATE = 22050


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """Noise of changing level: 9.97, 4 and 0.3 s."""
    rows, rng = [], np.random.default_rng(0)
    for name, seconds in (("long", 9.97), ("short", 4.0), ("tiny", 0.3)):
        path = tmp_path_factory.mktemp("tracks") / f"{name}.wav"
        size = round(seconds * RATE)
        wave = rng.normal(0, 0.1, size) * np.sin(np.arange(size) / 9e3)
        soundfile.write(path, wave, RATE)
        place = {"start": 0, "stop": len(wave), "duration": len(wave) / RATE}
        rows.append({"ID": name, "wav": str(path)} | place)
    return pd.DataFrame(rows)


def frames_of(folder, encoder, table, layers=None):
    cache = FrameCache(folder, encoder, table, layers).open()
    cache.extract(2, bar=False)
    values, readable, _ = cache.load()
    names = table["track"].unique().tolist()
    nothing = {"test": [None] * len(names)}
    chunks = table.assign(split="test"), {"test": names}, nothing, {}, nothing
    found = cache.split("test", LabelledChunks(*chunks), values, readable)
    return {name: values[rows] for name, rows in zip(found.names, found.rows, strict=True)}


@pytest.mark.parametrize("chunk, overlap", [(None, 0), (3, 1), (2.52, 0.04), (30, 6)])
def test_plan(tracks, chunk, overlap):
    table = plan_tracks(tracks, chunk, overlap)
    for track, part in table.groupby("track"):
        total = round(tracks.set_index("ID").loc[track, "duration"] * 25 + 0.49)
        assert part["keep"].sum() == total
        first = np.rint(part["start"] / RATE * 25) + part["skip"]  # of what is kept
        assert first.tolist() == np.append(0, part["keep"].cumsum()[:-1]).tolist()
    assert table["duration"].max() <= (chunk or 10) + 1e-6


def test_frames_do_not_depend_on_chunks(tracks, tmp_path):
    """Mel frames see 43 ms on each side: those of chunks that overlap are those of the whole."""
    whole = frames_of(tmp_path / "a", MelEncoder(), plan_tracks(tracks))
    parts = frames_of(tmp_path / "b", MelEncoder(), plan_tracks(tracks, 3, 0.4))
    assert set(whole) == {"long", "short", "tiny"} and whole["long"].shape == (250, 1, 512)
    for name, frames in whole.items():
        assert frames.dtype == np.float16
        np.testing.assert_allclose(parts[name], frames, atol=2e-2, err_msg=name)


def test_frames_of_an_encoder_in_chunks(tmp_path):
    """Its convolutions see no border of a chunk; its means over the context are of the chunk.

    Stated in recipes/README.md: with 6 s of overlap the front-end's states are those of the whole
    track, those of the blocks differ by a median under 0.1 of their norm, and nowhere by over 0.5.
    """
    rng, size = np.random.default_rng(0), 70 * RATE
    wave = rng.normal(0, 0.1, size) * np.sin(np.arange(size) / 9e3)
    soundfile.write(tmp_path / "long.wav", wave, RATE)
    place = {"start": 0, "stop": size, "duration": 70.0, "wav": str(tmp_path / "long.wav")}
    track, encoder = pd.DataFrame([{"ID": "long"} | place]), make_encoders("shipped")[0]
    whole, overlapping, apart = (
        frames_of(tmp_path / name, encoder, plan_tracks(track, *chunks))["long"].astype(float)
        for name, chunks in {"a": (), "b": (30, 6), "c": (30, 0)}.items()
    )
    norm = np.linalg.norm(whole, axis=2)
    difference, at_borders = (
        np.linalg.norm(part - whole, axis=2) / norm for part in (overlapping, apart)
    )
    assert difference[:, 0].max() < 1e-3 < 0.1 < at_borders[:, 0].max()
    assert np.median(difference) < 0.1 and difference.max() < 0.5


def test_layers_and_size(tracks, tmp_path):
    encoder = ExportEncoder(WaveEncoder(*untrained_model(), {}), "tiny")
    table = plan_tracks(tracks)
    both = frames_of(tmp_path, encoder, table)
    last = frames_of(tmp_path, encoder, table, ["2"])
    np.testing.assert_array_equal(both["long"][:, 2:], last["long"])
    exact = encoder.frames(*wave_of(tracks.iloc[1]))[0][0]
    np.testing.assert_allclose(both["short"], exact, atol=2e-3, rtol=1e-3)
    with pytest.raises(UserError, match="has no layer 7: choose of 0, 1, 2"):
        FrameCache(tmp_path, encoder, table, [7])


def test_bytes_of_a_clip(tracks):
    """30 s of the front-end and 12 layers of 512 values: 10 MB; of three layers: 2.3 MB."""
    encoder = FrozenEncoder("full", "ab", 24000, map(str, range(13)), width=512, frame_rate=25)
    clip = tracks.iloc[:1].assign(duration=30.0, stop=30 * RATE)
    for layers, megabytes in ((None, 10), ([4, 8, 12], 2.31)):
        shape = FrameCache("unused", encoder, plan_tracks(clip), layers).metadata["shape"]
        assert np.prod(shape) * 2 <= megabytes * 1e6


def wave_of(row):
    wave = torch.from_numpy(read_segment(row["wav"]))
    return wave[None], torch.tensor([len(wave)])


def test_an_interrupted_extraction_is_continued(tracks, tmp_path, monkeypatch):
    encoder, table = (
        ExportEncoder(WaveEncoder(*untrained_model(), {}), "tiny"),
        plan_tracks(tracks, 3, 1),
    )
    whole = frames_of(tmp_path / "a", encoder, table)
    cache = FrameCache(tmp_path / "b", encoder, table).open()
    calls, encode = [], FrameCache.encode

    def stop(self, batch):
        calls.append(batch.rows.tolist())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, batch)

    monkeypatch.setattr(FrameCache, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        cache.extract(2, bar=False)
    again = frames_of(tmp_path / "b", encoder, table)
    assert not set(calls[0]) & set(sum(calls[2:], []))  # what was finished is not computed again
    for name, frames in whole.items():
        np.testing.assert_allclose(again[name], frames, atol=1e-3)


def test_a_track_with_an_unreadable_part_is_left_out(tracks, tmp_path, caplog):
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF")
    table = plan_tracks(pd.concat([tracks, tracks[:1].assign(ID="broken", wav=str(path))]), 3, 1)
    table = table.reset_index(drop=True)
    assert "broken" not in frames_of(tmp_path / "c", MelEncoder(), table)
    assert "is left out" in caplog.text


@pytest.mark.parametrize("chunk, overlap", [(3, 3), (3, 4)])
def test_overlap_is_shorter_than_a_chunk(tracks, chunk, overlap):
    with pytest.raises(UserError, match="set it below chunk_seconds, 3"):
        plan_tracks(tracks, chunk, overlap)


def test_frames_and_pooled_features_have_own_caches(tracks, tmp_path):
    encoder, table = MelEncoder(), plan_tracks(tracks)
    assert (
        FrameCache(tmp_path, encoder, table).folder != FeatureCache(tmp_path, encoder, table).folder
    )


def test_labels_tell_long_annotations_apart():
    """One of 2,000 beats moves by a microsecond: the results are others."""
    times = np.arange(2000) / 2
    moved = times + 1e-6 * (np.arange(2000) == 1000)
    hparams, places = {"name": "beats", "task": BeatTracking()}, np.arange(2000) % 4 + 1
    found = [
        results_key(hparams, [], {"test": [Beats(each, places)]})
        for each in (times, times.copy(), moved)
    ]
    assert found[0] == found[1] != found[2]


def test_results_are_those_of_the_task_as_it_is_set():
    """Of two heads with the same classes, too; objects of a user's own task are no obstacle."""
    heads = "majmin", "majmin", "marble", "decomposed"
    tasks = [*(ChordRecognition(head=head) for head in heads), ChordRecognition(change=4.0)]
    keys = [results_key({"name": "chords", "task": task}, [], {}) for task in tasks]
    assert keys[0] == keys[1] and len(set(keys)) == 4
    own = BeatTracking()
    own.words, own.decoder = {"a"}, len
    assert results_key({"name": "own", "task": own}, [], {})


def test_windows():
    """Each epoch covers the tracks in windows that begin at multiples of `down`, with targets."""
    sizes = [40, 7, 25]
    ends = np.cumsum(sizes)
    rows = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    values = np.arange(ends[-1], dtype=np.float16)[:, None, None]
    split = TrackSplit(values, rows, ["a", "b", "c"], [], [])
    head = FrameHead("mlp", torch.zeros(1, 1), torch.ones(1, 1), 1, down=3)
    targets = [torch.arange(head.steps(size))[:, None] + 100 * i for i, size in enumerate(sizes)]
    windows = TrainingWindows(split, targets, head, window=11, batch_size=2, seed=0)
    batches = list(windows)
    assert len(batches) == len(windows) and windows.window == 12
    for batch in batches:
        for x, length, target in zip(*batch, strict=True):
            track = int(target[0]) // 100
            first = int(x[0]) - rows[track].start
            assert first % 3 == 0 and target[0] % 100 == first // 3
            assert x[:length, 0, 0].tolist() == list(range(int(x[0]), int(x[0]) + length))
            steps = head.steps(int(length))
            assert (target >= 0).sum() == steps and length <= min(12, sizes[track])
    windows.start(2)
    assert [b.x.flatten().tolist() for b in windows] != [b.x.flatten().tolist() for b in batches]
