"""Options of a task, their short forms, and the key of the results that they lead to."""

import hashlib
import json
import logging
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import speechbrain as sb
from speechbrain.utils.distributed import main_process_only, run_on_main

from speechbrain_music.brains.base import BRAIN_OPTIONS, join_processes
from speechbrain_music.evaluation.tasks import find_task
from speechbrain_music.models.frozen import make_encoders
from speechbrain_music.utils import kinds
from speechbrain_music.utils.atomic import locked_folder
from speechbrain_music.utils.config import load_experiment
from speechbrain_music.utils.environment import versions
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.memory import keep_freed_memory

logger = logging.getLogger(__name__)

RESULTS = "results.json"
OTHERS = "other data, versions or settings of the task"  # on which results depend besides options
# The short forms of an evaluation. A task's yaml may add to the second under `marble`; of frame
# tasks, which have one learning rate, the first has no rates.
QUICK = {"learning_rates": [1e-3, 1e-2, 1e-1], "probe_seeds": [0], "number_of_epochs": 30}
MARBLE = {"standardize": False, "mix_from": 1, "random_mix": True, "probe_seeds": [1234]}

# Option -> kind, see options.yaml.
KINDS = kinds.read(Path(__file__).with_name("options.yaml"))
PROTOCOL, FRAMES, VERSIONS = (KINDS[name] for name in ("protocol", "frames", "versions"))
DATA_OPTIONS = KINDS["data"]
FINE_TUNING = KINDS["fine_tuning"] | {
    key: BRAIN_OPTIONS[key] for key in ("seed", "weight_decay", "max_grad_norm", "precision")
}
OPTIONS = BRAIN_OPTIONS | PROTOCOL | FRAMES | VERSIONS | FINE_TUNING | KINDS["others"]


class Evaluation(NamedTuple):
    """One run of a task's recipe."""

    argv: list
    began: float  # seconds since the epoch
    hparams_file: str
    hparams: dict
    run_opts: object
    overrides: dict
    encoders: list  # of FrozenEncoder; several are seeds of one system
    recipe: Path  # its train.py
    output: Path


@contextmanager
def open_evaluation(argv, recipe):
    """Yields an `Evaluation`: loads a task's yaml and its encoders, and joins other processes.

    recipe: the path of the task's train.py. While the block runs, the output folder is locked.
    Raises UserError for what does not fit.
    """
    began = time.time()
    keep_freed_memory()
    hparams_file, hparams, run_opts, overrides = load_task(argv)
    recipe = Path(recipe).resolve()
    task, folder = find_task(hparams["name"]), recipe.parent.name
    if task.folder != folder:
        raise UserError(
            f"name is {task.name!r} and the recipe that of {folder}: run "
            f"recipes/{task.folder}/train.py, or pass a yaml of {folder}"
        )
    classes = hparams["encoder_classes"] or ()
    classes = [classes] if isinstance(classes, str) else classes
    options = hparams["trust_remote_code"], hparams.get("pooling", "mean"), classes
    encoders = make_encoders(hparams["encoder"], *options)
    output = output_folder(hparams, encoders[0].name)
    join_processes(run_opts)
    loaded = hparams_file, hparams, run_opts, overrides, encoders
    with locked_folder(output, "evaluates in"):
        yield Evaluation(list(argv), began, *loaded, recipe, output)


def prepare_data(run):
    """Prepares the data on one process; returns its report and manifests (split -> table)."""
    return run_on_main(run.hparams["prepare"], kwargs={"out": run.output / "manifests"})


def load_task(argv):
    """A task's yaml with its short forms applied, where no explicit option has precedence.

    Returns what `load_experiment` does. Raises UserError, also if no encoder is named.
    """
    hparams_file, hparams, run_opts, overrides = load_experiment(argv, OPTIONS, DATA_OPTIONS)
    if hparams["encoder"] is None:
        raise UserError(
            "encoder is not set: pass --encoder with an export's folder, mel, random:FOLDER or "
            "hf:NAME"
        )
    for head in (heads := hparams.get("heads", [])):
        if head not in (known := hparams["task"].heads) or heads.count(head) > 1:
            raise UserError(f"heads has {head!r}: choose of {', '.join(known)}, each once")
    short = {}
    quick = {k: v for k, v in QUICK.items() if k != "learning_rates" or "heads" not in hparams}
    for name, changes in (("marble_compat", MARBLE | hparams.get("marble", {})), ("quick", quick)):
        if hparams.get(name):
            short |= {key: value for key, value in changes.items() if key not in overrides}
    if short:
        # The yaml's own objects need these values too, so it is loaded once more with them.
        values = {k: v if isinstance(v, str) else json.dumps(v) for k, v in short.items()}
        pairs = [part for key, value in values.items() for part in (f"--{key}", value)]
        _, hparams, _, _ = load_experiment([*argv, *pairs], OPTIONS, DATA_OPTIONS)
    return hparams_file, hparams, run_opts, overrides


def output_folder(hparams, encoder):
    """The yaml's output_folder, else results/<task>/<encoder, label and short forms>."""
    if hparams["output_folder"]:
        return Path(hparams["output_folder"])
    parts = [re.sub(r"[^\w.-]+", "_", part) for part in (encoder, hparams.get("label")) if part]
    parts += [word for word in ("quick", "marble_compat") if hparams.get(word)]
    parts += [] if hparams.get("freeze_encoder", True) else ["fine_tuned"]
    return Path("results") / hparams["name"] / "-".join(parts)


def protocol_of(hparams):
    """The options that the results depend on, of those that the task has, and the task's class."""
    options = {name: hparams[name] for name in (PROTOCOL | FRAMES | VERSIONS) if name in hparams}
    return {"task": type(hparams["task"]).__name__} | options


def results_key(hparams, caches, labels):
    """A hash of all that the results depend on: options, the task, features, labels, versions."""
    parts = protocol_of(hparams)
    if not hparams.get("freeze_encoder", True):
        parts |= {name: hparams[name] for name in FINE_TUNING}
    parts |= {"name": hparams["name"], "settings": vars(hparams["task"]), "versions": versions()}
    parts |= {"features": [cache.metadata for cache in caches], "targets": labels}
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value):
    """An array by its values; another object, of a task of the user's own, by its class."""
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__


@main_process_only
def begin(run, caches, chunks):
    """Makes the experiment directory; returns False if it has these results, which are reused.

    `chunks` are LabelledChunks. Raises UserError if it has other results.
    """
    try:
        stored = json.loads((run.output / RESULTS).read_text(encoding="utf-8"))
        key, protocol = stored["key"], dict(stored["protocol"])
        identities = [encoder["identity"] for encoder in stored["encoder"]["runs"]]
    except (OSError, ValueError, LookupError, TypeError):  # none, or none that could be used
        sb.create_experiment_directory(run.output, run.hparams_file, run.overrides)
        shutil.copy(run.recipe, run.output)  # SpeechBrain copies this module
        return True
    if key == results_key(run.hparams, caches, chunks.labels):
        logger.warning(f"{run.output} has these results already: delete it to compute them again")
        return False
    differing = [k for k, value in protocol_of(run.hparams).items() if protocol.get(k) != value]
    if identities != [each.identity for each in run.encoders]:
        differing.insert(0, "encoder")
    what = f"another {', '.join(differing)}" if differing else OTHERS
    raise UserError(
        f"{run.output} has results of {what}: choose another output_folder, or delete its "
        f"{RESULTS} to replace them"
    )
