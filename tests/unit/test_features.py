"""Feature cache: equal to the encoder's output, computed once, refused if not its own."""

import multiprocessing
import os
import resource
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import untrained_model
from tones import write_tones

from speechbrain_music.dataio.audio import audio_info, read_segment
from speechbrain_music.evaluation.chunks import cut_into_chunks
from speechbrain_music.evaluation.features import FeatureCache
from speechbrain_music.models.export import WaveEncoder
from speechbrain_music.models.frozen import ExportEncoder, MelEncoder
from speechbrain_music.models.frozen_encoder import FrozenEncoder
from speechbrain_music.utils.atomic import one_at_a_time
from speechbrain_music.utils.errors import UserError


def table(folder):
    """A manifest of all files of a folder, in chunks of 0.7 s at most."""
    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        info = audio_info(path)
        duration = info.frames / info.sample_rate
        name = str(path.relative_to(folder))
        row = {"ID": name, "wav": str(path), "start": 0, "stop": info.frames}
        rows.append(row | {"duration": duration, "genre": "jazz"})
    return cut_into_chunks(pd.DataFrame(rows), chunk_seconds=0.7, min_last_chunk_seconds=0.1)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder, count=6, seconds=(0.9, 1.9))
    return folder


@pytest.fixture
def own(tones, tmp_path):
    """The tones in a folder that may be changed."""
    return shutil.copytree(tones, tmp_path / "own")


class Level(FrozenEncoder):
    """Mean absolute value and length; may fail at a batch."""

    def __init__(self, fail_at=None, padding_safe=True, identity="ab"):
        super().__init__("level", identity, 16000, ("0",), 2, 16000)
        self.fail_at, self.seen, self.padding_safe = fail_at, [], padding_safe

    def states(self, wave, samples):
        if len(self.seen) == self.fail_at:
            raise KeyboardInterrupt
        self.seen.append(samples.tolist())
        level = wave.abs().sum(1) / samples
        return [torch.stack([level, samples.float()], 1).unsqueeze(1)], torch.ones_like(samples)


def alone(encoder, chunks):
    """Features chunk by chunk, without the cache."""
    found = []
    for chunk in chunks.to_dict("records"):
        native = round((chunk["stop"] - chunk["start"]) / chunk["duration"])
        place = (chunk["start"] / native, chunk["duration"])
        start, length = (round(seconds * encoder.sample_rate, 6) for seconds in place)
        wave = read_segment(chunk["wav"], round(start), int(length), encoder.sample_rate)
        found.append(encoder(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0])
    return torch.stack(found).numpy()


def filled(folder, encoder, chunks, batch_size=3):
    cache = FeatureCache(folder, encoder, chunks).open()
    cache.extract(batch_size, bar=False)
    return cache


@pytest.mark.parametrize("kind", ["mel", "small"])
def test_cached_features_equal_the_encoder_without_a_cache(kind, tones, tmp_path):
    small = ExportEncoder(WaveEncoder(*untrained_model(), {}), "small")
    encoder, chunks = MelEncoder() if kind == "mel" else small, table(tones)
    assert chunks["duration"].nunique() > 3  # or nothing would be padded
    expected = alone(encoder, chunks)
    for batch_size in (1, 3, 8):
        cache = filled(tmp_path / str(batch_size), encoder, chunks, batch_size)
        values, readable, reasons = cache.load()
        assert readable.all() and reasons == {}
        assert values.dtype == np.float32
        assert np.abs(values - expected).max() <= 1e-5 * np.abs(expected).max()


