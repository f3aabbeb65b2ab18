"""Probes trained together equal those trained alone with torch's own modules."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from speechbrain.utils.run_opts import RunOptions
from torch import nn

from speechbrain_music.evaluation import probes as module
from speechbrain_music.evaluation.features import FeatureSplit, TrainingBatches, load_in_order
from speechbrain_music.evaluation.probes import (
    ProbeBrain,
    choose_on_validation,
    evaluate_on_test,
    train_probes,
)
from speechbrain_music.evaluation.protocol import load_task
from speechbrain_music.evaluation.results import compare_layers
from speechbrain_music.metrics import feature_statistics
from speechbrain_music.metrics.feature_statistics import (
    make_standardizations,
    mean_and_std,
    whitening,
)
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.nnet.probes import ProbeStack

LAYERS, DIM, HIDDEN = 3, 6, 8
LETTER = SingleLabel("letter", "abcd")


def sweep(splits, hparams):
    """All probes, the chosen ones and their test logits, evaluated in several batches."""
    features = SimpleNamespace(encoder=SimpleNamespace(layers=("0", "1", "2")), splits=splits)
    run_opts = RunOptions(noprogressbar=True, device="cpu")
    run = SimpleNamespace(hparams=hparams | {"task": LETTER}, run_opts=run_opts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_in_order", partial(load_in_order, batch_size=30))
        probes = train_probes(ProbeBrain, features, run)
    best = choose_on_validation(probes)
    layer, lr, logits = best.chosen["layer"], best.chosen["lr"], evaluate_on_test(best)
    mixed, _ = probes.best_of_mix()
    found = {"layer": layer, "lr": lr, "logits": logits, "mixed": mixed, "chosen": best.chosen}
    found["layers"] = compare_layers(LETTER, [(features, probes)], 200)
    return SimpleNamespace(table=probes.table, **found)


def make_splits(seed=0, tracks=(40, 20, 20), chunks=2, noise=1.0):
    """Features in which layer 1 tells the class best, in no order; first tracks have one chunk."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, LAYERS, DIM)) * np.array([0.3, 1.0, 0.1])[:, None]
    splits, values, begin = {}, [], 0
    for name, count in zip(("train", "valid", "test"), tracks, strict=True):
        targets = torch.from_numpy(rng.integers(4, size=count))
        of = torch.arange(count).repeat_interleave(chunks)[chunks - 1 :]
        of = of[torch.from_numpy(np.random.default_rng(count).permutation(len(of)))]
        values.append(centres[targets[of]] + noise * rng.standard_normal((len(of), LAYERS, DIM)))
        rows = np.arange(begin, begin + len(of))
        begin += len(of)
        splits[name] = (rows, of, targets, [f"{name}{i}" for i in range(count)])
    stacked = (3 + 2 * np.concatenate(values)).astype(np.float32)
    return {name: FeatureSplit(stacked, *parts) for name, parts in splits.items()}


def options(**changes):
    """What a recipe's yaml would say, at the size of a test."""
    pairs = {"encoder": "mel", "hidden": HIDDEN, "batch_size": 16, "number_of_epochs": 8}
    pairs |= {"learning_rates": [0.001, 0.01], "probe_seeds": [0, 5], "patience": 3}
    pairs |= {"plateau_patience": 1} | changes
    if "marble_compat" not in changes:
        pairs.setdefault("standardize", True)
    argv = [str(part) for key, value in pairs.items() for part in (f"--{key}", value)]
    return load_task(["hparams/gtzan_genre.yaml", *argv])[1]


@pytest.fixture(scope="module")
def swept():
    """The sweep of `make_splits` with `options`; not to be changed."""
    return sweep(make_splits(), options())


