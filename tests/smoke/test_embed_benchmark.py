"""The benchmark of embedding runs, and its peers are of the sizes and rates that it says."""

import json

import numpy as np
import pytest
import torch

from benchmarks import embed
from benchmarks.peers import PEERS

SECONDS, BATCH = 2.0, 2


@pytest.mark.parametrize(
    ("name", "millions"),
    [("Wav2Vec2Conformer", 316), ("MERT-like", 94.4), ("MusicFM-like", 325)],
)
def test_a_peer_has_the_size_of_its_model(name, millions):
    with torch.device("meta"):
        model = PEERS[name].build("full")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peer_gives_tokens_at_its_rate(peer):
    waves = torch.randn(2, 4 * peer.sample_rate)
    model = peer.build("tiny").eval()
    with torch.no_grad():
        states = model(waves)
        alone = model(waves[1:])
    assert 4 * peer.token_rate - 1 <= states.shape[1] <= 4 * peer.token_rate
    assert torch.allclose(states[1:], alone, atol=1e-5)


def test_contenders_embed_the_whole_file(tmp_path):
    contest = embed.embedding("tiny", folder=tmp_path, seconds=SECONDS, batch=BATCH)
    whole = embed.MusicEncoder.from_export(tmp_path / "tiny/brn_sum", device="cpu")
    expected = whole.encode_file(tmp_path / "tiny/music.flac", chunk=SECONDS).values
    assert len(expected) == BATCH * SECONDS * 25
    found = {name: call() for name, call in contest.contenders.items()}
    assert np.allclose(found["brn_sum"], expected.mean(0), atol=1e-5)
    for name in PEERS:
        assert found[name].shape == (BATCH, 16)
        assert np.isfinite(found[name]).all() and not np.allclose(*found[name], rtol=1e-3)


def test_a_tiny_run_is_written(tmp_path, capsys):
    options = f"--tiny --rounds 1 --seconds {SECONDS:g} --batch {BATCH} --out {tmp_path}"
    embed.main(options.split())

    raw = json.loads((tmp_path / "EMBED.json").read_text(encoding="utf-8"))
    text = (tmp_path / "EMBED.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = {name: values for name, *values in rows[1:]}
    assert list(cells) == [*PEERS, *embed.SYSTEMS] == list(raw["models"])
    assert raw["row"]["rounds"] == 1
    times = {name: spread["median"] for name, spread in raw["row"]["seconds"].items()}
    for name, (_, _, speed, *_) in cells.items():
        assert float(speed.split()[0]) == pytest.approx(BATCH * SECONDS / times[name], abs=0.06)
    faster = min(embed.RIVALS, key=times.get)
    assert f"beside {faster}" in text and cells[faster][3] == "1"
    assert options in raw["command"] and raw["machine"]["transformers"]
