"""The encoders of others have the sizes and rates of their page; all candidates embed the file."""

import numpy as np
import pytest
import torch

from perf import __main__ as command
from perf import embedding
from perf.embedding import PEERS, SECONDS


@pytest.mark.parametrize(
    ("name", "millions"),
    [("Wav2Vec2Conformer", 316), ("MERT-like", 94.4), ("MusicFM-like", 325)],
)
def test_a_peer_has_the_size_of_its_model(name, millions):
    with torch.device("meta"):
        model = PEERS[name].build("full")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_a_peer_has_its_token_rate_and_independent_items(peer):
    waves = torch.randn(2, 4 * peer.sample_rate)
    model = peer.build("tiny").eval()
    with torch.no_grad():
        states = model(waves)
        alone = model(waves[1:])
    assert 4 * peer.token_rate - 1 <= states.shape[1] <= 4 * peer.token_rate
    assert torch.allclose(states[1:], alone, atol=1e-5)


def test_candidates_embed_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "gpu_batch", lambda device: 2)
    benchmark = embedding.candidates_in("tiny", folder=tmp_path)
    encoder = embedding.MusicEncoder.from_export(tmp_path / "tiny/brn_sum", device="cpu")
    music = tmp_path / "tiny/music.flac"
    expected = encoder.encode_file(music, chunk=float(SECONDS["tiny"])).values
    assert len(expected) == 2 * SECONDS["tiny"] * 25
    found = {name: call() for name, call in benchmark.candidates.items()}
    assert np.allclose(found["brn_sum"], expected.mean(0), atol=1e-5)
    for name in PEERS:
        assert found[name].shape == (2, 16)
        assert np.isfinite(found[name]).all() and not np.allclose(*found[name], rtol=1e-3)


def test_a_tiny_run_becomes_a_page(tmp_path):
    assert command.main(["embedding", "--size", "tiny", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "embedding.md").read_text(encoding="utf-8")
    table = text[text.index("| model") :].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    assert [name.strip("| ") for name, *_ in rows] == [*PEERS, *embedding.SYSTEMS]
    ratios = {name.strip("| "): ratio for name, *_, ratio, _ in rows}
    assert [ratios[name] for name in embedding.BASELINES].count("1") == 1  # the faster, to itself
