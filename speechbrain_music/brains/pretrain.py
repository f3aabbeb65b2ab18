"""Around the method: what a pre-training run costs, measures, logs, keeps and exports."""

import csv
import logging
import math
import time
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music.brains.base import MusicBrain
from speechbrain_music.dataio.segments import collate
from speechbrain_music.metrics.pretraining import MaskedPredictionMeasures
from speechbrain_music.models.export import export_run
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, TOKEN_RATE
from speechbrain_music.utils.corpora import heard
from speechbrain_music.utils.curves import draw_curves
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.reports import RunLog

logger = logging.getLogger(__name__)


class PretrainBrain(MusicBrain):
    """Everything of BEST-RQ pre-training but the forward pass and the loss.

    A subclass gives `compute_forward`, returning (Prediction, mel, lengths), and
    `compute_objectives`, the loss summed over masked tokens.

    Arguments
    ---------
    statistics : TokenStatistics
        Of the training corpus.
    hours : dict
        Of audio in "train" and "valid".
    **brain
        As `MusicBrain`. `hparams` needs also model, features, output_folder, system, seed,
        data_folder, train_csv, valid_csv, reconstruction_weight, mask_block, log_interval,
        keep_checkpoints.
    """

    def __init__(self, statistics, hours, **brain):
        super().__init__(**brain)
        self.statistics = statistics
        self.hours = hours
        self.unreadable = {}
        self.run_log = None
        self._clear_train_sums()

    def count(self, batch):
        """Masked tokens."""
        return batch.mask.sum()

    # ---- before the first step ----

    def fit(self, epoch_counter, train_set, valid_set=None, **options):
        """As SpeechBrain's, for DataLoaders whose training batch sampler is a `DrawSampler`."""
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
        model, plan = self.hparams.model, self.plan
        batch_size = self.train_loader.batch_sampler.batch_size
        segments = plan.accumulation * self.world_size * batch_size
        seconds = self.train_loader.dataset.segment_samples / SAMPLES_PER_TOKEN / TOKEN_RATE
        rate, micro_seconds = self._measure_speed()
        left = (plan.total_steps - self.optimizer_step) * plan.accumulation * micro_seconds
        parts = {
            "front-end": model.encoder.frontend,
            f"{len(model.encoder.layers)} blocks": model.encoder.layers,
            "token head": model.token_head,
            "mel head": model.mel_head,
        }
        sizes = ", ".join(f"{name} {_count(part):,}" for name, part in parts.items())
        return [
            f"  parameters  {_count(model):,}: {sizes}",
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
            self.measures = MaskedPredictionMeasures(
                self.statistics, self.hparams.mask_block, self.device
            )

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Adds to the figures of training; writes them every `log_interval` steps."""
        self._note_unreadable(batch)
        prediction = outputs[0]
        with torch.no_grad():
            hits = (prediction.logits.argmax(dim=-1) == prediction.tokens).sum()
            self._train_sums += torch.stack(
                [
                    prediction.token_loss.double(),
                    prediction.mel_loss.double(),
                    hits.double() / prediction.tokens.shape[-1],
                    batch.mask.sum().double(),
                    torch.tensor(batch.mask.numel(), device=self.device).double(),
                ]
            )
        last = self.optimizer_step == self.plan.total_steps
        if should_step and (last or self.optimizer_step % self.hparams.log_interval == 0):
            self._write_train_row()

    def _write_train_row(self):
        token_loss, mel_loss, hits, count, tokens = self.reduce_sum(self._train_sums).tolist()
        now = time.monotonic()
        if self.run_log and count:
            self.run_log.write(
                "train",
                self.optimizer_step,
                cross_entropy=token_loss / count,
                mel_error=mel_loss / count,
                accuracy=hits / count,
                learning_rate=self.optimizer.param_groups[0]["lr"],
                gradient_norm=self.gradient_norm,
                tokens_per_second=tokens / (now - self._window_began),
                skipped_steps=self.skipped_steps,
            )
        self._clear_train_sums()

    def _clear_train_sums(self):
        self._train_sums = torch.zeros(5, dtype=torch.float64, device=self.device)
        self._window_began = time.monotonic()

    def _unreadable_path(self):
        name = f"unreadable_rank{self.rank}.csv" if self.world_size > 1 else "unreadable.csv"
        return Path(self.hparams.output_folder) / name

    def _note_unreadable(self, batch):
        for path, reason in batch.errors:
            if path not in self.unreadable:
                self.unreadable[path] = reason
                logger.warning(f"{reason} It counts for nothing.")
                with open(self._unreadable_path(), "a", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerow([path, reason])

    # ---- held-out tracks ----

    def evaluate_batch(self, batch, stage):
        """Adds a batch to the measures."""
        batch = batch.to(self.device)
        self._note_unreadable(batch)
        with torch.no_grad(), self.evaluation_ctx:
            prediction, mel, lengths = self.compute_forward(batch, stage)
            loss = self.compute_objectives((prediction, mel, lengths), batch, stage)
            tokens = self.hparams.model.tokenize(mel)
        self.measures.update(prediction.logits, prediction.mel, mel, tokens, batch.mask, lengths)
        return (loss / batch.mask.sum().clamp(min=1)).cpu()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """After validation: logs, curves and a checkpoint."""
        if stage != sb.Stage.VALID:
            return
        figures = self.measures.figures(self.reduce_sum(self.measures.sums))
        if not figures:
            raise UserError("none of the held-out tracks could be read: check valid_csv's paths")
        figures["loss"] = (
            figures["cross_entropy"] + self.hparams.reconstruction_weight * figures["mel_error"]
        )
        logger.info(f"Epoch {epoch}, step {self.optimizer_step}, held out\n" + _table(figures))
        if self.run_log:
            self.run_log.write("valid", self.optimizer_step, epoch=epoch, **figures)
            title = f"{self.hparams.system}, step {self.optimizer_step}"
            draw_curves(self.run_log, Path(self.hparams.output_folder) / "curves.png", title)
        self.checkpointer.save_and_keep_only(
            meta={"loss": figures["loss"], "step": self.optimizer_step},
            min_keys=["loss"],
            num_to_keep=self.hparams.keep_checkpoints,
        )
        self._clear_train_sums()  # the time of validation is not training's

    def export(self, folder):
        """Writes the encoder of the checkpoint with the least held-out loss; returns its step."""
        best = self.checkpointer.recover_if_possible(min_key="loss")
        if best is None or not if_main_process():
            return None
        run = vars(self.hparams)
        facts = heard(run["train_csv"], run["valid_csv"], run["data_folder"])
        export_run(folder, run, best.meta, **facts)
        logger.info(f"Exported the encoder of step {best.meta['step']} to {folder}")
        return best.meta["step"]


def _count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def _duration(seconds):
    if not math.isfinite(seconds):
        return "an unknown time"
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"


def _table(figures):
    """Each measure beside its trivial predictors, in aligned columns."""
    rows = [
        ("cross-entropy", "cross_entropy", {"unigram": "_unigram", "bigram": "_bigram"}),
        ("accuracy", "accuracy", {"commonest": "_commonest", "copy nearest": "_copy"}),
        ("mel error", "mel_error", {"clip mean": "_clip_mean", "interpolation": "_interpolation"}),
    ]
    lines = [
        f"  {title:14s}{figures[name]:8.4f}   "
        + "   ".join(f"{label} {figures[name + end]:.4f}" for label, end in others.items())
        for title, name, others in rows
    ]
    places = [name for name in figures if name.startswith("accuracy_at_")]
    by_place = " ".join(f"{figures[name]:.3f}" for name in places)
    lines.append(f"  accuracy by place in the block   {by_place}")
    codes, perplexity = figures["codes_used"], figures["perplexity"]
    lines.append(f"  codes used {codes:.0f}, perplexity {perplexity:.0f}")
    return "\n".join(lines)
