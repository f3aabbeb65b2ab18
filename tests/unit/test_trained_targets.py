"""Trained quantizers as targets: equations, codebook use, files of others."""

import pytest
import spoil
import torch
from spoil import in_config

from speechbrain_music.models.encoder import make_encoder
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.ssl import stack_frames, tokenize
from speechbrain_music.models.targets import load_layer, load_targets, save_targets, vector_size
from speechbrain_music.nnet.normalization import NORMALIZATIONS
from speechbrain_music.nnet.residual_quantizer import CodebookLearner, ResidualQuantizer
from speechbrain_music.utils.errors import UserError


def make(width=512, seed=0):
    torch.manual_seed(seed)
    return ResidualQuantizer(width, codebook_dim=6, codebook_size=20, num_codebooks=3)


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- the quantizers ----


def test_rvq_stage_takes_nearest_entry_to_residual():
    quantizer, latent = make(), vectors(50, 6)
    tokens, near = quantizer.nearest(latent)
    left = latent.clone()
    for stage, codebook in enumerate(quantizer.codebook):
        distances = (left.unsqueeze(1) - codebook).square().sum(dim=-1)
        assert torch.equal(tokens[:, stage], distances.argmin(dim=1))
        left -= codebook[tokens[:, stage]]
    torch.testing.assert_close(near, latent - left)


def learned(latent, steps=40, seed=0, **sizes):
    """A quantizer whose codebooks have learned these vectors (M, d), and its learner."""
    torch.manual_seed(seed)
    quantizer = ResidualQuantizer(latent.shape[1], latent.shape[1], **sizes)
    learner = CodebookLearner(quantizer, decay=0.9)
    for step in range(steps):
        learner.observe(latent, quantizer.nearest(latent)[0])
        learner.update(learner.window, latent.roll(7 * step, dims=0)[:48])
    return quantizer, learner


def test_rvq_error_falls_with_each_stage():
    latent = vectors(600, 4)
    quantizer, _ = learned(latent, codebook_size=16, num_codebooks=4)
    nearest = [quantizer.nearest(latent, stages) for stages in range(5)]
    errors = [(latent - near).square().mean() for _, near in nearest]
    assert all(after < 0.7 * before for before, after in zip(errors, errors[1:], strict=False))
    tokens = nearest[-1][0]
    assert all(len(column.unique()) == 16 for column in tokens.T)


def test_dead_entries_are_reinitialised_and_counted():
    quantizer = ResidualQuantizer(2, 2, codebook_size=4, num_codebooks=2)
    learner = CodebookLearner(quantizer, decay=0.5)
    latent = torch.tensor([[5.0, 0.0], [0.0, 5.0]]).repeat(20, 1)
    quantizer.codebook[:, 0], quantizer.codebook[:, 1:] = 0.0, 100.0  # too far for anything
    offered = torch.tensor([[5.0, 0.0], [4.0, 1.0], [0.0, 5.0], [1.0, 4.0]])
    learner.observe(latent, quantizer.nearest(latent)[0])
    learner.update(learner.window, offered)
    # Of three dead entries in a stage two can be put somewhere: on vectors of the stage's own.
    torch.testing.assert_close(quantizer.codebook[0, 0], latent.mean(dim=0))
    torch.testing.assert_close(quantizer.codebook[0, 1:3], offered[0::2])
    left = offered[1::2] - quantizer.nearest(offered[1::2], stages=1)[1]
    torch.testing.assert_close(quantizer.codebook[1, 1:3], left)
    assert left.abs().sum() > 0
    assert (quantizer.codebook[:, 3] == 100).all()
    assert learner.reinitialised.tolist() == [2, 2]
    assert not learner.window.any()


def test_straight_through_gradient():
    quantizer, x = make(12), vectors(1, 30, 12)
    weight = vectors(1, 30, 12, seed=1)
    (quantizer.learn(x).vectors * weight).sum().backward()
    straight = [quantizer.down.weight.grad.clone(), quantizer.up.bias.grad.clone()]
    quantizer.zero_grad()
    (quantizer.up(quantizer.down(x)) * weight).sum().backward()
    for ours, plain in zip(straight, (quantizer.down.weight, quantizer.up.bias), strict=True):
        torch.testing.assert_close(ours, plain.grad)
    assert straight[0].any()


def test_commitment_loss_trains_down_projection_only():
    quantizer = make()
    quantizer.learn(vectors(20, 512)).commitment_loss.sum().backward()
    assert quantizer.down.weight.grad.any() and quantizer.up.weight.grad is None
    assert not quantizer.codebook.requires_grad


