"""Chunks of annotated tracks, and the order of a training epoch."""

import numpy as np
import pandas as pd
import pytest
import torch
from tones import write_tones

from speechbrain_music.dataio.audio import audio_info, read_segment
from speechbrain_music.dataio.sampler import ShuffleSampler
from speechbrain_music.evaluation.chunks import ChunkDataset, cut_into_chunks


def row(name, seconds, start=0, rate=10, **more):
    place = {"ID": name, "wav": f"{name}.wav", "start": start, "stop": start + seconds * rate}
    return place | {"duration": float(seconds)} | more


@pytest.mark.parametrize(
    "options, a, b",
    [
        ((), [[0, 70]], [[20, 100]]),
        ((3, 1.5), [[0, 30], [30, 60]], [[20, 50], [50, 80], [80, 100]]),
        ((3, 1), [[0, 30], [30, 60], [60, 70]], [[20, 50], [50, 80], [80, 100]]),
        ((30, 20), [[0, 70]], [[20, 100]]),  # the only chunk is kept
        ((3, 1, 4), [[0, 30], [30, 40]], [[20, 50], [50, 60]]),  # of the first 4 seconds
        ((None, 1, 4), [[0, 40]], [[20, 60]]),
        ((None, 1, 4, None, "middle"), [[15, 55]], [[40, 80]]),
        (
            (3, 1, 7.5, None, "middle"),
            [[0, 30], [30, 60], [60, 70]],
            [[22, 52], [52, 82], [82, 97]],
        ),
    ],
)
def test_tracks_are_cut_into_chunks(options, a, b):
    chunks = cut_into_chunks(pd.DataFrame([row("a", 7), row("b", 8, start=20)]), *options)
    np.testing.assert_allclose(chunks["duration"], (chunks["stop"] - chunks["start"]) / 10)
    for name, expected in (("a", a), ("b", b)):
        assert chunks[chunks["track"] == name][["start", "stop"]].values.tolist() == expected


def test_clips_of_a_track_stay_one_track():
    rows = pd.DataFrame([row("a1", 4, track="a"), row("a2", 2, track="a")])
    before = rows.copy()
    chunks = cut_into_chunks(rows, chunk_seconds=3)
    assert chunks["track"].tolist() == ["a"] * 3 and chunks["ID"].tolist() == ["a1", "a1", "a2"]
    cut_into_chunks(rows, max_seconds=1)
    assert rows.equals(before)  # the caller's table stays


@pytest.fixture(scope="module")
def chunks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for path in write_tones(folder, count=5, seconds=(2, 3)):
        info = audio_info(path)
        rows.append({"ID": path.stem, "wav": str(path), "start": 0, "stop": info.frames})
        rows[-1]["duration"] = info.frames / info.sample_rate
    return cut_into_chunks(pd.DataFrame(rows), chunk_seconds=0.8, min_last_chunk_seconds=0.1)


@pytest.mark.parametrize("sample_rate", [16000, 24000])
def test_chunk_equals_the_part_of_the_file(chunks, sample_rate):
    data = ChunkDataset(chunks, sample_rate)
    batch = data[list(range(len(chunks)))]
    assert batch.rows.tolist() == list(range(len(chunks))) and batch.errors == []
    assert batch.tracks is None and batch.targets is None
    for chunk, wave, length in zip(chunks.itertuples(), batch.wave, batch.samples, strict=True):
        whole = read_segment(chunk.wav, sample_rate=sample_rate)
        native = audio_info(chunk.wav).sample_rate
        start = round(chunk.start * sample_rate / native)
        exact = (chunk.stop - chunk.start) * sample_rate / native
        assert exact - 1.001 <= length <= exact
        np.testing.assert_allclose(wave[:length], whole[start : start + length], atol=1e-4)
        assert wave[:length].abs().max() > 0.01 and (wave[length:] == 0).all()


def test_chunk_has_its_track_and_target(chunks):
    tracks = torch.arange(len(chunks)) // 2
    targets = 10 * torch.arange(len(chunks))
    gone = chunks.copy()
    gone.loc[3, "wav"] = "gone.wav"
    batch = ChunkDataset(gone, 16000, tracks, targets)[[5, 3, 0]]
    assert batch.rows.tolist() == [5, 0]
    assert batch.tracks.tolist() == [2, 0] and batch.targets.tolist() == [20, 0]
    ((row, reason),) = batch.errors
    assert row == 3 and "gone.wav: does not exist" in reason
    nothing = ChunkDataset(gone, 16000, tracks, targets)[[3]]
    assert len(nothing.wave) == len(nothing.targets) == 0 and len(nothing.errors) == 1


def test_epoch_has_every_row_and_a_full_last_batch():
    sampler = ShuffleSampler(count=11, batch_size=2, effective_batch=4)
    batches = list(sampler)
    rows = [row for batch in batches for row in batch]
    assert len(sampler) == len(batches) == 6 and all(len(batch) == 2 for batch in batches)
    assert sorted(rows[:11]) == list(range(11)) and rows[11:] == rows[:1]
    assert list(sampler) == batches
    few = sum(ShuffleSampler(3, 4, 8), [])
    assert len(few) == 8 and few[3:] == few[:3] + few[:2]  # more than once round


@pytest.mark.parametrize("world_size, batch_size", [(2, 4), (2, 2), (4, 1)])
def test_step_has_the_same_rows_on_any_number_of_processes(world_size, batch_size):
    whole = list(ShuffleSampler(30, 8, 8, seed=3))
    ranks = [
        list(ShuffleSampler(30, batch_size, 8, 3, rank, world_size)) for rank in range(world_size)
    ]
    each = 8 // (batch_size * world_size)  # micro-batches of a step
    for step, rows in enumerate(whole):
        parts = [batch for rank in ranks for batch in rank[step * each : (step + 1) * each]]
        assert sorted(sum(parts, [])) == sorted(rows)
    seen = [{row for batch in rank[:3] for row in batch} for rank in ranks]
    assert sum(map(len, seen)) == len(set.union(*seen))  # disjoint, before any is repeated


def test_seed_and_epoch_set_the_order_and_a_resumed_epoch_continues():
    sampler = ShuffleSampler(20, 2, 4, seed=1)
    first = list(sampler)
    sampler.start(2)
    second = list(sampler)
    assert second != first and list(ShuffleSampler(20, 2, 4, seed=2)) != first
    sampler.start(1, batch=3)
    assert list(sampler) == first[3:]
    sampler.start(2, batch=10)
    assert list(sampler) == [] and len(second) == 10