def test_killed_extraction_continues(tones, tmp_path):
    chunks, broken, whole = table(tones), Level(fail_at=2), Level()
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "a", broken, chunks, batch_size=2)
    with pytest.raises(AssertionError):
        FeatureCache(tmp_path / "a", whole, chunks).open().load()
    values, _, _ = filled(tmp_path / "a", whole, chunks, batch_size=2).load()
    assert sum(map(len, broken.seen)) == 4
    assert sum(map(len, whole.seen)) == len(chunks) - 4
    expected = filled(tmp_path / "b", Level(), chunks, batch_size=2).load()[0]
    np.testing.assert_array_equal(values, expected)
    again = Level()
    cache = filled(tmp_path / "a", again, chunks)
    assert again.seen == []
    (cache.folder / "metadata.json").unlink()  # killed before all files were made
    filled(tmp_path / "a", again, chunks)
    assert sum(map(len, again.seen)) == len(chunks)


def test_two_processes_fill_one_cache(tones, tmp_path):
    chunks = table(tones)
    encoders = Level(), Level()
    cache = FeatureCache(tmp_path / "two", encoders[0], chunks).open()
    for rank, encoder in enumerate(encoders):
        part = FeatureCache(tmp_path / "two", encoder, chunks).check()
        part.extract(2, rank=rank, world_size=2, bar=False)
        done = sum(map(len, encoder.seen))
        assert done == len(chunks[rank::2])
    one = filled(tmp_path / "one", Level(), chunks).load()
    np.testing.assert_array_equal(cache.load()[0], one[0])


def test_one_process_makes_a_cache(tones, tmp_path):
    """Another that begins meanwhile waits: the files that the first fills are not replaced."""
    cache = FeatureCache(tmp_path, Level(), table(tones))
    cache.folder.mkdir()
    with one_at_a_time(cache.folder / "metadata.json"):
        other = multiprocessing.get_context("fork").Process(target=cache.open)
        other.start()
        other.join(0.3)
        assert other.is_alive() and not list(cache.folder.glob("*.npy"))
    other.join()
    assert other.exitcode == 0 and cache.check().folder.exists()


def test_features_of_another_encoder_are_refused(tones, tmp_path):
    chunks = table(tones)
    theirs = filled(tmp_path, Level(), chunks)
    ours = FeatureCache(tmp_path, MelEncoder(), chunks)
    shutil.copytree(theirs.folder, ours.folder)
    with pytest.raises(UserError, match="no complete feature cache of mel .*other metadata"):
        ours.open()
    other = FeatureCache(tmp_path, Level(identity="cd"), chunks)  # of the same shape
    shutil.copytree(theirs.folder, other.folder)
    with pytest.raises(UserError, match="no complete feature cache of level .* delete it"):
        other.open()


@pytest.mark.parametrize("name", ["features.npy", "metadata.json"])
def test_a_truncated_cache_is_refused(name, tones, tmp_path):
    cache = filled(tmp_path, Level(), table(tones))
    content = (cache.folder / name).read_bytes()
    for left in (0, 20, 140):
        (cache.folder / name).write_bytes(content[:left])
        with pytest.raises(UserError, match="is no complete feature cache"):
            cache.open()
    (cache.folder / name).write_bytes(content)
    cache.open()


def test_damaged_features_are_computed_again(own, tmp_path):
    chunks = table(own)
    chunks.loc[1, "wav"] = str(tmp_path / "lost.wav")
    cache = filled(tmp_path / "f", Level(), chunks)
    before, readable, reasons = (np.array(part) for part in cache.load())
    assert list(reasons.item()) == [1]
    np.load(cache.folder / "features.npy", mmap_mode="r+")[2, 0, 1] = np.nan
    again = Level()
    values, *found = filled(tmp_path / "f", again, chunks).load()
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(found[0], readable)
    assert found[1] == reasons.item() and sum(map(len, again.seen)) == 1


def test_metadata_of_another_form_are_refused(tones, tmp_path):
    cache = filled(tmp_path, Level(), table(tones))
    for text in ("[]", "null", "[" * 10**5):
        (cache.folder / "metadata.json").write_text(text)
        with pytest.raises(UserError, match="is no complete feature cache"):
            cache.open()


