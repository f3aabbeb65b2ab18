"""Probes on an encoder: frozen, on cached features and many at once, or trained with it."""

import math

import speechbrain as sb
import torch
from tqdm import tqdm

from speechbrain_music.brains.base import MusicBrain
from speechbrain_music.models.frozen import pool_states
from speechbrain_music.nnet.dropout import Dropout


class ProbeBrain(MusicBrain):
    """Trains P probes for a task; a subclass states the task.

    Frozen, its batches are `dataio.feature_batches.FeatureBatch`es. With an `encoder` among the
    modules, they are `dataio.chunks.WaveBatch`es, the one probe is trained with the encoder, and
    there is a checkpointer.

    Validation is by track: the logits of its chunks are averaged, all tracks are judged at once.
    By that a probe's best weights are kept, its learning rate is halved, and its training ends.

    Arguments
    ---------
    patience : PlateauEarlyStopping
        Of the P probes.
    targets : dict
        Stage -> targets of the tracks, as `task.encode` makes them.
    groups : list of dict
        Parameters and learning rates for the optimiser.
    rungs : sequence of int
        Epochs after which the worse half of what is left of (layer, learning rate) pairs ends.
    configurations : torch.Tensor
        (P,) which such pair a probe has; only for rungs.
    **brain
        As `MusicBrain`. `modules` are probes (ProbeStack), standardize and, to be trained too,
        encoder (WaveEncoder), whose states are pooled as `hparams` says (`pooling`).

    Example
    -------
    >>> from types import SimpleNamespace
    >>> from speechbrain_music.brains.base import Plan
    >>> from speechbrain_music.dataio.feature_batches import FeatureBatch
    >>> from speechbrain_music.nnet.probes import ProbeStack
    >>> class TempoBrain(ProbeBrain):  # recipes take a task of `metrics.tasks`
    ...     task = SimpleNamespace(outputs=1, loss=lambda logits, targets: logits[..., 0] - targets)
    >>> stack = ProbeStack([(0, 7)], layers=1, dim=4, outputs=1)
    >>> brain = TempoBrain(
    ...     patience=None, targets={sb.Stage.TEST: torch.zeros(2)}, groups=[], opt_class=None,
    ...     modules={"probes": stack, "standardize": torch.nn.Identity()}, checkpointer=None,
    ...     hparams={"precision": "fp32", "max_grad_norm": 1.0, "nonfinite_patience": 0},
    ...     run_opts={"device": "cpu"}, plan=Plan(1, 1, 1), learning_rate_factor=None,
    ... )
    >>> x, tracks = torch.randn(1, 3, 1, 4), torch.tensor([0, 0, 1])  # track 0 has two chunks
    >>> batch = FeatureBatch(x, torch.zeros(1, 3), tracks, None)
    >>> judged = brain.judge([batch], sb.Stage.TEST)
    >>> judged.shape, torch.allclose(judged[:, 0], stack(x)[:, :2].mean(dim=1))
    (torch.Size([1, 2, 1]), True)
    """

    task = None

    def __init__(self, patience, targets, groups, rungs=(), configurations=None, **brain):
        self.groups = groups
        self.first_rates = [torch.as_tensor(group["lr"]) for group in groups]
        super().__init__(**brain)
        self.stack = self.modules["probes"]  # as it is, before it may be wrapped for DDP
        self.frozen = "encoder" not in self.modules
        if self.frozen:
            self.max_grad_norm = math.inf  # of one probe's gradient the others must not know
            self.distributed_launch, self.world_size = False, 1  # every process does the same
        self.patience = patience
        self.targets = {stage: value.to(self.device) for stage, value in targets.items()}
        self.rungs, self.configurations = rungs, configurations
        self.bar = None

    # ---- forward and loss ----

    def compute_forward(self, batch, stage):
        """Logits (P, B, C)."""
        if self.frozen:
            x, dropout = batch.x, batch.dropout
        else:
            _, hidden, tokens = self.modules.encoder(batch.wave, batch.samples)
            x, dropout = pool_states(hidden, tokens, self.hparams.pooling).unsqueeze(0), None
            if stage == sb.Stage.TRAIN:
                ones = torch.ones(1, len(batch.wave), self.stack.hidden, device=x.device)
                dropout = Dropout(self.stack.dropout)(ones)
        return self.modules.probes(self.modules.standardize(x), dropout)

    def compute_objectives(self, logits, batch, stage):
        """The task's loss, summed over probes and items."""
        return self.losses(logits, batch).sum()

    def losses(self, logits, batch):
        """(P, B)."""
        targets = batch.targets if self.frozen else batch.targets.unsqueeze(0)
        return self.task.loss(logits, targets[self.stack.batch_of(len(targets))])

    def count(self, batch):
        """Items."""
        return len(batch.tracks)

    def is_finite(self):
        """A frozen encoder's probes do not wait for one that diverged: it ends by its patience."""
        return self.frozen or super().is_finite()

    # ---- optimiser ----

    def parameter_groups(self):
        """Copies of the groups given at the start: the optimiser writes into its own."""
        return [dict(group) for group in self.groups]

    def _set_rates(self):
        """Learning rates of what is left, as the patience has lowered them."""
        left, factor = self.stack.places, self.patience.factor
        self.learning_rates = [
            rate[left] * factor[left] if rate.ndim else float(rate * factor[0])
            for rate in self.first_rates
        ]

    def on_fit_start(self):
        """Recovers; a run that had ended stays ended."""
        super().on_fit_start()
        self._set_rates()
        if not self.patience.alive.any():
            self.hparams.epoch_counter.current = self.hparams.epoch_counter.limit

    def on_stage_start(self, stage, epoch=None):
        """Sets where training begins, or clears the sums of tracks."""
        if stage == sb.Stage.TRAIN:
            self.train_data.start(epoch, batch=self.step)
            return
        targets = self.targets[stage]
        probes = len(self.stack.choices)
        shape = probes, len(targets), self.task.outputs
        self.sums = torch.zeros(shape, device=self.device)
        self.chunks = torch.zeros(len(targets), device=self.device)

    def fit(self, epoch_counter, train_set, valid_set=None, **options):
        """As SpeechBrain's, for loaders whose data or batch sampler can `start(epoch, batch)`."""
        self.train_data = train_set.dataset if self.frozen else train_set.sampler
        hidden = not self.frozen or self.noprogressbar
        with tqdm(total=epoch_counter.limit, disable=hidden, dynamic_ncols=True) as self.bar:
            self.bar.set_description(f"{len(self.stack.choices)} probes")
            bars = not self.frozen and not self.noprogressbar  # of a sweep's epochs there is one
            super().fit(epoch_counter, train_set, valid_set, progressbar=bars, **options)

    # ---- judging ----

    def evaluate_batch(self, batch, stage):
        """Adds a batch's logits to their tracks."""
        batch = batch.to(self.device)
        if not len(batch.tracks):  # its files have vanished since their features were computed
            return torch.zeros(())
        with torch.no_grad(), self.evaluation_ctx:
            logits = self.compute_forward(batch, stage).float()
            loss = self.losses(logits, batch).mean()
        self.sums.index_add_(1, batch.tracks, logits)
        self.chunks.index_add_(0, batch.tracks, torch.ones_like(batch.tracks, dtype=torch.float))
        return loss.cpu()

    def track_logits(self):
        """(P, tracks, C): means over chunks, of all processes' shares."""
        return self.reduce_sum(self.sums) / self.reduce_sum(self.chunks).unsqueeze(1)

    def judge(self, loader, stage):
        """Logits of all tracks of a split by the probes as they are, on the CPU."""
        self.on_stage_start(stage)
        self.modules.eval()
        for batch in loader:
            self.evaluate_batch(batch, stage)
        return self.track_logits().cpu()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After validation: who improved, who goes on, at which rate."""
        if stage != sb.Stage.VALID:
            return
        left = self.stack.places
        values = torch.full((len(self.patience.best),), math.nan, dtype=torch.float64)
        values[left] = self.task.select(self.track_logits(), self.targets[stage]).cpu()
        improved = self.patience.update(values)
        if epoch in self.rungs:
            self._successive_halving()
        if self.checkpointer is None:
            self.stack.remember(improved[left])
        else:
            meta = {"metric": float(values[0]), "epoch": epoch, "step": self.optimizer_step}
            self.checkpointer.save_and_keep_only(meta=meta, max_keys=["metric"])
        alive = self.patience.alive[left]
        if not alive.any():
            self.hparams.epoch_counter.limit = epoch
        elif not alive.all():
            self.stack.keep(alive.to(self.device))
            self.optimizer.keep(alive, list(self.stack.parameters()))
        self._set_rates()
        self.bar.update()
        best = self.patience.best.max().item()
        self.bar.set_postfix(training=int(alive.sum()), best=f"{best:.3f}")

    def _successive_halving(self):
        """Successive halving: the worse half of the pairs that are left, over seeds, ends."""
        count = int(self.configurations.max()) + 1
        alive = self.patience.alive
        total = torch.zeros(count, dtype=torch.float64)
        total.index_add_(0, self.configurations, self.patience.best)
        running = self.configurations[alive].unique()
        worse = running[total[running].argsort()][: len(running) // 2]
        self.patience.end(torch.isin(self.configurations, worse))
