"""Training on crops of tracks: cost estimate, logs, checkpoints, held-out metrics, export."""

import csv
import logging
import math
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import speechbrain as sb
import torch
import yaml
from speechbrain.utils.distributed import if_main_process, run_on_main

from speechbrain_music.brains.base import KINDS, MusicBrain, join_processes, plan_steps
from speechbrain_music.data_prep.fallback import prepare_music
from speechbrain_music.dataio.corpus import make_datasets
from speechbrain_music.dataio.loading import make_loader, to_device
from speechbrain_music.dataio.sampler import WeightedSegmentSampler, every_row
from speechbrain_music.dataio.segments import collate
from speechbrain_music.models.export import save_export
from speechbrain_music.models.frontend import SAMPLES_PER_TOKEN, TOKEN_RATE, token_count
from speechbrain_music.models.frozen_encoder import FrozenEncoder
from speechbrain_music.reporting.corpora import describe_run
from speechbrain_music.reporting.curves import draw_curves
from speechbrain_music.reporting.pages import render
from speechbrain_music.utils.atomic import locked_folder
from speechbrain_music.utils.checkpoints import refuse_other_options
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

COST = Path(__file__).parent / "templates" / "cost.txt"
CURVES_SECONDS = 60  # between two drawings of curves.png, which takes seconds; the last is drawn

# Keys of yamls, see options.yaml: those that recipes read, and those of the yamls' own objects.
SEGMENT_OPTIONS, MODEL_OPTIONS = KINDS["brain"] | KINDS["segments"], KINDS["model"]
# Keys whose values a run may change when it continues; the manifests tell other music.
MAY_DIFFER = set(
    "max_steps number_of_epochs batch_size num_workers keep_in_memory gradient_checkpointing "
    "nonfinite_patience log_interval ckpt_interval_minutes keep_checkpoints "
    "data_folder output_folder".split()
)


@contextmanager
def open_run(argv, options, model_options):
    """Yields what `load_experiment` returns, and the `Plan`; locks the output folder meanwhile.

    With --debug the output folder is a temporary one. The checkpointer stores the options, and a
    UserError is raised, before anything is written, if the folder's run had others.
    """
    if any(token.partition("=")[0] == "--debug" for token in argv):
        process = os.getppid() if "RANK" in os.environ else os.getpid()  # torchrun's
        folder = Path(tempfile.gettempdir()) / f"speechbrain_music_debug_{process}"
        print(f"--debug: output_folder is {folder}", file=sys.stderr)
        argv = [*argv, "--output_folder", str(folder)]
    file, hparams, run_opts, overrides = load_experiment(argv, options, model_options)
    folder = Path(hparams["output_folder"])
    with locked_folder(folder, "trains in"):
        stored = _stored_options(file, hparams, overrides)
        refuse_other_options(folder / "save", stored, MAY_DIFFER)
        hparams["checkpointer"] = partial(hparams["checkpointer"], options=stored)
        _, world_size = join_processes(run_opts)
        yield file, hparams, run_opts, overrides, plan_run(hparams, world_size)


def prepare_data(file, hparams, overrides, **masking):
    """The `CorpusData` of a yaml, of its data folder or of composed music; the run's own yaml.

    Manifests of the user's own are read and not written; `masking` is of `make_datasets`.
    """
    own = bool({"train_csv", "valid_csv"} & set(overrides))
    hparams["data_folder"], train, valid = run_on_main(prepare_music, args=[hparams, own])
    data = make_datasets(hparams, train, valid, **masking)
    sb.create_experiment_directory(hparams["output_folder"], file, overrides)
    return data


def _stored_options(file, hparams, overrides):
    """Key -> its value; of frozen encoders their identity, of other objects their text."""
    with open(file, encoding="utf-8") as source:
        nodes = yaml.compose(source).value
    options = {key.value: yaml.serialize(node) for key, node in nodes}
    plain = {key.value for key, node in nodes if not node.tag.startswith("!")} | overrides.keys()
    for key in plain & hparams.keys():
        if isinstance(hparams[key], (bool, int, float, str, list, type(None))):
            options[key] = hparams[key]
    # Another encoder may be in the same folder by now.
    frozen = {k: v.identity for k, v in hparams.items() if isinstance(v, FrozenEncoder)}
    return options | frozen


def plan_run(hparams, world_size):
    """`plan_steps` with the values of a yaml."""
    batches = hparams["effective_batch"], hparams["batch_size"], world_size
    keys = "segments_per_epoch", "number_of_epochs", "max_steps"
    return plan_steps(*batches, *(hparams[key] for key in keys))


def valid_tokens(batch):
    """(B, T) bool, True for tokens of music: not past an item's end, of a readable file."""
    mask, lengths = batch.mask, token_count(batch.samples)
    steps = torch.arange(mask.shape[1], device=mask.device)
    return (steps < lengths.unsqueeze(1)) & mask.any(dim=1, keepdim=True)