def alone(splits, layer, lr, seed, hparams):
    """One probe, written with torch's modules: (best validation value, epoch, test logits)."""
    train = splits["train"]
    mean, std = map(torch.from_numpy, mean_and_std(train.values, train.rows))
    first = ProbeStack([(layer, seed)], LAYERS, DIM, 4, HIDDEN, hparams["probe_dropout"])
    mix = nn.Parameter(torch.zeros(LAYERS))
    model = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 4))
    with torch.no_grad():
        for linear, number in ((model[0], 1), (model[2], 2)):
            linear.weight.copy_(getattr(first, f"weight{number}")[0].T)
            linear.bias.copy_(getattr(first, f"bias{number}")[0, 0])
    parameters = [*model.parameters(), *([mix] if layer == "all" else [])]
    optimiser = torch.optim.Adam(parameters, lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, "max", 0.5, hparams["plateau_patience"]
    )

    def see(x):
        x = (x - mean) / std
        if layer == "all":
            return (x * mix.softmax(0)[:, None]).sum(1)
        return x[:, layer]

    @torch.no_grad()
    def predict(split):
        logits = model(see(torch.from_numpy(split.values[split.rows])))
        tracks = torch.zeros(len(split.targets), 4).index_add_(0, split.tracks, logits)
        return tracks / split.tracks.bincount().unsqueeze(1)

    dropout = hparams["probe_dropout"]
    batches = TrainingBatches(train, hparams["batch_size"], [seed], HIDDEN, dropout)
    best, best_epoch, kept = -1.0, 0, None
    for epoch in range(1, hparams["number_of_epochs"] + 1):
        batches.start(epoch)
        for batch in batches:
            hidden = model[:2](see(batch.x[0])) * batch.dropout[0]
            loss = nn.functional.cross_entropy(model[2](hidden), batch.targets[0])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        right = predict(splits["valid"]).argmax(1) == splits["valid"].targets
        value = right.double().mean().item()
        if value > best:
            best, best_epoch, kept = value, epoch, predict(splits["test"])
        plateau.step(value)
        if epoch - best_epoch >= hparams["patience"]:
            break
    return best, best_epoch, kept


def test_layers_that_suffice(swept):
    """Layer 1 tells the class best; a layer's score is that of its best learning rate."""
    table = swept.table[swept.table["layer"] != "all"]
    valid = table.groupby(["layer", "lr"])["valid"].mean().groupby("layer").max()
    found = swept.layers
    assert found["valid"] == pytest.approx(valid.to_dict()) and found["best"] == "1"
    assert found["tracks"] == 20 and found["text"] == "layer 1 is better than all others"
    for layer, less in found["less"].items():
        assert less["difference"] == pytest.approx(valid["1"] - valid[layer])
        assert 0 < less["low"] < less["difference"] < less["high"] and less["p"] < 0.05


def test_layers_that_cannot_be_told_apart():
    """All layers are the same; and an encoder without layers."""
    splits = make_splits(noise=0.0)
    for split in splits.values():
        split.values[:] = split.values[:, 1:2]  # the same in all layers
    found = sweep(splits, options()).layers
    best = found["best"]
    assert found["text"] == f"layers 0, 1, 2 cannot be told from the best ({best})"
    assert not any(less["differs"] for less in found["less"].values())
    alone = SimpleNamespace(encoder=SimpleNamespace(layers=()), splits=splits)
    assert compare_layers(LETTER, [(alone, None)]) is None


