"""All probes of a protocol on cached features: trained together, one chosen by validation."""

import logging
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.epoch_loop import EpochCounter

from speechbrain_music.brains.base import Plan
from speechbrain_music.dataio.feature_batches import SequentialChunks, TrainingBatches
from speechbrain_music.dataio.feature_statistics import (
    measure_spectrum,
    standardisation,
    whitening,
)
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.nnet.normalization import Standardization
from speechbrain_music.nnet.probes import ProbeStack
from speechbrain_music.optim.patience import PlateauEarlyStopping

RUNGS = (1, 2, 4, 8)  # epochs after which half of the field ends, where the data are many


class Sweep(NamedTuple):
    """What a sweep gives.

    table: pandas.DataFrame, a row a probe: layer, lr, seed, valid (its best), epoch. layer, lr:
    the chosen pair. logits (S, tracks, C): what its probes answer to the test split. mixed:
    ProbeStack of one, the best on the mix of all layers. standardize: what stands before them.
    variance: (L, d), of the training features' principal directions.

    Example
    -------
    >>> table = pd.DataFrame({"layer": ["0", "all"], "lr": 0.01, "seed": 0, "valid": [0.5, 0.75]})
    >>> swept = Sweep(table, "all", 0.01, torch.zeros(1, 20, 4), None, None, None)
    >>> swept.table.query("layer == @swept.layer and lr == @swept.lr")["valid"].tolist()
    [0.75]
    """

    table: pd.DataFrame
    layer: str
    lr: float
    logits: torch.Tensor
    mixed: ProbeStack
    standardize: Standardization
    variance: np.ndarray


def sweep(brain_class, splits, layers, hparams, run_opts):
    """Trains a probe for each layer (and the mix of all), learning rate and seed.

    Layer and learning rate are chosen by the mean over seeds of the best validation values; the
    test split is answered once, by the chosen probes.

    Arguments
    ---------
    brain_class : type
        A `ProbeBrain` with its task.
    splits : dict
        train, valid, test: FeatureSplit.
    layers : sequence of str
        Names of the hidden states.
    hparams : dict
        learning_rates, probe_seeds, number_of_epochs, batch_size, patience, plateau_patience,
        standardize, probes (a function that makes a ProbeStack), opt_class,
        successive_halving_above.
    run_opts : RunOptions
        For the Brain.

    Returns
    -------
    Sweep

    Example
    -------
    >>> from types import SimpleNamespace
    >>> from speechbrain_music.brains.probe import ProbeBrain
    >>> from speechbrain_music.brains.protocol import load_task
    >>> from speechbrain_music.dataio.feature_batches import FeatureSplit
    >>> class TempoBrain(ProbeBrain):  # recipes take a task of `metrics.tasks`
    ...     task = SimpleNamespace(
    ...         outputs=1,
    ...         loss=lambda logits, targets: (logits[..., 0] - targets).square(),
    ...         select=lambda logits, targets: -(logits[..., 0] - targets).double().abs().mean(1),
    ...     )
    >>> argv = "hparams/gtzan_genre.yaml --encoder mel --quick True --number_of_epochs 2"
    >>> _, hparams, run_opts, _ = load_task([*argv.split(), "--device", "cpu", "--noprogressbar"])
    >>> values = np.random.default_rng(0).standard_normal((6, 2, 4)).astype("f4")
    >>> split = FeatureSplit(values, np.arange(6), torch.arange(6), torch.randn(6), None)
    >>> splits = dict.fromkeys(("train", "valid", "test"), split)
    >>> swept = sweep(TempoBrain, splits, ["0", "1"], hparams, run_opts)
    >>> len(swept.table), swept.logits.shape  # (two layers and the mix) x three learning rates
    (9, torch.Size([1, 6, 1]))
    """
    # SpeechBrain tells of each epoch and each Brain: here there are hundreds.
    for name in ("core", "utils.epoch_loop"):
        logging.getLogger(f"speechbrain.{name}").setLevel(logging.WARNING)
    train = splits["train"]
    standardize, variance = make_standardization(train, hparams["standardize"])
    halving = len(train.rows) > hparams["successive_halving_above"]
    loader = partial(make_loader, batch_size=None)
    make_brain = partial(_make_brain, brain_class, standardize, splits, hparams, run_opts)
    rows, stacks = [], []
    fields = [list(range(len(layers)))] + [["all"]] * (len(layers) > 1)
    for field in fields:
        pairs = [(layer, lr) for layer in field for lr in hparams["learning_rates"]]
        probes = [
            (layer, lr, seed) for seed in sorted(hparams["probe_seeds"]) for layer, lr in pairs
        ]
        stack = hparams["probes"](
            choices=[(layer, seed) for layer, _, seed in probes],
            layers=len(layers),
            dim=train.values.shape[2],
            outputs=brain_class.task.outputs,
        )
        patience = PlateauEarlyStopping(
            len(probes), hparams["plateau_patience"], hparams["patience"]
        )
        rates = torch.tensor([lr for _, lr, _ in probes], dtype=torch.float64)
        brain = make_brain(
            stack,
            patience=patience,
            groups=[{"params": list(stack.parameters()), "lr": rates}],
            rungs=RUNGS if halving else (),
            configurations=torch.tensor([pairs.index((layer, lr)) for layer, lr, _ in probes]),
        )
        batches = TrainingBatches(
            train, hparams["batch_size"], stack.seeds, stack.hidden, stack.dropout
        )
        brain.fit(
            brain.hparams.epoch_counter, loader(batches), loader(SequentialChunks(splits["valid"]))
        )
        for place, (layer, lr, seed) in enumerate(probes):
            name = layer if layer == "all" else layers[layer]
            best, epoch = float(patience.best[place]), int(patience.best_epoch[place])
            rows.append({"layer": name, "lr": lr, "seed": seed, "valid": best, "epoch": epoch})
            stacks.append((stack, place))
    table = pd.DataFrame(rows)
    means = table.groupby(["layer", "lr"], sort=False)["valid"].mean()
    layer, lr = means.idxmax()
    chosen = table.index[(table["layer"] == layer) & (table["lr"] == lr)]
    stack = stacks[chosen[0]][0].recall([stacks[row][1] for row in chosen])
    brain = make_brain(
        stack,
        patience=PlateauEarlyStopping(len(chosen), 1, 1),
        groups=[{"params": list(stack.parameters()), "lr": torch.tensor(0.0)}],
    )
    logits = brain.judge(loader(SequentialChunks(splits["test"])), sb.Stage.TEST)
    mixed = table[table["layer"] == ("all" if len(layers) > 1 else layers[0])]["valid"].idxmax()
    mixed = stacks[mixed][0].recall([stacks[mixed][1]])
    return Sweep(table, layer, float(lr), logits, mixed, standardize, variance)