def test_token_shape_is_that_of_random_projection():
    quantizer = make()
    config, books = quantizer.config, quantizer.config["num_codebooks"]
    tokens = quantizer(vectors(2, 7, 512))
    assert tokens.shape == (2, 7, 3)
    assert tokens.dtype == torch.int64 and not tokens.requires_grad
    assert 0 <= tokens.min() and tokens.max() < config["codebook_size"]
    back = quantizer.learn(vectors(2, 7, 512))
    assert torch.equal(back.tokens.squeeze(-1), tokens) and back.tokens.shape == (2, 7, books)
    assert quantizer(torch.zeros(1, 0, 512)).numel() == 0
    for call in (quantizer, quantizer.learn):
        with pytest.raises(ValueError, match=r"512 values.*has 15.*\(B, T, 512\)"):
            call(torch.zeros(1, 2, 15))


def test_float32_under_autocast():
    quantizer, x = make(), vectors(1, 300, 512)
    with torch.autocast("cpu", torch.bfloat16):
        inside, back = quantizer(x), quantizer.learn(x).vectors
        coarse = quantizer.nearest(quantizer.down(x).float())[0].squeeze(-1)
    assert torch.equal(inside, quantizer(x)) and torch.equal(back, quantizer.learn(x).vectors)
    assert not torch.equal(inside, coarse)  # so it would have shown


@pytest.mark.parametrize("name", ["decay", "dead_code_threshold"])
def test_values_out_of_range(name):
    with pytest.raises(ValueError, match=f"{name} is 1.0: it must be between 0 and 1"):
        CodebookLearner(make(), **{name: 1.0})


# ---- as targets ----


def features_of(mean=-5.0, normalization="band"):
    features, generator = LogMel(normalization), torch.Generator().manual_seed(0)
    statistics = torch.randn(128, generator=generator), torch.rand(128, generator=generator)
    features.normalize.set_statistics(mean + statistics[0], 1 + statistics[1])
    return features


@pytest.fixture
def folder(tmp_path):
    save_targets(tmp_path / "quantizer", make(), features_of(), steps=10)
    return tmp_path / "quantizer"


def test_saved_and_loaded_targets_are_equal(folder):
    before = torch.get_rng_state()
    targets = load_targets(folder)
    assert torch.equal(torch.get_rng_state(), before)  # else a choice of targets would be a seed
    quantizer, x = make(), vectors(2, 9, 512)
    assert torch.equal(targets(x), quantizer(x))
    assert not any(p.requires_grad for p in targets.parameters())
    assert targets.config.items() >= ({"kind": "rvq"} | quantizer.config).items()
    torch.testing.assert_close(targets.mean, features_of().normalize.mean)
    for width in (1, 15):
        with pytest.raises(ValueError, match=rf"512 values.*has {width}: pass"):
            targets(torch.zeros(1, 2, width))


def test_config_hash_depends_on_weights_and_statistics(folder):
    first = load_targets(folder).config
    for quantizer, features in ((make(seed=1), features_of()), (make(), features_of(-4))):
        save_targets(folder, quantizer, features)
        other = load_targets(folder).config
        assert {key for key in first if first[key] != other[key]} == {"weights"}
    save_targets(folder, make(), features_of(), steps=11)
    assert load_targets(folder).config == first


@pytest.mark.parametrize("other", NORMALIZATIONS)
def test_tokens_do_not_depend_on_normalisation(folder, other):
    targets = load_targets(folder)
    wave, samples = 0.1 * vectors(2, 24000), torch.tensor([24000, 24000])
    own = make()(stack_frames(features_of()(wave, samples)[0]))
    features = features_of(mean=-2.0, normalization=other)
    mel = stack_frames(features(wave, samples)[0])
    assert not torch.equal(targets(mel), own)
    targets.follow(features.normalize)
    assert (targets(mel) == own).float().mean() > 0.98  # but for what lies between two
    targets.follow(features_of().normalize)
    assert torch.equal(targets(stack_frames(features_of()(wave, samples)[0])), own)


def test_tokens_of_padded_item(folder):
    targets, features = load_targets(folder), features_of()
    wave, lengths = 0.1 * vectors(2, 24000), torch.tensor([24000, 10000])
    together = targets(stack_frames(features(wave, lengths)[0]))
    for row, length in enumerate(lengths):
        alone = targets(stack_frames(features(wave[row : row + 1, :length], length.view(1))[0]))
        assert torch.equal(together[row, : alone.shape[1]], alone[0])


# ---- a hidden state in place of the log-mel ----


@pytest.fixture
def taught(tmp_path):
    """An export, and a quantizer of its layer 1 in a folder."""
    torch.manual_seed(0)
    encoder = make_encoder(num_layers=2, d_model=8, nhead=2, frontend_channels=2).eval()
    save_export(tmp_path / "export", encoder, features_of())
    teacher = load_layer(f"{tmp_path / 'export'}:1")
    assert vector_size(teacher) == 8 and vector_size(None) == 512
    save_targets(tmp_path / "quantizer", make(8), features_of(), teacher)
    return load_export(tmp_path / "export"), tmp_path / "quantizer"


