"""Plan and aggregate chunks; embed a long file in bounded memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tiny
from tones import melody

from speechbrain_music.inference.long_audio import (
    Chunk,
    ChunkSpan,
    PoolAggregator,
    batch_chunks,
    group_chunks,
    plan_chunks,
    prefetch,
)

# A process of its own, and not ru_maxrss, which starts at the peak of the parent process.
EMBED = r"""
import json, numpy, re, sys
from pathlib import Path
from speechbrain_music.inference import MusicEncoder
encoder = MusicEncoder.from_export(sys.argv[1], device="cpu")
peaks = []
def note_peak():
    peaks.append(int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]))
for path in sys.argv[2:4]:
    pooled = encoder.encode_file(path, pool="mean_std", batch_size=2)  # reads 8 minutes ahead
    note_peak()
frames = encoder.encode_file(path)
numpy.save(sys.argv[4], frames.values)
note_peak()
print(json.dumps([*peaks, pooled.lengths, frames.times[-1], pooled.values.tolist()]))
"""
MAX_MEMORY = 2 * 2**20  # KiB, as documented in `MusicEncoder.encode_file`


@pytest.mark.parametrize("overlap", [0, 1, 3, 7])
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 15, 16, 17, 23, 100])
def test_plan_keeps_each_token_once(tokens, overlap):
    spans = plan_chunks(tokens, 8, overlap)
    assert [token for span in spans for token in span.keep] == list(range(tokens))
    assert (spans[0].context.start, spans[-1].context.stop) == (0, tokens)
    for (context, keep), (after, keep_after) in zip(spans, spans[1:], strict=False):
        assert len(context) == 8 and context.stop - after.start >= overlap
        assert 2 <= len(after) <= 8
        assert abs((context.stop - keep.stop) - (keep_after.start - after.start)) <= 1


def test_pooled_deviation_is_accurate():
    frames = np.random.default_rng(0).normal(1e4, 1e-2, (5000, 4)).astype("f4")
    pooled = PoolAggregator("mean_std")
    for part in np.split(frames, [1, 2, 3000]):
        pooled.add(0, [part])
    np.testing.assert_allclose(pooled.result()[0, 4:], frames.std(0, dtype="f8"), rtol=1e-6)


def test_batches_hold_chunks_of_similar_length():
    spans = [ChunkSpan(range(n), range(n)) for n in (2, 10, 5, 4, 30)]
    chunks = [Chunk(None, span=span) for span in spans] + [Chunk(None, error=ValueError())]
    batches = [[chunk.tokens for chunk in batch] for batch in batch_chunks(chunks, budget=20)]
    assert batches == [[30], [10, 5], [4, 2]]
    assert [len(group) for group in group_chunks(prefetch(chunks), budget=4)] == [3, 2, 1]


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tmp_path):
    export = tiny.untrained_export(tmp_path / "export", frontend_channels=4)
    minute = melody(60, 24000, 1, np.random.default_rng(0))
    paths = [tmp_path / name for name in ("short.flac", "long.flac", "frames.npy")]
    for path, minutes in zip(paths, (10, 50), strict=False):
        with soundfile.SoundFile(path, "w", 24000, 1) as file:
            for _ in range(minutes):
                file.write(minute)
    command = [sys.executable, "-c", EMBED, str(export), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    short, long, default, tokens, last, pooled = json.loads(result.stdout)
    print(f"peaks in KiB: {short}, {long}, with the default batch {default}")
    assert default < MAX_MEMORY and long - short < 150 * 2**10  # the wave alone would add 219 MiB
    frames = np.load(paths[2], mmap_mode="r")
    assert frames.shape == (tokens, 16) == (75000, 16) and last == 2999.96
    expected = np.concatenate([frames.mean(0, dtype="f8"), frames.std(0, dtype="f8")])
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-6)