def make_standardization(train, kind):
    """What stands before the probes, by a training split.

    Arguments
    ---------
    train : FeatureSplit
        The split.
    kind : bool or str
        True for each dimension, "whiten" for uncorrelated ones, too, False for nothing.

    Returns
    -------
    standardize : Standardization
        Of features (..., L, d).
    variance : numpy.ndarray
        (L, d) of the standardised features' principal directions.

    Example
    -------
    >>> from speechbrain_music.dataio.feature_batches import FeatureSplit
    >>> values = np.array([[[1.0, 5.0]], [[3.0, 5.0]]], dtype="f4")
    >>> train = FeatureSplit(values, np.arange(2), None, None, None)
    >>> make_standardization(train, True)[0](torch.from_numpy(values)).tolist()
    [[[-1.0, 0.0]], [[1.0, 0.0]]]
    """
    mean, std = standardisation(train)
    spectrum = measure_spectrum(train, mean, std)
    if not kind:
        return Standardization(torch.zeros(()), torch.ones(())), spectrum.variance
    matrix = torch.from_numpy(whitening(spectrum)) if kind == "whiten" else None
    standardize = Standardization(torch.from_numpy(mean), torch.from_numpy(std), matrix)
    return standardize, spectrum.variance


def _make_brain(brain_class, standardize, splits, hparams, run_opts, stack, **options):
    epochs = hparams["number_of_epochs"]
    steps = -(-len(splits["train"].rows) // hparams["batch_size"])
    return brain_class(
        modules={"probes": stack, "standardize": standardize},
        opt_class=hparams["opt_class"],
        hparams=hparams | {"epoch_counter": EpochCounter(epochs), "precision": "fp32"},
        run_opts=run_opts,
        checkpointer=None,
        plan=Plan(1, steps, steps * epochs),
        learning_rate_factor=lambda step: 1.0,
        targets={sb.Stage[name.upper()]: splits[name].answers for name in ("valid", "test")},
        **options,
    )
