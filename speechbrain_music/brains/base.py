"""Base class of all Brains: exact steps, exact resuming, no silent defaults.

All corrections of SpeechBrain's Brain are here. The number of optimiser steps done is the whole
state of a run's position: epoch, place in the epoch, learning rate and every random draw follow
from it.
"""

import hashlib
import logging
import math
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from speechbrain.utils.distributed import ddp_init_group
from torch.nn.parallel import DistributedDataParallel

from speechbrain_music.dataio.loading import to_device
from speechbrain_music.optim.groups import decay_groups
from speechbrain_music.utils import kinds
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.memory import keep_freed_memory

logger = logging.getLogger(__name__)

# Keys of yamls, see options.yaml; those that `MusicBrain` reads.
KINDS = kinds.read(Path(__file__).with_name("options.yaml"))
BRAIN_OPTIONS = KINDS["brain"]


class Plan(NamedTuple):
    """Length of a run: micro-batches per step on each process, steps per epoch, steps in all."""

    accumulation: int
    steps_per_epoch: int
    total_steps: int


def plan_steps(effective_batch, batch_size, world_size, per_epoch, number_of_epochs, max_steps):
    """Computes a `Plan`; max_steps may be None.

    Raises UserError if the effective batch is no multiple of what all processes take at a time,
    or the epoch no multiple of the effective batch.
    """
    at_once = batch_size * world_size
    if effective_batch < 1 or effective_batch % at_once:
        lower = max(1, effective_batch // at_once) * at_once
        sizes = range(1, effective_batch // world_size + 1)
        fit = [size for size in sizes if effective_batch % (size * world_size) == 0]
        near = sorted(sorted(fit, key=lambda size: abs(size - batch_size))[:2])
        other = f", or batch_size to {' or '.join(map(str, near))}" if near else ""
        raise UserError(
            f"effective_batch {effective_batch} is no multiple of batch_size {batch_size} x "
            f"{world_size} process(es): set it to {lower} or {lower + at_once}{other}"
        )
    if per_epoch < effective_batch or per_epoch % effective_batch:
        lower = max(1, per_epoch // effective_batch) * effective_batch
        raise UserError(
            f"segments_per_epoch {per_epoch} is no multiple of effective_batch {effective_batch}: "
            f"set {lower} or {lower + effective_batch}"
        )
    steps = per_epoch // effective_batch
    total = min(steps * number_of_epochs, max_steps or math.inf)
    return Plan(effective_batch // at_once, steps, total)


@torch.no_grad()
def scale_and_clip(parameters, scale, max_norm):
    """Multiplies all gradients by `scale`, then bounds their common l2 norm by `max_norm`.

    Returns the norm after scaling and before clipping, not finite if any gradient is not.
    SpeechBrain 1.1.2 clips its optimiser's first parameter group only.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = scale * torch.nn.utils.get_total_norm(gradients).item()
    torch._foreach_mul_(gradients, scale * min(1.0, max_norm / (norm + 1e-6)))
    return norm


def key_seed(*key):
    """A 63-bit seed from whole numbers: similar keys give unrelated seeds."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def among_processes():
    """(rank, world size) of this process; (0, 1) without torch.distributed."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def join_processes(run_opts):
    """Joins the process group of torchrun, if any; returns (rank, world size).

    Raises UserError for more processes than GPUs.
    """
    try:
        ddp_init_group(run_opts)
    except ValueError as error:
        raise UserError(
            f"torchrun's processes cannot meet ({error}): start one for each GPU, or add "
            "--distributed_backend gloo --device cpu"
        ) from None
    return among_processes()


@contextmanager
def _noted_signals():
    """Collects SIGINT and SIGTERM in the list that it yields; a second one acts as always."""
    received, before = [], {}

    def note(number, _):
        received.append(number)
        signal.signal(number, before[number])
        print("stopping after this step; once more to stop at once", file=sys.stderr)

    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class MusicBrain(sb.Brain):
    """A Brain whose result depends neither on the number of processes nor on interruptions.

    After SIGINT (Ctrl-C) or SIGTERM `fit` ends the step, saves a checkpoint and exits with 130 or
    143, in all processes after the same step.

    A subclass provides `compute_forward`, `compute_objectives` (the SUM of the loss over what
    `count` counts) and `count`. A step's gradient is that sum over all micro-batches and processes,
    divided by the count over all of them.

    The arguments are those of `speechbrain.Brain`, and a `Plan`. `hparams` has `BRAIN_OPTIONS`,
    `epoch_counter` and `learning_rate_factor`: steps done before this one, and the plan's `total`
    -> factor on every group's learning rate. `fit` raises UserError when more than
    `nonfinite_patience` steps in a row were not finite.
    """

    kept = ("optimizer_step", "skipped_steps", "skipped_in_a_row")  # in checkpoints

    def __init__(self, modules, opt_class, hparams, run_opts, checkpointer, plan):
        device = getattr(run_opts, "device", None) or sb.utils.distributed.infer_device()
        if device == "cpu" and hparams["precision"] == "bf16":
            logger.info("bf16 is for GPUs: this run on a CPU computes in fp32")
            hparams = hparams | {"precision": "fp32"}
        # SpeechBrain ends if checkpoints are asked for by steps and by minutes.
        by_steps = hparams | {"ckpt_interval_minutes": 0}
        super().__init__(modules, opt_class, by_steps, run_opts, checkpointer)
        self.ckpt_interval_minutes = hparams.get("ckpt_interval_minutes", 0)
        if self.compile:  # torch cannot trace where TF32 is turned off, before what is trained
            parts = {
                name.split(".")[0] for name, p in self.modules.named_parameters() if p.requires_grad
            }
            self.compile_module_keys = self.compile_module_keys or sorted(parts)
        if self.device_type == "cpu":
            keep_freed_memory()
        self.plan = plan
        factor = hparams["learning_rate_factor"]
        self.learning_rate_factor = partial(factor, total=plan.total_steps)
        self.grad_accumulation_factor = plan.accumulation
        self.optimizer_step_limit = plan.total_steps
        self.rank, self.world_size = among_processes()
        self.skipped_in_a_row = self.skipped_steps = 0
        self._signals, self._stopping = [], False
        self.last_loss = math.nan  # of the last whole step
        self._window = torch.zeros(3, dtype=torch.float64, device=self.device)

    # ---- what a subclass provides ----

    def count(self, batch):
        """How many items the loss of a batch is summed over: a number or a scalar tensor."""
        raise NotImplementedError

    # ---- one optimiser step ----

    def fit_batch(self, batch):
        """Forward and backward; at the end of an accumulation window, a step."""
        batch = to_device(batch, self.device)
        should_step = self.step % self.grad_accumulation_factor == 0
        # Dropout does not depend on what ran before, so that resuming cannot change it.
        micro = (self.step - 1) % self.grad_accumulation_factor
        torch.manual_seed(key_seed(self.hparams.seed, self.optimizer_step, micro, self.rank))
        self.on_fit_batch_start(batch, should_step)
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            loss.backward()
        self._window[0] += loss.detach()
        self._window[1] += self.count(batch)
        if should_step:
            self.optimizers_step()
        self.on_fit_batch_end(batch, outputs, loss, should_step)
        return torch.tensor(self.last_loss)

    def optimizers_step(self):
        """One step on the gradient of the whole effective batch, or none if it is not finite."""
        self._window[2] = len(self._signals)
        loss, count, signals = self.reduce_sum(self._window).tolist()
        self._stopping = signals > 0
        # DDP has averaged the ranks' gradients: times their number they are a sum again.
        scale = self.world_size / count if count else math.nan
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.gradient_norm = scale_and_clip(parameters, scale, self.max_grad_norm)
        self.last_loss = loss / count if count else math.nan
        if self.is_finite():
            factor = self.learning_rate_factor(self.optimizer_step)
            for group, rate in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
                group["lr"] = rate * factor
            self.optimizer.step()
            self.skipped_in_a_row = 0
        else:
            self._skip_step()
        self.optimizer.zero_grad(set_to_none=True)
        self._window.zero_()
        self.optimizer_step += 1

    def _wrap_distributed(self):
        super()._wrap_distributed()
        for module in self.modules.values():
            # Buffers are constant here. Broadcasting them before an evaluation's first batch would
            # wait forever for a process without a batch.
            if isinstance(module, DistributedDataParallel):
                module.broadcast_buffers = False

    def reduce_sum(self, tensor):
        """The sum of a tensor over all processes, in place; the tensor itself if there is one."""
        if self.distributed_launch:
            torch.distributed.all_reduce(tensor)
        return tensor

    def is_finite(self):
        """Whether loss and gradient norm of the accumulated step are finite, over all processes."""
        return math.isfinite(self.last_loss) and math.isfinite(self.gradient_norm)

    def _skip_step(self):
        self.skipped_in_a_row += 1
        self.skipped_steps += 1
        logger.warning(
            f"step {self.optimizer_step + 1} is skipped: loss {self.last_loss}, gradient norm "
            f"{self.gradient_norm} ({self.skipped_steps} skipped so far)"
        )
        if self.skipped_in_a_row > self.nonfinite_patience:
            raise UserError(
                f"{self.skipped_in_a_row} steps in a row were not finite (nonfinite_patience "
                f"{self.nonfinite_patience}): check the skipped files, lower lr, or raise it"
            )

    # ---- position and checkpoints ----

    def parameter_groups(self):
        """Parameter groups of the optimiser; by default with weight decay on matrices only."""
        return decay_groups(self.modules, self.hparams.weight_decay)

    def state_dict(self):
        """What a checkpoint holds of the run's position and counts; called in all processes."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state):
        """Sets what `state_dict` has returned."""
        for name in self.kept:
            setattr(self, name, state[name])

    def init_optimizers(self):
        """One optimiser for the `parameter_groups`."""
        self.optimizer = self.opt_class(self.parameter_groups())
        self.learning_rates = [group["lr"] for group in self.optimizer.param_groups]
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def on_fit_start(self):
        """Recovers, then derives the place in the run from the number of steps done."""
        if self.checkpointer:
            self.checkpointer.remove_remains()
        super().on_fit_start()
        counter, done = self.hparams.epoch_counter, self.optimizer_step
        finished = done >= self.plan.total_steps
        counter.current = counter.limit if finished else done // self.plan.steps_per_epoch
        self.step = done % self.plan.steps_per_epoch * self.plan.accumulation

    def fit(self, *data, **options):
        """As SpeechBrain's, with an orderly end if it is interrupted."""
        with _noted_signals() if self.checkpointer else nullcontext([]) as self._signals:
            try:
                super().fit(*data, **options)
            except RuntimeError:
                if not self._signals:  # which may have ended the workers of a loader, too
                    raise
                self._stop("the last checkpoint is kept")

    def _fit_valid(self, valid_set, epoch, enable):
        super()._fit_valid(valid_set, epoch, enable)
        if self.checkpointer is None or self._optimizer_step_limit_exceeded:
            return
        if self.reduce_sum(torch.tensor(float(len(self._signals)), device=self.device)):
            self._stop(f"saved step {self.optimizer_step}")

    def _stop(self, what):
        if self.rank == 0:
            print(f"interrupted, {what}: run the same command to continue", file=sys.stderr)
        raise SystemExit(128 + (self._signals or [signal.SIGTERM])[0])

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        # Inside an accumulation window a checkpoint would lose the gradients so far; where an
        # epoch ends, a run resumed from it would pass by the validation that follows.
        done = self.optimizer_step
        ends = done % self.plan.steps_per_epoch == 0 or done == self.plan.total_steps
        if self.step % self.grad_accumulation_factor or ends:
            return False
        if self._stopping:
            self._save_intra_epoch_ckpt()
            self._stop(f"saved step {done}")
        return super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)

    def _save_intra_epoch_ckpt(self):
        self.checkpointer.save_and_keep_only(
            meta={INTRA_EPOCH_CKPT_FLAG: True, "step": self.optimizer_step},
            end_of_epoch=False,
            num_to_keep=2,  # and the one before, in case the last is damaged
            ckpt_predicate=lambda checkpoint: INTRA_EPOCH_CKPT_FLAG in checkpoint.meta,
            verbosity=logging.DEBUG,
        )
