"""Draws and items of training depend on the seed alone."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from speechbrain_music.dataio import corpus, segments
from speechbrain_music.dataio.audio import audio_info
from speechbrain_music.dataio.corpus_statistics import corpus_statistics
from speechbrain_music.dataio.sampler import WeightedSegmentSampler, every_row
from speechbrain_music.dataio.segments import (
    TRAIN,
    VALID,
    SegmentDataset,
    SegmentIndex,
    collate,
    split_tracks,
)
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.nnet.quantizer import RandomProjectionQuantizer
from speechbrain_music.utils.errors import UserError


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_tracks_are_drawn_by_their_duration():
    duration = np.array([10800.0] + [30.0] * 1000)  # a concert among songs
    (draws,) = WeightedSegmentSampler(duration, draws=20000, batch_size=20000)
    counts = np.bincount([draw.row for draw in draws], minlength=1001)
    expected = 20000 * duration / duration.sum()
    assert chi_square(counts, expected) < 1175  # 1 in 10,000 of chi-square, 1000 degrees
    (draws,) = WeightedSegmentSampler([0, 1, 0, 1, 0], draws=1000, batch_size=1000)
    assert {draw.row for draw in draws} == {1, 3}


@pytest.mark.parametrize("world_size, batch_size", [(1, 2), (2, 4), (2, 2), (4, 2), (4, 1)])
def test_a_step_consumes_the_same_draws_on_any_number_of_ranks(world_size, batch_size):
    ranks = [
        list(WeightedSegmentSampler(range(1, 9), 48, batch_size, 3, rank, world_size))
        for rank in range(world_size)
    ]
    steps = 8 // (batch_size * world_size)  # accumulation
    found = [
        sorted(draw for rank in ranks for batch in rank[i : i + steps] for draw in batch)
        for i in range(0, len(ranks[0]), steps)
    ]
    assert found == list(WeightedSegmentSampler(range(1, 9), 48, 8, 3))
    assert [draw.index for step in found for draw in step] == list(range(48))
    batches = [b for rank in range(world_size) for b in every_row(11, 3, rank, world_size)]
    assert sorted(draw.row for batch in batches for draw in batch) == list(range(11))


def test_seed_and_epoch_decide_and_a_restart_goes_on():
    sampler = WeightedSegmentSampler(range(1, 9), draws=24, batch_size=4, seed=3)
    first = list(sampler)
    assert list(sampler) == first == list(WeightedSegmentSampler(range(1, 9), 24, 4, seed=3))
    rows = [draw.row for batch in first for draw in batch]
    sampler.start(epoch=1)
    second = list(sampler)
    assert [draw.row for batch in second for draw in batch] != rows
    assert {draw.epoch for batch in second for draw in batch} == {1}
    sampler.start(epoch=0, batch=4)
    assert list(sampler) == first[4:]
    other = WeightedSegmentSampler(range(1, 9), 24, 4, seed=4)
    assert [draw.row for batch in other for draw in batch] != rows


@pytest.fixture(scope="module")
def tracks(tone_folder):
    """A manifest of the tones and of one file that is not there."""
    rows = [{"wav": "gone.wav", "start": 0, "stop": 48000, "duration": 2.0}]
    for path in sorted(p for p in tone_folder.rglob("*") if p.is_file()):
        info = audio_info(path)
        duration = info.frames / info.sample_rate
        rows.append({"wav": str(path), "start": 0, "stop": info.frames, "duration": duration})
    return pd.DataFrame(rows)


def same(one, two):
    tensors = ("wave", "mask", "noise")
    return all(torch.equal(one[name], two[name]) for name in tensors)


def test_an_item_depends_on_its_key_alone(tracks):
    draws = [SegmentIndex(*key) for key in ((0, 5, 1), (0, 6, 1), (1, 5, 1), (0, 7, 2))]
    dataset = SegmentDataset(tracks, 50, seed=1)
    items = [dataset[draw] for draw in draws]
    np.random.seed(9)
    torch.manual_seed(9)
    again = [dataset[draw] for draw in reversed(draws)][::-1]
    assert all(same(one, two) for one, two in zip(items, again, strict=True))
    assert not same(items[0], items[1]) and not same(items[0], items[2])
    for other in ({"seed": 2}, {"seed": 1, "stream": VALID}):
        assert not same(items[0], SegmentDataset(tracks, 50, **other)[draws[0]])


@pytest.mark.parametrize("augment", [False, True])
def test_workers_change_nothing(tracks, augment):
    dataset = SegmentDataset(tracks, 50, stream=TRAIN, augment=augment)
    draws = WeightedSegmentSampler([1.0] * len(tracks), draws=24, batch_size=4)
    runs = [
        list(DataLoader(dataset, batch_sampler=draws, collate_fn=collate, num_workers=workers))
        for workers in (0, 2)
    ]
    assert any(batch.errors for batch in runs[0])
    for one, two in zip(*runs, strict=True):
        assert one.errors == two.errors
        for name in ("wave", "samples", "mask", "noise"):
            assert torch.equal(getattr(one, name), getattr(two, name))


def test_tracks_kept_in_memory_give_the_same_items_and_are_read_once(tracks, monkeypatch):
    draws = [SegmentIndex(0, index, index % len(tracks)) for index in range(3 * len(tracks))]
    read = [SegmentDataset(tracks, 50)[draw] for draw in draws]
    calls, original = [], segments.read_segment
    monkeypatch.setattr(segments, "read_segment", lambda *a: calls.append(a) or original(*a))
    dataset = SegmentDataset(tracks, 50, kept={})
    for draw, item in zip(draws, read, strict=True):
        kept = dataset[draw]
        assert torch.allclose(kept["wave"], item["wave"], atol=1e-4)
        assert torch.equal(kept["mask"], item["mask"]) and torch.equal(kept["noise"], item["noise"])
    found = [call for call in calls if "gone" not in call[0]]
    assert len(found) == len(tracks) - 1


def test_an_unreadable_file_gives_an_item_that_counts_for_nothing(tracks):
    dataset = SegmentDataset(tracks, 50)
    batch = collate([dataset[SegmentIndex(0, 0, 0)], dataset[SegmentIndex(0, 1, 1)]])
    ((path, reason),) = batch.errors
    assert path == "gone.wav" and "gone.wav: does not exist" in reason
    assert not batch.mask[0].any() and not batch.wave[0].any()
    assert batch.mask[1].any() and len(batch.noise) == 4 * batch.mask.sum()
    assert batch.noise.std() == pytest.approx(0.1, rel=0.1)


@pytest.fixture
def reads(monkeypatch):
    """Places that were read, as (start, length) in samples at 24 kHz."""
    places = []

    def read(path, start, length):
        places.append((start, length))
        return np.zeros(length, np.float32)

    monkeypatch.setattr(segments, "read_segment", read)
    return places


def one_track(start, stop, rate):
    row = {"wav": "a.wav", "start": start, "stop": stop, "duration": (stop - start) / rate}
    return pd.DataFrame([row])


@pytest.mark.parametrize("rate", [24000, 48000])
def test_crops_are_uniform_within_the_track(reads, rate):
    dataset = SegmentDataset(one_track(10 * rate, 70 * rate, rate), 500)
    for index in range(2000):
        dataset[SegmentIndex(0, index, 0)]
    starts, lengths = np.array(reads).T
    assert (lengths == 480000).all()
    assert starts.min() >= 240000 and (starts + lengths).max() <= 1680000
    counts, _ = np.histogram(starts, 20, (240000, 1200000))
    assert chi_square(counts, 100) < 51.1  # 1 in 10,000 of chi-square, 19 degrees


def test_short_tracks(reads):
    dataset = SegmentDataset(one_track(48000, 48000 + 44100, 44100), 100)
    dataset[SegmentIndex(0, 0, 0)]
    assert reads.pop() == (round(48000 / 44100 * 24000), 24000)  # taken whole
    for augment in (False, True):  # also one that is played fast can be masked
        dataset = SegmentDataset(one_track(0, 20 * 960 + 3, 24000), 20, augment=augment)
        items = [dataset[SegmentIndex(0, index, 0)] for index in range(50)]
        assert all(item["error"] is None and item["mask"].any() for item in items)
        if not augment:  # the first and the last sample can be reached
            assert {start for start, _ in reads} == {0, 1, 2, 3}


def test_augmented_crops_differ_in_speed_level_and_timbre(monkeypatch):
    def read(path, start, length):
        return np.sin(2 * np.pi * 1000 * np.arange(start, start + length) / 24000, dtype=np.float32)

    monkeypatch.setattr(segments, "read_segment", read)
    dataset = SegmentDataset(one_track(0, 240000, 24000), 50, augment=True)
    waves = [dataset[SegmentIndex(0, index, 0)]["wave"].numpy() for index in range(100)]
    assert all(47999 <= len(wave) <= 48000 for wave in waves)
    pitches = [np.abs(np.fft.rfft(wave)).argmax() / 2 for wave in waves]
    assert 700 < min(pitches) < 800 and 1250 < max(pitches) < 1400
    levels = [20 * np.log10(wave.std() * 2**0.5) for wave in waves]
    assert max(levels) - min(levels) > 15 and np.std(levels) > 4


@pytest.mark.parametrize("start, seconds", [(0, 61.0), (12345, 60.0), (0, 60.7), (7, 0.5)])
def test_pieces_follow_each_other_and_only_a_short_end_is_lost(start, seconds):
    rate = 44100
    track = one_track(start, start + round(seconds * rate), rate).assign(ID="x", genre="waltz")
    pieces = split_tracks(track, 5.0, 0.8)
    assert list(pieces.columns) == list(track.columns)
    rest = seconds % 5.0
    assert len(pieces) == max(1, seconds // 5.0 + (rest >= 0.8))  # a short track is all there is
    edges = [start, *pieces["stop"]]
    assert pieces["start"].tolist() == edges[:-1]
    assert track["stop"][0] - edges[-1] < 0.8 * rate
    lengths = (pieces["stop"] - pieces["start"]) / rate
    np.testing.assert_allclose(pieces["duration"], lengths)
    assert (lengths <= 5.0).all() and (pieces["genre"] == "waltz").all()
    for frames in range(441000, 441400, 7):  # a manifest's duration is rounded
        track = one_track(0, frames, rate).assign(duration=round(frames / rate, 6))
        assert split_tracks(track, 5.0, 5.0)["start"].tolist() == [0, 220500]


@pytest.mark.parametrize("pages, kept", [(14_000, {}), (13_000, None)])
def test_tracks_are_kept_in_memory_only_if_they_fit(pages, kept, monkeypatch, caplog):
    """An hour, decoded: 346 MB; three quarters of the memory are left for the rest."""
    sizes = {"SC_PAGE_SIZE": 100_000, "SC_PHYS_PAGES": pages}
    monkeypatch.setattr("os.sysconf", sizes.get)
    hparams = {"segment_seconds": 2, "seed": 0, "valid_segments": 1, "statistics_segments": 1}
    tracks = one_track(0, 24000 * 1800, 24000)
    data = corpus.make_datasets(
        hparams | {"keep_in_memory": True, "num_workers": 0}, tracks, tracks
    )
    assert data.train.kept == kept and ("turned off" in caplog.text) == (kept is None)
    assert data.train.kept is data.valid.kept


DAMAGE = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "one bit": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "empty": lambda file: file.write_bytes(b""),
    "another array": lambda file: np.savez(file, **dict(np.load(file)) | {"mean": np.zeros(3)}),
    "not finite": lambda file: np.savez(
        file, **dict(np.load(file)) | {"std": np.full(128, np.nan)}
    ),
    "no key": lambda file: np.savez(file, mean=np.zeros(128)),
    "a pickle": lambda file: np.savez(file, key=np.array({"a": 1}, object)),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
}


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_statistics_are_made_again(damage, reads, tmp_path):
    features, quantizer = LogMel(), RandomProjectionQuantizer(512, 4, 16)
    dataset = SegmentDataset(one_track(0, 48000, 24000), 50)
    (tmp_path / "train.csv").touch()
    hparams = {"features": features, "train_csv": tmp_path / "train.csv", "batch_size": 1}
    hparams |= {"output_folder": tmp_path, "num_workers": 0, "segment_seconds": 2, "seed": 0}
    hparams["statistics_segments"] = 1

    def prepare(**changes):
        return corpus_statistics(hparams | changes, dataset, quantizer, bar=False)

    first = prepare()
    DAMAGE[damage](tmp_path / "corpus_statistics.npz")
    reads.clear()
    again = prepare()
    assert reads and all(map(np.array_equal, first, again))
    reads.clear()
    assert all(map(np.array_equal, first, prepare())) and not reads
    with pytest.raises(UserError, match="was made for another corpus"):
        prepare(seed=1)