def test_features_that_are_not_finite_are_left_out(tones, tmp_path):
    class Broken(Level):
        def states(self, wave, samples):
            (features,), frames = super().states(wave, samples)
            return [features / (samples.view(-1, 1, 1) != features[0, 0, 1])], frames

    chunks = table(tones)
    _, readable, reasons = filled(tmp_path, Broken(), chunks, batch_size=1).load()
    assert not readable.any() and "features of level are not finite" in reasons[0]


def test_an_unwritable_folder_and_a_full_disk_are_user_errors(tones, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .* choose another feature_folder"):
        FeatureCache(tmp_path / "file/below", Level(), table(tones)).open()

    cache = FeatureCache(tmp_path / "full", Level(), table(tones))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        with pytest.raises(UserError, match="File too large.* or free disk space"):
            cache.open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(cache.folder.iterdir()) == []


def test_unreadable_chunks_are_listed_and_the_others_correct(own, tmp_path, caplog):
    chunks = table(own)
    expected = alone(Level(), chunks)
    (own / "waltz.wav").unlink()
    march = own / "march.flac"
    march.write_bytes(march.read_bytes()[:3000])
    cache = filled(tmp_path / "f", Level(), chunks)
    values, readable, reasons = cache.load()
    lost = chunks.index[chunks["wav"].str.contains("waltz|march")].tolist()
    assert set(reasons) == set(np.flatnonzero(~readable)) and set(reasons) <= set(lost)
    gone = chunks.index[chunks["wav"].str.contains("waltz")]
    assert all("waltz.wav: does not exist" in reasons[row] for row in gone)
    assert any("march.flac" in reason for reason in reasons.values())
    assert "waltz.wav: does not exist" in caplog.text and "left out" in caplog.text
    whole = [row for row in chunks.index if row not in lost]
    np.testing.assert_allclose(values[whole], expected[whole], rtol=1e-6)
    again = Level()
    assert filled(tmp_path / "f", again, chunks).load()[2] == reasons and again.seen == []


def test_the_key_depends_on_content_not_on_folder_or_label(own, tmp_path):
    def key(chunks, encoder=None):
        return FeatureCache("", encoder or Level(), chunks).folder.name

    chunks = table(own)
    first = key(chunks)
    assert key(chunks.assign(genre="blues", key="C major")) == first
    shutil.copytree(own, tmp_path / "moved")  # keeps the time of change
    assert key(table(tmp_path / "moved")) == first
    assert key(chunks, Level(identity="cd")) != first
    assert key(chunks.assign(start=chunks["start"] + 1)) != first
    assert key(chunks.iloc[1:]) != first and key(chunks.iloc[::-1]) != first

    path = own / "waltz.wav"
    content, state = path.read_bytes(), path.stat()
    path.write_bytes(content[:-2] + b"xy")  # as long, of the same name
    assert key(chunks) != first
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert key(chunks) == first
    path.write_bytes(content + b"xy")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert key(chunks) != first
    path.unlink()
    assert key(chunks) != first


def test_an_encoder_that_is_not_padding_safe_gets_equal_lengths(own, tmp_path):
    chunks, encoder = table(own), Level(padding_safe=False)
    rate = (chunks["stop"] - chunks["start"]) / chunks["duration"]
    # A manifest that overstates a length, as headers of mp3 do: the file ends before.
    last = chunks.index[chunks["wav"].str.contains("waltz")][-1]
    chunks.loc[last, "duration"] = 0.7
    chunks.loc[last, "stop"] = chunks.loc[last, "start"] + int(0.7 * rate[last])
    assert chunks["duration"].nunique() > 3
    values, readable, _ = filled(tmp_path / "f", encoder, chunks, batch_size=4).load()
    assert all(len(set(lengths)) == 1 for lengths in encoder.seen)
    assert max(map(len, encoder.seen)) > 1 and readable.all()
    np.testing.assert_allclose(values, alone(Level(), chunks), rtol=1e-6)
    assert values[last, 0, 1] < 0.7 * 16000  # it is not filled up
