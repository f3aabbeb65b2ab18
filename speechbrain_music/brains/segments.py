"""Around training on crops of a corpus: what a run costs, reads, logs and keeps."""

import csv
import logging
import math
import time
from functools import partial
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music.brains.base import MusicBrain
from speechbrain_music.dataio.loading import make_loader
from speechbrain_music.dataio.sampler import WeightedSegmentSampler, every_row
from speechbrain_music.dataio.segments import collate
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, TOKEN_RATE
from speechbrain_music.reporting.corpora import describe_corpora
from speechbrain_music.reporting.curves import draw_curves
from speechbrain_music.reporting.run_log import RunLog
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)


def make_brain(brain_class, hparams, run_opts, plan, **own):
    """A `SegmentBrain` as a recipe's yaml describes it, with checkpoints under its output folder.

    Arguments
    ---------
    brain_class : type
        A `SegmentBrain`.
    hparams : dict
        Of the yaml; model and features are what checkpoints hold.
    run_opts : RunOptions
        Of the command line.
    plan : Plan
        From `plan_run`.
    **own
        Further arguments of the class.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> from speechbrain_music.brains.base import Plan
    >>> from speechbrain_music.optim.schedules import warmup_cosine
    >>> linear = torch.nn.Linear(1, 1)
    >>> hparams = {"model": linear, "features": linear, "modules": {}, "opt_class": None}
    >>> hparams |= {"output_folder": getfixture("tmp_path"), "learning_rate_factor": warmup_cosine}
    >>> brain = make_brain(SimpleNamespace, hparams, None, Plan(1, 2, 6), hours={})
    >>> brain.learning_rate_factor(6, warmup=2), sorted(brain.checkpointer.recoverables)
    (0.0, ['features', 'model'])
    """
    parts = {name: hparams[name] for name in ("model", "features")}
    return brain_class(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=AtomicCheckpointer(Path(hparams["output_folder"]) / "save", parts),
        plan=plan,
        learning_rate_factor=partial(hparams["learning_rate_factor"], total=plan.total_steps),
        **own,
    )