def test_each_probe_equals_the_one_trained_alone(swept):
    splits, hparams = make_splits(), options()
    assert len(swept.table) == (LAYERS + 1) * 2 * 2
    assert swept.table["epoch"].nunique() > 2  # they end at different times: the stack shrank
    found = {}
    for row in swept.table.itertuples():
        layer = row.layer if row.layer == "all" else int(row.layer)
        valid, epoch, logits = alone(splits, layer, row.lr, row.seed, hparams)
        assert (row.valid, row.epoch) == (pytest.approx(valid, abs=1e-9), epoch), row
        found[row.layer, row.lr, row.seed] = logits
    for seed, logits in zip((0, 5), swept.logits, strict=True):
        expected = found[swept.layer, swept.lr, seed]
        assert (logits - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


def test_layer_and_learning_rate_have_the_best_mean_over_seeds(swept):
    means = swept.table.groupby(["layer", "lr"])["valid"].mean()
    assert means[swept.layer, swept.lr] == means.max()
    assert swept.layer in ("1", "all")
    assert swept.mixed.choices[0][0] == "all" and len(swept.mixed.choices) == 1


def test_validation_chooses_how_features_are_standardised():
    """Noise along one direction hides the classes until features are decorrelated."""
    splits = make_splits(tracks=(300, 100, 20), noise=0.5)
    values = splits["train"].values
    values += 10 * np.random.default_rng(0).standard_normal((len(values), 1, 1)).astype("f4")
    both = sweep(splits, options(standardize="auto", probe_seeds=[0]))
    assert len(both.table) == 2 * (LAYERS + 1) * 2
    means = both.table.groupby("standardize")["valid"].max()
    assert means["whitened"] > means["standardised"]
    assert both.chosen["standardize"] == "whitened"
    alone = sweep(splits, options(standardize="whiten", probe_seeds=[0]))
    assert torch.equal(alone.logits, both.logits)


def test_a_rate_on_the_edge_is_reported(caplog):
    sweep(make_splits(), options(learning_rates=[1e-5, 1e-2]))
    assert (
        "learning rate 0.01 is on the edge of learning_rates: a better one may be higher"
        in caplog.text
    )
    caplog.clear()
    sweep(make_splits(), options(learning_rates=[1e-5, 1e-2, 1e3]))
    assert "edge" not in caplog.text


def test_wrong_test_labels_change_no_choice(swept):
    splits = make_splits()
    wrong = splits["test"].targets.flip(0)
    assert not torch.equal(wrong, splits["test"].targets)
    splits["test"] = splits["test"]._replace(targets=wrong)
    again = sweep(splits, options())
    assert again.table.equals(swept.table)
    assert (again.layer, again.lr) == (swept.layer, swept.lr)
    assert torch.equal(again.logits, swept.logits)


def test_successive_halving_with_many_chunks():
    hparams = options(successive_halving_above=10, patience=8)
    table = sweep(make_splits(), hparams).table
    best = table[table["layer"] != "all"].groupby(["layer", "lr"])["epoch"].max()  # of all seeds
    assert (best <= 1).sum() >= 3  # half of 6, the first epoch


def test_diverging_probe_does_not_change_others(swept):
    hparams = options() | {"learning_rates": [0.001, 0.01, 1e38]}
    table = sweep(make_splits(), hparams).table
    assert table[table["lr"] < 1].reset_index(drop=True).equals(swept.table)


def test_features_that_do_not_vary_stay_finite():
    split = make_splits()["train"]
    split.values[..., 0] = 5.0
    assert (mean_and_std(split.values, split.rows)[1][:, 0] == 1.0).all()
    for kind in (True, "whiten"):
        found = make_standardizations(split.values, split.rows, [kind])
        x = found[kind](torch.from_numpy(split.values))
        assert x.isfinite().all() and x[..., 0].abs().max() < 1e-3


def test_whitening_of_correlated_features():
    split = make_splits(tracks=(400, 2, 2))["train"]
    split.values[..., 1] = split.values[..., 0] + 0.05 * split.values[..., 1]  # nearly one
    whiten = make_standardizations(split.values, split.rows, ["whiten"])["whiten"]
    for x in whiten(torch.from_numpy(split.values[split.rows])).double().transpose(0, 1):
        # The weakest direction stays below 1: some of its weakness may be chance.
        covariance = torch.cov(x.T, correction=0)
        assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 0.5


@pytest.mark.parametrize("tracks, at_a_time", [(5, 2048), (60, 7)])
def test_standardisation_and_shrinkage_equal_numpy_and_scikit_learn(tracks, at_a_time, monkeypatch):
    monkeypatch.setattr(feature_statistics, "AT_A_TIME", at_a_time)
    split = make_splits(tracks=(tracks, 2, 2))["train"]
    mean, std = mean_and_std(split.values, split.rows)
    rows = split.values[split.rows].astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, rows.std(axis=0), rtol=1e-5)
    matrices = whitening(split.values, split.rows, mean, std)
    for layer in range(LAYERS):
        x = (rows[:, layer] - mean[layer]) / std[layer]
        expected = ledoit_wolf_shrinkage(x, assume_centered=True)
        covariance, matrix = x.T @ x / len(x), matrices[layer]
        level = np.trace(covariance) / DIM
        shrunk = (1 - expected) * covariance + expected * level * np.eye(DIM)
        np.testing.assert_allclose(matrix @ shrunk @ matrix, np.eye(DIM), atol=2e-2)


def test_marble_compat_excludes_the_front_end_from_the_mix():
    hparams = options(marble_compat=True)
    assert not hparams["standardize"] and hparams["mix_from"] == 1
    assert hparams["probe_seeds"] == [0, 5]  # an explicit option has precedence
    stack = hparams["probes"]([("all", 0)], LAYERS, DIM, 4)
    weighting = stack.weighting()[0].detach()
    assert weighting[0] == 0 and weighting.sum() == pytest.approx(1)
    assert weighting[1] != weighting[2]  # drawn, not equal parts


def test_choices_must_fit():
    with pytest.raises(ValueError, match="sorted by seed"):
        ProbeStack([(0, 1), (0, 0)], LAYERS, DIM, 4)
    with pytest.raises(ValueError, match="choose 0 to 2, or 'all'"):
        ProbeStack([(3, 0)], LAYERS, DIM, 4)
