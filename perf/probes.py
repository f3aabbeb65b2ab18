"""Probes: a training step of a sweep's probes, and a whole sweep of a GTZAN-sized task."""

import logging
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.benchmark import timer

from perf import SIZES
from perf.benchmark import Benchmark, Comparison, assert_same
from perf.training import HPARAMS
from speechbrain_music.evaluation.features import FeatureSplit
from speechbrain_music.evaluation.probes import (
    ProbeBrain,
    choose_on_validation,
    evaluate_on_test,
    train_probes,
)
from speechbrain_music.evaluation.protocol import load_task
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.nnet.probes import ProbeStack
from speechbrain_music.optim.stacked import StackedAdam

CLASSES = 10
TARGET_MINUTES = 10
SEPARATION = 0.15  # of the class centres, in standard deviations of a track


def probes(size="full", device="cpu", folder=None):
    """A training step of a sweep's probes on single layers, stacked and one by one."""
    layers, dim, rates, seeds, batch = SIZES["probes"][size]
    choices = [(k, seed) for seed in range(seeds) for k in range(layers) for _ in range(rates)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(seeds, batch, layers, dim, generator=generator).to(device)
    targets = torch.randint(CLASSES, (seeds, batch), generator=generator).to(device)
    stack = ProbeStack(choices, layers, dim, CLASSES).to(device)
    optimizer = StackedAdam(stack.parameters(), torch.full((len(choices),), 1e-3))
    batch_of_probe = stack.batch_of(seeds)

    def stacked():
        logits = stack(x).flatten(0, 1)
        losses = F.cross_entropy(logits, targets[batch_of_probe].flatten(), reduction="none")
        losses = losses.view(len(choices), batch)
        optimizer.zero_grad()
        losses.sum().div(batch).backward()
        optimizer.step()
        return [losses.detach().mean(dim=1)]

    alone = []
    for row, (layer, seed) in enumerate(choices):
        linears = torch.nn.Linear(dim, stack.hidden), torch.nn.Linear(stack.hidden, CLASSES)
        for number, linear in enumerate(linears, start=1):
            linear.weight.data.copy_(getattr(stack, f"weight{number}")[row].T)
            linear.bias.data.copy_(getattr(stack, f"bias{number}")[row, 0])
        probe = torch.nn.Sequential(linears[0], torch.nn.ReLU(), linears[1]).to(device)
        alone.append((probe, torch.optim.Adam(probe.parameters(), 1e-3, fused=True), layer, seed))

    def one_by_one():
        losses = []
        for probe, adam, layer, seed in alone:
            loss = F.cross_entropy(probe(x[seed][:, layer]), targets[seed])
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.detach())
        return [torch.stack(losses)]

    def check(candidates):
        for _ in range(2):  # the second losses depend on the first update
            assert_same("probes", candidates["stacked"](), candidates["one by one"]())

    return Benchmark(
        f"{len(choices)} probes of {layers} x {dim}, a training step on {batch} tracks",
        {"stacked": stacked, "one by one": one_by_one},
        [Comparison("time", "stacked", "one by one", 1)],
        check,
        "losses before and after an update within 1e-4",
    )


def sweep(size="full", device="cpu", folder=None):
    """Probes trained, chosen on validation and tested once, on random features."""
    counts, layers, dim, options = SIZES["sweep"][size]
    argv = [str(HPARAMS / "gtzan_genre.yaml"), "--encoder", "mel", "--device", device, *options]
    _, hparams, run_opts, _ = load_task(argv)
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    rng = np.random.default_rng(0)
    classes = rng.integers(CLASSES, size=sum(counts))
    centres = SEPARATION * rng.standard_normal((CLASSES, layers, dim))
    values = (centres[classes] + rng.standard_normal((len(classes), layers, dim))).astype("f4")
    rows = np.split(np.arange(len(classes)), np.cumsum(counts)[:-1])
    splits = {}
    for name, part in zip(("train", "valid", "test"), rows, strict=True):
        targets, tracks = torch.from_numpy(classes[part]), torch.arange(len(part))
        splits[name] = FeatureSplit(values, part, tracks, targets, list(part))
    start = timer()
    task = SingleLabel("class", map(str, range(CLASSES)))
    run = SimpleNamespace(hparams=hparams | {"task": task}, run_opts=run_opts)
    encoder = SimpleNamespace(layers=tuple(map(str, range(layers))))
    found = train_probes(ProbeBrain, SimpleNamespace(encoder=encoder, splits=splits), run)
    evaluate_on_test(choose_on_validation(found))
    target = f"{TARGET_MINUTES} minutes"
    return Benchmark(
        f"sweep of {len(found.table)} probes on {sum(counts)} tracks of {layers} x {dim}",
        comparisons=[Comparison("time", "sweep", target, 1, bound="<=")],
        times={"sweep": [timer() - start], target: [60 * TARGET_MINUTES]},
    )
