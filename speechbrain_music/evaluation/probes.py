"""Probes on features: many trained together, one chosen by validation, tested once."""

import logging
import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.epoch_loop import EpochCounter
from torch.utils.data import DataLoader
from tqdm import tqdm

from speechbrain_music.brains.base import MusicBrain, Plan
from speechbrain_music.dataio.loading import make_loader, to_device
from speechbrain_music.evaluation.features import TrainingBatches, load_in_order
from speechbrain_music.metrics.feature_statistics import make_standardizations
from speechbrain_music.models.frozen_encoder import pool_states
from speechbrain_music.nnet.dropout import Dropout
from speechbrain_music.optim.patience import PlateauEarlyStopping
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

# What is done to features, in the words of reports; the choices of `standardize: auto`.
STANDARDIZE = {True: "standardised", "whiten": "whitened", False: "as they are"}
AUTO = (True, "whiten")
STAGES = (1, 2, 4, 8)  # epochs after which successive halving ends half of the configurations


class ProbeBrain(MusicBrain):
    """Trains P probes on a task; a recipe subclasses it.

    With a frozen encoder, batches are `features.FeatureBatch`es. With an `encoder` among the
    modules, they are `chunks.WaveBatch`es, the one probe is trained with the encoder, and there is
    a checkpointer.

    Validation is by track: the logits of its chunks are averaged, and the metric is computed on
    all tracks at once. It decides which weights of a probe are kept, when its learning rate is
    halved and when its training ends.

    Arguments
    ---------
    splits : dict
        Split -> `FeatureSplit`, of which the tracks' targets are used.
    patience : PlateauEarlyStopping
        Of the P probes, if they are trained.
    groups : list of dict
        Parameters and learning rates for the optimiser.
    stages : tuple of int
        Epochs after which the worse half of the remaining (layer, learning rate) pairs ends. All
        seeds of a stack have the same pairs, in the same order.
    **brain
        As `MusicBrain`. `modules` are probes (ProbeStack), standardize and, if it is trained,
        encoder (WaveEncoder), whose states are pooled by `hparams["pooling"]`. `hparams["task"]`
        is the task.
    """

    def __init__(self, splits, patience=None, groups=(), stages=(), **brain):
        self.groups = groups
        self.first_rates = [torch.as_tensor(group["lr"]) for group in groups]
        super().__init__(**brain)
        self.task = self.hparams.task
        self.stack = self.modules["probes"]  # as it is, before it may be wrapped for DDP
        self.frozen = "encoder" not in self.modules
        if self.frozen:
            self.max_grad_norm = math.inf  # a probe's gradient must not scale the others'
            self.distributed_launch, self.world_size = False, 1  # every process does the same
        self.patience = patience
        named = {sb.Stage[name.upper()]: split.targets for name, split in splits.items()}
        self.targets = {stage: value.to(self.device) for stage, value in named.items()}
        self.stages, self.bar = stages, None

    # ---- forward and loss ----

    def compute_forward(self, batch, stage):
        """Logits (P, B, C) of a batch of chunks."""
        x, dropout = self.compute_features(batch, stage)
        return self.modules.probes(self.modules.standardize(x), dropout)

    def compute_features(self, batch, stage):
        """Features (S, B, L, d), from the cache or the encoder, and the probes' dropout factors."""
        if self.frozen:
            return batch.x, batch.dropout
        _, hidden, tokens = self.modules.encoder(batch.wave, batch.samples)
        x, dropout = pool_states(hidden, tokens, self.hparams.pooling).unsqueeze(0), None
        if stage == sb.Stage.TRAIN:
            ones = torch.ones(1, len(batch.wave), self.stack.hidden, device=x.device)
            dropout = Dropout(self.stack.dropout)(ones)
        return x, dropout

    def compute_objectives(self, logits, batch, stage):
        """The task's loss, summed over probes and chunks."""
        return self.losses(logits, batch).sum()

    def losses(self, logits, batch):
        """(P, B) loss of each probe and chunk."""
        targets = batch.targets if self.frozen else batch.targets.unsqueeze(0)
        return self.task.loss(logits, targets[self.stack.batch_of(len(targets))])

    def count(self, batch):
        """Chunks."""
        return len(batch.tracks)

    def is_finite(self):
        """Of many probes one may diverge: it ends by early stopping, the others go on."""
        return self.frozen or super().is_finite()

    # ---- optimiser ----

    def parameter_groups(self):
        """Copies of the groups: the optimiser changes its own."""
        return [dict(group) for group in self.groups]

    def _set_rates(self):
        """Learning rates of the remaining probes, after halving on plateaus."""
        left, factor = self.stack.places, self.patience.factor
        self.learning_rates = [
            rate[left] * factor[left] if rate.ndim else float(rate * factor[0])
            for rate in self.first_rates
        ]

    def on_fit_start(self):
        """Recovers; a finished training stays finished."""
        super().on_fit_start()
        self._set_rates()
        if not self.patience.alive.any():
            self.hparams.epoch_counter.current = self.hparams.epoch_counter.limit

    def on_stage_start(self, stage, epoch=None):
        """Sets where training starts, or clears the sums over tracks."""
        if stage == sb.Stage.TRAIN:
            self.train_data.start(epoch, batch=self.step)
            return
        targets = self.targets[stage]
        shape = len(self.stack.choices), len(targets), self.task.outputs
        self.sums = torch.zeros(shape, device=self.device)
        self.chunks = torch.zeros(len(targets), device=self.device)

    def fit(self, epoch_counter, train_set, valid_set=None, **options):
        """As SpeechBrain's, for loaders whose data or batch sampler has `start(epoch, batch)`."""
        self.train_data = train_set.dataset if self.frozen else train_set.sampler
        hidden = not self.frozen or self.noprogressbar
        with tqdm(total=epoch_counter.limit, disable=hidden, dynamic_ncols=True) as self.bar:
            self.bar.set_description(f"{len(self.stack.choices)} probes")
            bars = not self.frozen and not self.noprogressbar  # frozen: one bar for all epochs
            super().fit(epoch_counter, train_set, valid_set, progressbar=bars, **options)

    # ---- validation and test ----

    def evaluate_batch(self, batch, stage):
        """Adds a batch's logits to the sums of their tracks."""
        batch = to_device(batch, self.device)
        if not len(batch.tracks):  # files that have vanished since features were computed
            return torch.zeros(())
        with torch.no_grad(), self.evaluation_ctx:
            logits = self.compute_forward(batch, stage).float()
            loss = self.losses(logits, batch).mean()
        self.sums.index_add_(1, batch.tracks, logits)
        self.chunks.index_add_(0, batch.tracks, torch.ones_like(batch.tracks, dtype=torch.float))
        return loss.cpu()

    def track_logits(self):
        """(P, tracks, C): means over chunks, of all processes together."""
        return self.reduce_sum(self.sums) / self.reduce_sum(self.chunks).unsqueeze(1)

    def predict(self, loader, stage):
        """Logits (P, tracks, C) of all tracks of a split, on the CPU."""
        self.on_stage_start(stage)
        self.modules.eval()
        for batch in loader:
            self.evaluate_batch(batch, stage)
        return self.track_logits().cpu()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After validation: saves best weights, ends probes, sets learning rates."""
        if stage != sb.Stage.VALID:
            return
        left = self.stack.places
        values = torch.full((len(self.patience.best),), math.nan, dtype=torch.float64)
        values[left] = self.task.select(self.track_logits(), self.targets[stage])
        improved = self.patience.update(values)
        if epoch in self.stages:
            self._successive_halving()
        if self.checkpointer is None:
            self.stack.save_best(improved[left])
        else:
            meta = {"metric": float(values[0]), "epoch": epoch, "step": self.optimizer_step}
            self.checkpointer.save_and_keep_only(meta=meta, max_keys=["metric"])
        alive = self.patience.alive[left]
        if not alive.any():
            self.hparams.epoch_counter.limit = epoch
        elif not alive.all():
            self.stack.prune(alive.to(self.device))
            self.optimizer.prune(alive, list(self.stack.parameters()))
        self._set_rates()
        self.bar.update()
        best = self.patience.best.max().item()
        self.bar.set_postfix(training=int(alive.sum()), best=f"{best:.3f}")

    def _successive_halving(self):
        """Ends the worse half of the remaining pairs, by their sums over seeds."""
        seeds = len(self.stack.seeds)
        best, alive = (x.view(seeds, -1) for x in (self.patience.best, self.patience.alive))
        running = alive.any(dim=0).nonzero().flatten()
        alive[:, running[best.sum(dim=0)[running].argsort()][: len(running) // 2]] = False


class TrainedProbes(NamedTuple):
    """All probes of an encoder on a task."""

    # One row per probe: standardize, layer, lr, seed, valid (its best), epoch
    table: pd.DataFrame
    stacks: list  # for each row (ProbeStack, place in it)
    standardize: dict  # word of STANDARDIZE -> Standardization
    valid_set: DataLoader
    test_set: DataLoader
    make_brain: Callable

    def best_weights(self, rows):
        """A stack of the probes in these rows of the table, with their best weights."""
        return self.stacks[rows[0]][0].restore_best([self.stacks[row][1] for row in rows])

    def best_of_mix(self):
        """The best probe on the mix of all layers, alone in a stack, and its Standardization."""
        mixed = self.table["layer"] == self.table["layer"].iloc[-1]  # the mix is trained last
        row = self.table[mixed]["valid"].idxmax()
        return self.best_weights([row]), self.standardize[self.table["standardize"][row]]


class Candidate(NamedTuple):
    """What is tested: a Brain with its best weights, and how it was chosen."""

    brain: ProbeBrain
    test_set: DataLoader
    chosen: dict  # standardize, layer, lr, valid, fine_tuned


def train_probes(brain_class, features, run):
    """Trains one probe for each standardisation, layer (and their mix), learning rate and seed."""
    hparams, layers, splits = run.hparams, features.encoder.layers, features.splits
    train = splits["train"]
    if 1 < len(layers) <= hparams["mix_from"]:
        raise UserError(
            f"mix_from is {hparams['mix_from']}: it must be less than {len(layers)}, the hidden "
            f"states of {features.encoder.name}"
        )
    kinds = AUTO if hparams["standardize"] == "auto" else [hparams["standardize"]]
    found = make_standardizations(train.values, train.rows, kinds)
    standardize = {STANDARDIZE[kind]: each for kind, each in found.items()}
    stages = STAGES if len(train.rows) > hparams["successive_halving_above"] else ()
    steps = -(-len(train.rows) // hparams["batch_size"])

    def make_brain(standardize, stack, **options):
        return brain_class(
            **on_frozen_features(hparams, run.run_opts, steps),
            modules={"probes": stack, "standardize": standardize},
            splits=splits,
            **options,
        )

    rows, stacks = [], []
    inputs = [list(range(len(layers)))] + [["all"]] * (len(layers) > 1)
    for kind, names in product(standardize, inputs):
        probes = list(product(sorted(hparams["probe_seeds"]), names, hparams["learning_rates"]))
        stack = hparams["probes"](
            choices=[(layer, seed) for seed, layer, _ in probes],
            layers=len(layers),
            dim=train.values.shape[2],
            outputs=hparams["task"].outputs,
        )
        limits = hparams["plateau_patience"], hparams["patience"]
        patience = PlateauEarlyStopping(len(probes), *limits)
        rates = torch.tensor([lr for *_, lr in probes], dtype=torch.float64)
        training = {"groups": [{"params": list(stack.parameters()), "lr": rates}], "stages": stages}
        brain = make_brain(standardize[kind], stack, patience=patience, **training)
        which = "the mix of all layers" if "all" in names else f"{len(names)} layers"
        logger.info(
            f"{len(probes)} probes on {which}, {kind}: at most {hparams['number_of_epochs']} epochs"
        )
        noise = stack.seeds, stack.hidden, stack.dropout
        batches = TrainingBatches(train, hparams["batch_size"], *noise)
        loader = make_loader(batches, batch_size=None)
        brain.fit(brain.hparams.epoch_counter, loader, load_in_order(splits["valid"]))
        for place, (seed, layer, lr) in enumerate(probes):
            row = {"layer": layer if layer == "all" else layers[layer], "lr": lr, "seed": seed}
            row |= {"valid": float(patience.best[place]), "epoch": int(patience.best_epoch[place])}
            rows.append({"standardize": kind, **row})
            stacks.append((stack, place))
    sets = [load_in_order(splits[split]) for split in ("valid", "test")]
    return TrainedProbes(pd.DataFrame(rows), stacks, standardize, *sets, make_brain)


def choose_on_validation(probes, layer=None):
    """The best mean validation value, with a probe per seed, of the sweep or of one layer.

    Warns if the sweep's best learning rate is at its edge: a better one may lie beyond.
    """
    table = probes.table if layer is None else probes.table[probes.table["layer"] == layer]
    groups = table.groupby(["standardize", "layer", "lr"], sort=False)
    best = groups["valid"].mean().idxmax()
    rates = table["lr"].unique() if layer is None else ()
    (kind, layer, lr), rows = best, groups.groups[best]
    if len(rates) > 1 and lr in (rates.min(), rates.max()):
        logger.warning(
            f"the chosen learning rate {lr:g} is on the edge of learning_rates: a better one may "
            f"be {'higher' if lr == rates.max() else 'lower'}"
        )
    stack = probes.best_weights(list(rows))
    brain = probes.make_brain(probes.standardize[kind], stack)
    chosen = {"standardize": kind, "layer": layer, "lr": float(lr)}
    chosen |= {"valid": table["valid"][rows].mean(), "fine_tuned": None}
    return Candidate(brain, probes.test_set, chosen)


def evaluate_on_test(candidate):
    """Logits (S, tracks, C) of the test tracks."""
    return candidate.brain.predict(candidate.test_set, sb.Stage.TEST)


def on_frozen_features(hparams, run_opts, steps, **own):
    """Options of a `MusicBrain` that trains in `steps` an epoch, without checkpoints and log.

    `own` are hparams of this one Brain.
    """
    # SpeechBrain logs each epoch and each Brain: here there are hundreds.
    for name in ("core", "utils.epoch_loop"):
        logging.getLogger(f"speechbrain.{name}").setLevel(logging.WARNING)
    epochs = hparams["number_of_epochs"]
    constant = {"learning_rate_factor": lambda step, total: 1.0, "precision": "fp32"}
    return {
        "opt_class": hparams["opt_class"],
        "hparams": hparams | {"epoch_counter": EpochCounter(epochs)} | constant | own,
        "run_opts": run_opts,
        "checkpointer": None,
        "plan": Plan(1, steps, steps * epochs),
    }
