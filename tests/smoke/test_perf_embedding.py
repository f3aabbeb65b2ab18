"""The encoders of others have the sizes and rates of their page; all candidates embed the file."""

import numpy as np
import pytest
import torch

from perf import embedding
from perf.embedding import PEERS, SECONDS

MILLIONS = {"Wav2Vec2Conformer": 316, "MERT-like": 94.4, "MusicFM-like": 325}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_has_its_size_its_token_rate_and_independent_items(name):
    peer = PEERS[name]
    with torch.device("meta"):
        full = peer.build("full")
    assert sum(map(torch.numel, full.parameters())) / 1e6 == pytest.approx(MILLIONS[name], 0.01)
    waves = torch.randn(2, 4 * peer.sample_rate)
    model = peer.build("tiny").eval()
    with torch.no_grad():
        states = model(waves)
        alone = model(waves[1:])
    assert 4 * peer.token_rate - 1 <= states.shape[1] <= 4 * peer.token_rate
    assert torch.allclose(states[1:], alone, atol=1e-5)


def test_candidates_embed_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "gpu_batch", lambda device: 2)
    benchmark = embedding.embedding("tiny", folder=tmp_path)
    encoder = embedding.MusicEncoder.from_export(tmp_path / "tiny/brn_sum", device="cpu")
    music = tmp_path / "tiny/music.flac"
    expected = encoder.encode_file(music, chunk=float(SECONDS["tiny"])).values
    assert len(expected) == 2 * SECONDS["tiny"] * 25
    found = {name: call() for name, call in benchmark.candidates.items()}
    assert np.allclose(found["brn_sum"], expected.mean(0), atol=1e-5)
    for name in PEERS:
        assert found[name].shape == (2, 16)
        assert np.isfinite(found[name]).all() and not np.allclose(*found[name], rtol=1e-3)