@pytest.mark.parametrize("mean", [-4.5, -2.0])
def test_tokens_of_a_teacher(taught, mean):
    """Those of the export's own hidden state, whatever the student's statistics; masked or not."""
    (model, folder), wave = taught, 0.1 * vectors(2, 24000)
    lengths, targets = torch.tensor([24000, 10000]), load_targets(folder)
    features = features_of(mean)
    targets.train().follow(features.normalize)
    mel, tokens = features(wave, lengths)
    found = tokenize(targets, stack_frames(mel), tokens)
    where = vectors(*found.shape[:2]) > 0
    assert torch.equal(tokenize(targets, stack_frames(mel), tokens, where), found[where])
    for row, length in enumerate(tokens):
        hidden = model(wave[row : row + 1, : lengths[row]])[1][1]
        hidden = (hidden - hidden.mean(-1, keepdim=True)) / hidden.std(-1, False, keepdim=True)
        same = found[row, :length] == make(8)(hidden)[0]
        assert same.float().mean() > 0.97  # but for what lies between two


def in_teacher(change):
    return in_config(lambda config: change(config["quantizer"]["teacher"]))


TEACHER_FAULTS = {
    "no layer": (in_teacher(lambda t: t.pop("layer")), "layer is None"),
    "nothing to teach": (in_teacher(lambda t: t.pop("encoder")), "num_layers is None"),
    "no such layer": (in_teacher(lambda t: t.update(layer=3)), "layer is 3.*from 0 to 2"),
    "no whole number": (in_teacher(lambda t: t.update(layer="1")), "layer is '1'"),
    "unknown key": (in_teacher(lambda t: t.update(code="x")), "code is unknown"),
    "no encoder": (in_teacher(lambda t: t.update(encoder=[])), "frontend|num_layers|list"),
    "many layers": (in_teacher(lambda t: t["encoder"].update(num_layers=10**9)), "num_layers is"),
    "a list": (in_config(lambda c: c["quantizer"].update(teacher=[1])), "1 is unknown|describes"),
    "another width": (in_config(lambda c: c["quantizer"].update(input_dim=9)), "it must be 8"),
}


@pytest.mark.parametrize("name", TEACHER_FAULTS)
def test_damaged_teacher_is_one_sentence(taught, name):
    spoil_folder, words = TEACHER_FAULTS[name]
    spoil_folder(taught[1])
    with pytest.raises(UserError, match=words) as caught:
        load_targets(taught[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["export", "export:x", ":1", "export:-1", "export:9"])
def test_no_teacher_of_that_name(taught, source):
    folder = taught[1].parent
    with pytest.raises(UserError, match="features_from is .*(write EXPORT:LAYER|from 0 to 2)"):
        load_layer(source.replace("export", str(folder / "export")))


# ---- files of strangers ----


def in_quantizer(**values):
    return in_config(lambda config: config["quantizer"].update(values))


DOWN = "quantizer.down.weight"
FAULTS = spoil.faults("quantizer", DOWN) | {
    "unknown key": (in_quantizer(hidden=3), "unexpected keyword argument 'hidden'"),
    "no configuration": (in_config(lambda c: c.update(quantizer=[1])), "it needs the kind"),
    "unknown kind": (in_quantizer(kind="builtins.exec"), "it needs the kind rvq"),
    "kind is a list": (in_quantizer(kind=["rvq"]), "it needs the kind"),
    "missing key": (
        in_config(lambda c: c["quantizer"].pop("input_dim")),
        "input_dim is None: it must be 512",
    ),
    "other input": (in_quantizer(input_dim=128), "input_dim is 128: it must be 512"),
    "contradiction": (in_quantizer(num_codebooks=2), "config.json"),
    "no size": (in_config(lambda c: c["quantizer"].pop("codebook_size")), "is not all of"),
    "words for a number": (in_quantizer(codebook_size="20"), "describes no quantizer"),
    "no entries": (in_quantizer(codebook_size=0), "has a size that is no whole number above 0"),
    "no width": (in_quantizer(codebook_dim=0), "has a size that is no whole number above 0"),
    "no codebook": (in_quantizer(num_codebooks=0), "has a size that is no whole number above 0"),
}
SIZES = [{"codebook_size": size} for size in (10**9, 10**30, 0)] + [{"codebook_dim": 10**9}]
SIZES += [{"num_codebooks": count} for count in (-1, 10**6)] + [{"levels": [5, 4, 3]}]


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_folder_is_one_sentence(folder, name):
    spoil_folder, words = FAULTS[name]
    spoil_folder(folder)
    spoil.refused(load_targets, folder, words)


@pytest.mark.parametrize("sizes", SIZES)
def test_wrong_sizes_are_refused_before_allocation(folder, sizes):
    in_quantizer(**sizes)(folder)
    spoil.refused(load_targets, folder, "")