class SegmentBrain(MusicBrain):
    """A Brain that trains on crops of tracks.

    In validation a subclass's `compute_objectives` updates `self.metrics`. `panels` are those of
    curves.png, see `reporting.curves.draw_curves`.
    """

    panels = None
    kept = (*MusicBrain.kept, "train_row")

    def __init__(self, **brain):
        super().__init__(**brain)
        name = f"unreadable_rank{self.rank}.csv" if self.world_size > 1 else "unreadable.csv"
        self.unreadable, self.unreadable_csv = {}, Path(self.hparams.output_folder) / name
        self.run_log = None
        self._curves_drawn = time.monotonic()
        self._clear_train_sums()

    @classmethod
    def of_run(cls, hparams, run_opts, plan, **options):
        """The Brain of what `open_run` gives."""
        options |= {key: hparams[key] for key in ("modules", "opt_class")}
        options |= {"checkpointer": hparams["checkpointer"](), "plan": plan}
        return cls(hparams=hparams, run_opts=run_opts, **options)

    # ---- what a subclass provides ----

    def parameter_parts(self):
        """Title -> module, of whose parameters the model consists; by default its children."""
        return dict(self.hparams.model.named_children())

    def train_metrics(self, batch, outputs):
        """Metric -> its sum over what `count` counts, a tensor; by default `self.losses`."""
        return dict(self.losses)

    def train_state(self):
        """Further values for a row of training, which are no means."""
        return {}

    def make_metrics(self):
        """Metrics of held-out tracks: an object with `sums` (a tensor) and `figures(sums)`."""
        raise NotImplementedError

    def report(self, figures):
        """The held-out figures as text; adds to them, by "loss" checkpoints are compared."""
        raise NotImplementedError

    def save_result(self, folder, **metadata):
        """Write what was learned, as the model is now; by default the encoder, without heads.

        `metadata` say how it was learned, see `describe_run`.
        """
        save_export(folder, self.hparams.encoder, self.hparams.features, **metadata)

    def count(self, batch):
        """By default the valid tokens, over which the loss is summed."""
        return valid_tokens(batch).sum()

    # ---- before the first step ----

    def fit_corpus(self, data):
        """Trains on a `dataio.corpus.CorpusData`; a finished run has nothing left to do."""
        self.hours = data.hours
        hparams, place = self.hparams, (self.rank, self.world_size)
        options = {"collate_fn": collate, "num_workers": hparams.num_workers}
        loader = partial(make_loader, pin_memory="cuda" in self.device, **options)
        weights = data.tracks["duration"] * data.tracks["weight"]
        draws = self.plan.steps_per_epoch * hparams.effective_batch
        sampler = WeightedSegmentSampler(weights, draws, hparams.batch_size, hparams.seed, *place)
        rows = every_row(len(data.valid), hparams.batch_size, *place)
        self.train_loader = loader(data.train, batch_sampler=sampler)
        valid_loader = loader(data.valid, batch_sampler=rows)
        self.fit(hparams.epoch_counter, self.train_loader, valid_loader)
        if self.unreadable:
            logger.warning(
                f"{len(self.unreadable)} files could not be read in training and were left out: "
                f"see {self.unreadable_csv}"
            )
        if self.skipped_steps:
            logger.warning(f"{self.skipped_steps} steps were not finite and were skipped")

    def on_fit_start(self):
        """Recovers, opens the logs, prints what the run costs."""
        super().on_fit_start()
        if if_main_process():
            self.run_log = self.hparams.run_log(step=self.optimizer_step)
        if self.optimizer_step:
            logger.info(f"Resuming after step {self.optimizer_step}")
        if self.optimizer_step >= self.plan.total_steps:
            logger.info(f"All {self.plan.total_steps} steps are done: nothing to train")
        else:
            logger.info(self._cost().rstrip())

    def _cost(self):
        """What the run costs, as text, by a measured speed."""
        speed, steps_left = self._measure_speed(), self.plan.total_steps - self.optimizer_step
        seconds_left = steps_left * self.plan.accumulation * speed["micro_seconds"]
        return render(
            COST,
            brain=self,
            size=_count(self.hparams.model),
            parts={name: _count(part) for name, part in self.parameter_parts().items()},
            seconds=self.train_loader.dataset.segment_samples / SAMPLES_PER_TOKEN / TOKEN_RATE,
            left=timedelta(seconds=round(seconds_left)),
            **speed,
        )

    def _measure_speed(self):
        """Seconds per micro-batch, of reading and computing it; tokens of the whole job in it.

        Leaves no trace in the model.
        """
        loader = self.train_loader
        draws = next(iter(loader.batch_sampler))
        # The first pass warms up. It is also the one by which DDP orders its buckets, and with them
        # the sums over processes: steps before and after it would not be the same to the last bit.
        for warm in (False, True):
            begun = time.perf_counter()
            batch = collate([loader.dataset[draw] for draw in draws])
            reading = time.perf_counter() - begun
            begun = time.perf_counter()
            batch = to_device(batch, self.device)
            with self.no_sync(warm), self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
                loss.backward()
            loss.item()  # waits for the device
            computing = time.perf_counter() - begun
            self.modules.zero_grad(set_to_none=True)
        workers = loader.num_workers
        both = max(computing, reading / workers) if workers else computing + reading
        speed = {"reading": reading, "computing": computing, "micro_seconds": both}
        return speed | {"tokens": batch.mask.numel() * self.world_size}

    # ---- training ----

    def on_stage_start(self, stage, epoch=None):
        """Sets the sampler to the place in the epoch, or makes the metrics of held-out tracks."""
        if stage == sb.Stage.TRAIN:
            self.train_loader.batch_sampler.start(epoch, batch=self.step)
        else:
            self.metrics = self.make_metrics()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Adds to the training metrics; writes them every `log_interval` steps."""
        self.note_unreadable(batch)
        with torch.no_grad():
            sums = self.train_metrics(batch, outputs)
        sums |= {"count": self.count(batch), "tokens": batch.mask.numel()}
        for name, value in sums.items():
            self._train_sums[name] = self._as_sum(value) + self._train_sums.get(name, 0.0)
        last = self.optimizer_step == self.plan.total_steps
        if should_step and (last or self.optimizer_step % self.hparams.log_interval == 0):
            self._write_train_row()

    def _write_train_row(self):
        row = self.train_row
        figures, count, tokens = row["sums"], row["sums"].pop("count"), row["sums"].pop("tokens")
        if self.run_log and count:
            self.run_log.write(
                "train",
                self.optimizer_step,
                **{name: value / count for name, value in figures.items()},
                **self.train_state(),
                learning_rate=self.optimizer.param_groups[0]["lr"],
                gradient_norm=self.gradient_norm,
                tokens_per_second=tokens / row["seconds"],
                skipped_steps=self.skipped_steps,
            )
        self._clear_train_sums()

    @property
    def train_row(self):
        """Sums over all processes since the last row of the log, and the seconds since then."""
        sums = {k: self.reduce_sum(v.clone()).item() for k, v in self._train_sums.items()}
        return {"sums": sums, "seconds": time.monotonic() - self._window_began}

    @train_row.setter
    def train_row(self, row):
        self._clear_train_sums()
        self._window_began -= row["seconds"]
        self._train_sums = {k: self._as_sum(v * (self.rank == 0)) for k, v in row["sums"].items()}

    def _as_sum(self, value):
        return torch.as_tensor(value, dtype=torch.float64, device=self.device)

    def _clear_train_sums(self):
        self._train_sums = {}
        self._window_began = time.monotonic()

    def note_unreadable(self, batch):
        """Lists files of a batch that could not be read, each once."""
        for file, reason in batch.errors:
            if file not in self.unreadable:
                self.unreadable[file] = reason
                logger.warning(f"{reason} It is left out.")
                with open(self.unreadable_csv, "a", newline="", encoding="utf-8") as list_file:
                    csv.writer(list_file).writerow([file, reason])

    # ---- held-out tracks ----

    def evaluate_batch(self, batch, stage):
        """Loss of a held-out batch per counted item; `compute_objectives` updates the metrics."""
        self.note_unreadable(batch)
        loss = super().evaluate_batch(to_device(batch, self.device), stage)
        return loss / self.count(batch).clamp(min=1).cpu()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Prints and logs held-out figures, draws curves, saves a checkpoint by the figure "loss".

        Raises a UserError if no held-out track could be read.
        """
        if stage != sb.Stage.VALID:
            return
        figures = self.metrics.figures(self.reduce_sum(self.metrics.sums))
        if not figures:
            raise UserError("none of the held-out tracks could be read: check valid_csv's paths")
        table = self.report(figures)
        logger.info(f"Epoch {epoch}, step {self.optimizer_step}, held out\n{table}")
        if self.run_log:
            self.run_log.write("valid", self.optimizer_step, epoch=epoch, **figures)
            last = self.optimizer_step >= self.plan.total_steps
            if last or time.monotonic() - self._curves_drawn > CURVES_SECONDS:
                title = f"{self.hparams.system}, step {self.optimizer_step}"
                draw_curves(self.hparams.output_folder, title, self.panels)
                self._curves_drawn = time.monotonic()
        if not math.isfinite(figures["loss"]):
            logger.warning(f"the held-out loss is {figures['loss']}: this step cannot be exported")
        self._clear_train_sums()  # the time of validation is not training's
        self.checkpointer.save_and_keep_only(
            meta={"loss": figures["loss"], "step": self.optimizer_step},
            min_keys=["loss"],
            num_to_keep=self.hparams.keep_checkpoints,
        )

    def export(self, folder):
        """Writes what the checkpoint with the least held-out loss has learned; returns its step.

        None where nothing is written: without a checkpoint, and in all processes but the first.
        """
        if 0 < self.optimizer_step == self.skipped_steps:
            raise UserError(
                f"none of the {self.skipped_steps} steps was finite, so nothing was learned: lower "
                "lr, check the options of the method, and choose another output_folder"
            )
        best = self.checkpointer.recover_if_possible(min_key="loss")
        if best is None or not if_main_process():
            return None
        run = vars(self.hparams)
        self.save_result(folder, **describe_run(run, best.meta, run["train_csv"], run["valid_csv"]))
        logger.info(f"Exported step {best.meta['step']} to {folder}")
        return best.meta["step"]


def _count(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
