"""The random-projection quantizer: nearest neighbours, fixed weights."""

import pytest
import speechbrain.nnet.quantisers as theirs
import torch
from torch.nn import functional as F

from speechbrain_music.nnet import quantizer as ours
from speechbrain_music.nnet.quantizer import RandomFiniteScalarQuantizer, RandomProjectionQuantizer


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distances(quantizer, x):
    """(N, rows, size) squared distances of unit vectors, in float64, straight from the paper."""
    rows = F.normalize(x.double().flatten(0, -2) @ quantizer.projection.double(), dim=-1)
    codes = F.normalize(quantizer.codebook.double(), dim=-1)
    return (rows.unsqueeze(2) - codes.unsqueeze(1)).square().sum(-1)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_nearest_entry_by_brute_force(codebooks):
    quantizer = RandomProjectionQuantizer(24, 5, 300, codebooks, seed=1)
    x = vectors(3, 200, 24)
    tokens = quantizer(x).view(600, codebooks).T
    near = distances(quantizer, x).topk(2, largest=False)
    clear = near.values[..., 1] - near.values[..., 0] > 1e-6  # float32 cannot tell closer ones
    assert clear.float().mean() > 0.99
    assert torch.equal(tokens[clear], near.indices[..., 0][clear])


def test_tokens_equal_speechbrain_and_do_not_depend_on_scale():
    reference = theirs.RandomProjectionQuantizer(input_dim=24, cb_dim=8, cb_vocab=300)
    quantizer = RandomProjectionQuantizer(24, 8, 300)
    quantizer.projection[0], quantizer.codebook[0] = reference.P, reference.CB
    x = vectors(1, 400, 24)  # SpeechBrain's takes items of a batch apart; one is enough
    near = distances(quantizer, x)[0].topk(2, largest=False).values
    clear = near[:, 1] - near[:, 0] > 1e-6
    expected = torch.stack([reference(row.view(1, 1, -1)).squeeze() for row in x[0]])
    assert torch.equal(quantizer(x)[0][clear], expected[clear])
    assert torch.equal(quantizer(x), quantizer(1024 * x))
    assert 0 <= quantizer(torch.zeros(1, 1, 24)).item() < 300
    with pytest.raises(ValueError, match=r"24 values.*has 15.*\(B, T, 24\)"):
        quantizer(torch.zeros(1, 2, 15))


@pytest.mark.parametrize("dim, levels, books", [(5, 6, 1), (3, 4, 2)])
def test_random_fsq_takes_the_nearest_point_of_its_grid(dim, levels, books):
    quantizer = RandomFiniteScalarQuantizer(512, dim, levels**dim, num_codebooks=books, seed=1)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, levels)] * dim, indexing="ij")
    grid = torch.stack([axis.flatten() for axis in reversed(axes)], dim=1)
    x = vectors(1, 200, 512)
    for projection, tokens in zip(quantizer.projection, quantizer(x).view(200, -1).T, strict=True):
        latent = (x[0] @ projection).tanh()
        nearest = torch.cdist(latent, grid).amin(dim=1)
        torch.testing.assert_close((latent - grid[tokens]).norm(dim=1), nearest)
        assert 0.5 < latent.std() < 0.8  # of tanh of a normal: 0.63
    plain = RandomProjectionQuantizer(512, dim, levels**dim, num_codebooks=books, seed=1)
    assert quantizer.config != plain.config and "codebook" not in quantizer.state_dict()
    with pytest.raises(ValueError, match="codebook_size is 8192: for codebook_dim 5 choose 7776"):
        RandomFiniteScalarQuantizer(512, 5, 8192)


def test_initial_values():
    quantizer = RandomProjectionQuantizer(512, 16, 2000, num_codebooks=2)
    assert quantizer.projection.shape == (2, 512, 16)
    assert quantizer.codebook.shape == (2, 2000, 16)
    assert not list(quantizer.parameters())
    limit = (6 / (512 + 16)) ** 0.5  # Xavier's
    assert 0.99 * limit < quantizer.projection.abs().max() <= limit
    torch.testing.assert_close(quantizer.codebook.norm(dim=-1), torch.ones(2, 2000))
    assert quantizer.codebook.mean(dim=1).abs().max() < 0.05  # every direction alike
    assert not torch.equal(*quantizer.codebook) and not torch.equal(*quantizer.projection)
    x = vectors(2, 7, 512)
    both = quantizer(x)
    assert both.shape == (2, 7, 2) and both.dtype == torch.int64
    assert not torch.equal(both[..., 0], both[..., 1])
    assert RandomProjectionQuantizer(512)(x).shape == (2, 7)


def test_depends_on_own_seed_only():
    before = torch.get_rng_state()
    first, same, other = (RandomProjectionQuantizer(32, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    for name, buffer in first.state_dict().items():
        assert torch.equal(buffer, same.state_dict()[name])
        assert not torch.equal(buffer, other.state_dict()[name])
    other.load_state_dict(first.state_dict(), strict=True)
    x = vectors(1, 50, 32)
    assert torch.equal(first(x), other(x))


def test_float32_under_autocast():
    quantizer = RandomProjectionQuantizer(512)
    x = vectors(1, 300, 512)
    with torch.autocast("cpu", torch.bfloat16):
        inside = quantizer(x)
        coarse = (x[0] @ quantizer.projection[0] @ quantizer.codebook[0].T).argmax(dim=-1)
    assert torch.equal(inside, quantizer(x))
    assert not torch.equal(inside[0], coarse)  # so it would have shown


def test_chunk_boundaries(monkeypatch):
    quantizer = RandomProjectionQuantizer(16, 4, 50)
    x = vectors(1, 15, 16)
    whole = quantizer(x)
    monkeypatch.setattr(ours, "CHUNK", 7)
    for rows in (1, 6, 7, 8, 14, 15):
        assert torch.equal(quantizer(x[:, :rows]), whole[:, :rows])


def test_centred_tokens_do_not_depend_on_the_level():
    x = vectors(2, 50, 24)
    level = 3 * vectors(2, 50, 1, seed=1)
    plain, centred = (RandomProjectionQuantizer(24, 8, 300, center=c) for c in (False, True))
    assert torch.equal(centred(x), centred(x + level))
    assert not torch.equal(plain(x), plain(x + level))
    assert torch.equal(centred(x), plain(x - x.mean(dim=-1, keepdim=True)))