class SegmentBrain(MusicBrain):
    """A Brain that learns from crops of tracks.

    A subclass gives, beside what `MusicBrain` asks for, `parts`, `sums`, `new_measures`, `measure`,
    `held_out_loss`, `table`, `panels` and `write`.

    Arguments
    ---------
    hours : dict
        Of audio in "train" and "valid".
    **brain
        As `MusicBrain`. `hparams` needs also model, features, output_folder, system, batch_size,
        effective_batch, num_workers, log_interval, keep_checkpoints, train_csv, valid_csv,
        data_folder.

    Attributes
    ----------
    panels : dict
        Of the run's picture, see `reporting.curves.draw_curves`.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> path = getfixture("tmp_path") / "unreadable.csv"
    >>> brain = SimpleNamespace(unreadable={}, _unreadable_path=lambda: path)
    >>> for step in range(2):  # told once
    ...     SegmentBrain.note_unreadable(brain, SimpleNamespace(errors=[("a.wav", "It is cut.")]))
    >>> path.read_text()
    'a.wav,It is cut.\\n'
    """

    panels = None

    def __init__(self, hours, **brain):
        super().__init__(**brain)
        self.hours = hours
        self.unreadable = {}
        self.run_log = None
        self._clear_train_sums()

    # ---- what a subclass says ----

    def parts(self):
        """Title -> module, of whose parameters the model consists."""
        raise NotImplementedError

    def sums(self, batch, outputs):
        """Figure -> its sum over what `count` counts, a tensor, of a training batch."""
        raise NotImplementedError

    def new_measures(self):
        """What held-out batches are added to: `sums`, a tensor, and `figures(sums)`, a dict."""
        raise NotImplementedError

    def measure(self, batch, outputs):
        """Adds a held-out batch to the measures."""
        raise NotImplementedError

    def held_out_loss(self, figures):
        """What decides which checkpoint is best, from the held-out figures."""
        raise NotImplementedError

    def table(self, figures):
        """The held-out figures beside what they have to beat, as text."""
        raise NotImplementedError

    def write(self, folder, run, meta, **facts):
        """Writes what was learned, as the model is now.

        `run` is the yaml's values, `meta` the checkpoint's (loss, step), `facts` what was heard.
        """
        raise NotImplementedError

    def state(self):
        """Further figures for a row of training, which are no means."""
        return {}

    def watch(self, figures):
        """Warns of held-out figures that are amiss."""

    # ---- before the first step ----

    def fit_corpus(self, data):
        """Trains on a `CorpusData`; a finished run finds that all is done."""
        hparams, place = self.hparams, (self.rank, self.world_size)
        loader = partial(
            make_loader,
            collate_fn=collate,
            num_workers=hparams.num_workers,
            pin_memory="cuda" in self.device,
        )
        weights = data.tracks["duration"] * data.tracks["weight"]
        draws = self.plan.steps_per_epoch * hparams.effective_batch
        sampler = WeightedSegmentSampler(weights, draws, hparams.batch_size, hparams.seed, *place)
        rows = every_row(len(data.valid), hparams.batch_size, *place)
        self.fit(
            hparams.epoch_counter,
            loader(data.train, batch_sampler=sampler),
            loader(data.valid, batch_sampler=rows),
        )

    def fit(self, epoch_counter, train_set, valid_set=None, **options):
        """As SpeechBrain's; the training batch sampler must be a `WeightedSegmentSampler`."""
        self.train_loader = train_set
        super().fit(epoch_counter, train_set, valid_set, **options)
        if self.unreadable:
            logger.warning(
                f"{len(self.unreadable)} files could not be read in training and counted for "
                f"nothing: see {self._unreadable_path()}"
            )
        if self.skipped_steps:
            logger.warning(f"{self.skipped_steps} steps were not finite and were skipped")

    def on_fit_start(self):
        """Recovers, opens the logs, says what the run costs."""
        super().on_fit_start()
        if if_main_process():
            self.run_log = RunLog(self.hparams.output_folder, self.optimizer_step)
        if self.optimizer_step:
            logger.info(f"Resuming after step {self.optimizer_step}")
        if self.optimizer_step >= self.plan.total_steps:
            logger.info(f"All {self.plan.total_steps} steps are done: nothing to train")
        else:
            logger.info("What this run costs\n" + "\n".join(self._cost()))

    def _cost(self):
        plan, parts = self.plan, self.parts()
        batch_size = self.train_loader.batch_sampler.batch_size
        segments = plan.accumulation * self.world_size * batch_size
        seconds = self.train_loader.dataset.segment_samples / SAMPLES_PER_TOKEN / TOKEN_RATE
        rate, micro_seconds = self._measure_speed()
        left = (plan.total_steps - self.optimizer_step) * plan.accumulation * micro_seconds
        sizes = ", ".join(f"{name} {_count(part):,}" for name, part in parts.items())
        return [
            f"  parameters  {_count(self.hparams.model):,}: {sizes}",
            f"  audio       {self.hours['train']:.2f} h to train on, "
            f"{self.hours['valid']:.2f} h held out",
            f"  a step      {segments} segments of {seconds:g} s = "
            f"{segments * seconds / 3600:.3f} h of audio ({batch_size} a batch x "
            f"{self.world_size} processes x {plan.accumulation} accumulated)",
            f"  the run     {plan.total_steps} steps, {plan.steps_per_epoch} an epoch, "
            f"{plan.total_steps * segments * seconds / 3600:.1f} h of audio; "
            f"{self.optimizer_step} steps are done",
            f"  speed       {rate:,.0f} tokens/s measured on {self.device} "
            f"({self.precision}); the steps left take about {_duration(left)}",
        ]

    def _measure_speed(self):
        """Tokens/s of the whole job and seconds a micro-batch; leaves no trace in the model."""
        loader = self.train_loader
        draws = next(iter(loader.batch_sampler))
        # The first pass warms up. It is also the one by which DDP orders its buckets, and with them
        # the sums over processes: steps before and after it would not be the same to the last bit.
        for warm in (False, True):
            begun = time.perf_counter()
            batch = collate([loader.dataset[draw] for draw in draws])
            read = time.perf_counter() - begun
            begun = time.perf_counter()
            batch = batch.to(self.device)
            with self.no_sync(warm), self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
                loss.backward()
            loss.item()  # waits for the device
            spent = time.perf_counter() - begun
            self.modules.zero_grad(set_to_none=True)
        workers = loader.num_workers
        seconds = max(spent, read / workers) if workers else spent + read
        return batch.mask.numel() * self.world_size / seconds, seconds

    # ---- training ----

    def on_stage_start(self, stage, epoch=None):
        """Sets the sampler, or clears the measures."""
        if stage == sb.Stage.TRAIN:
            self.train_loader.batch_sampler.start(epoch, batch=self.step)
        else:
            self.measures = self.new_measures()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Adds to the figures of training; writes them every `log_interval` steps."""
        self.note_unreadable(batch)
        with torch.no_grad():
            sums = self.sums(batch, outputs)
            sums["count"] = torch.as_tensor(self.count(batch), device=self.device)
            sums["tokens"] = torch.tensor(batch.mask.numel(), device=self.device)
            values = torch.stack([value.double() for value in sums.values()])
            if self._train_sums is None:
                self._train_names, self._train_sums = list(sums), torch.zeros_like(values)
            self._train_sums += values
        last = self.optimizer_step == self.plan.total_steps
        if should_step and (last or self.optimizer_step % self.hparams.log_interval == 0):
            self._write_train_row()

    def _write_train_row(self):
        sums = self.reduce_sum(self._train_sums).tolist()
        figures = dict(zip(self._train_names, sums, strict=True))
        count, tokens = figures.pop("count"), figures.pop("tokens")
        now = time.monotonic()
        if self.run_log and count:
            self.run_log.write(
                "train",
                self.optimizer_step,
                **{name: value / count for name, value in figures.items()},
                **self.state(),
                learning_rate=self.optimizer.param_groups[0]["lr"],
                gradient_norm=self.gradient_norm,
                tokens_per_second=tokens / (now - self._window_began),
                skipped_steps=self.skipped_steps,
            )
        self._clear_train_sums()

    def _clear_train_sums(self):
        self._train_sums = None
        self._window_began = time.monotonic()

    def _unreadable_path(self):
        name = f"unreadable_rank{self.rank}.csv" if self.world_size > 1 else "unreadable.csv"
        return Path(self.hparams.output_folder) / name

    def note_unreadable(self, batch):
        """Lists files of a batch that could not be read, each once."""
        for path, reason in batch.errors:
            if path not in self.unreadable:
                self.unreadable[path] = reason
                logger.warning(f"{reason} It counts for nothing.")
                with open(self._unreadable_path(), "a", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerow([path, reason])

    # ---- held-out tracks ----

    def evaluate_batch(self, batch, stage):
        """Adds a batch to the measures; returns its loss."""
        batch = batch.to(self.device)
        self.note_unreadable(batch)
        with torch.no_grad(), self.evaluation_ctx:
            outputs = self.compute_forward(batch, stage)
            loss = self.compute_objectives(outputs, batch, stage)
        self.measure(batch, outputs)
        return (loss / self.count(batch).clamp(min=1)).cpu()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After validation: logs, curves and a checkpoint."""
        if stage != sb.Stage.VALID:
            return
        figures = self.measures.figures(self.reduce_sum(self.measures.sums))
        if not figures:
            raise UserError("none of the held-out tracks could be read: check valid_csv's paths")
        figures["loss"] = self.held_out_loss(figures)
        table = self.table(figures)
        logger.info(f"Epoch {epoch}, step {self.optimizer_step}, held out\n{table}")
        self.watch(figures)
        if self.run_log:
            self.run_log.write("valid", self.optimizer_step, epoch=epoch, **figures)
            title = f"{self.hparams.system}, step {self.optimizer_step}"
            path = Path(self.hparams.output_folder) / "curves.png"
            draw_curves(self.run_log, path, title, self.panels)
        self.checkpointer.save_and_keep_only(
            meta={"loss": figures["loss"], "step": self.optimizer_step},
            min_keys=["loss"],
            num_to_keep=self.hparams.keep_checkpoints,
        )
        self._clear_train_sums()  # the time of validation is not training's

    def export(self, folder):
        """Writes what the checkpoint with the least held-out loss has learned; returns its step.

        None where nothing is written: without a checkpoint, and in all processes but the first.
        """
        best = self.checkpointer.recover_if_possible(min_key="loss")
        if best is None or not if_main_process():
            return None
        run = vars(self.hparams)
        facts = describe_corpora(run["train_csv"], run["valid_csv"], run["data_folder"])
        self.write(folder, run, best.meta, **facts)
        return best.meta["step"]


def _count(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _duration(seconds):
    if not math.isfinite(seconds):
        return "an unknown time"
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"
