"""A task's settings: its yaml, its short forms, and what the figures depend on."""

import hashlib
import json
import re
from pathlib import Path

from speechbrain_music.brains.base import check_options
from speechbrain_music.utils.config import ConfigError, check_ranges, load_experiment
from speechbrain_music.utils.environment import versions

QUICK = {"learning_rates": [1e-4, 1e-3, 1e-2], "probe_seeds": [0], "number_of_epochs": 30}
# What MARBLE's code does. A task's yaml may say more under `marble`.
MARBLE = {"standardize": False, "mix_from": 1, "random_mix": True, "probe_seeds": [1234]}
PREPARATION = ("allow_missing", "split", "tagged_only")  # handed on if the yaml has them
# What the figures depend on, besides the data and the encoder.
PROTOCOL = (
    "task chunk_seconds min_last_chunk_seconds pooling standardize mix_from random_mix hidden "
    "probe_dropout "
    "batch_size learning_rates probe_seeds number_of_epochs patience plateau_patience "
    "successive_halving_above resamples quick marble_compat freeze_encoder"
).split()
FINE_TUNING = (
    "seed lr_encoder lr_probe layer_decay warmup_steps weight_decay max_grad_norm "
    "fine_tune_epochs fine_tune_patience fine_tune_plateau effective_batch precision"
).split()
READS = {*PROTOCOL, *FINE_TUNING} | set(
    "encoder trust_remote_code data_folder replica_scale allow_missing output_folder "
    "feature_folder extract_batch num_workers fine_tune_batch probes opt_class "
    "fine_tune_opt_class max_seconds split tagged_only marble".split()
)


def load_task(argv):
    """A task's yaml with its short forms applied, checked; as `utils.config.load_experiment`.

    Raises ConfigError, also where no encoder is named.

    Example
    -------
    >>> argv = ["hparams/gtzan_genre.yaml", "--encoder", "mel", "--quick", "True"]
    >>> hparams = load_task([*argv, "--probe_seeds", "[7, 8]"])[1]
    >>> hparams["learning_rates"], hparams["probe_seeds"]  # an option given stays
    ([0.0001, 0.001, 0.01], [7, 8])
    """
    hparams_file, hparams, run_opts, overrides = load_experiment(argv, READS)
    if hparams["encoder"] is None:
        raise ConfigError(
            "encoder is not set: pass --encoder with an export's folder, mel, random:FOLDER or "
            "hf:NAME"
        )
    short = {}
    for name, changes in (("marble_compat", MARBLE | hparams.get("marble", {})), ("quick", QUICK)):
        if hparams[name]:
            short |= {key: value for key, value in changes.items() if key not in overrides}
    if short:
        # The values reach the modules of the yaml too, as if they stood on the command line.
        pairs = [part for key, value in short.items() for part in (f"--{key}", json.dumps(value))]
        _, hparams, _, _ = load_experiment([*argv, *pairs], READS)
    check_options(hparams)
    check_ranges(
        hparams,
        whole="hidden batch_size number_of_epochs patience resamples extract_batch "
        "successive_halving_above "
        "fine_tune_epochs fine_tune_patience fine_tune_batch effective_batch",
        natural="seed plateau_patience fine_tune_plateau num_workers warmup_steps mix_from",
        positive="replica_scale lr_encoder lr_probe layer_decay",
    )
    for key, kind in (("learning_rates", float), ("probe_seeds", int)):
        values = hparams[key]
        if not isinstance(values, list) or not values or not all(type(v) is kind for v in values):
            raise ConfigError(f"{key} is {values!r}: it must be a list of {kind.__name__}s")
    if hparams["standardize"] not in (True, False, "whiten"):
        raise ConfigError(f"standardize is {hparams['standardize']!r}: use True, False or whiten")
    if not 0 <= hparams["probe_dropout"] < 1:
        raise ConfigError(f"probe_dropout is {hparams['probe_dropout']}: it must be in [0, 1)")
    return hparams_file, hparams, run_opts, overrides


def output_folder(hparams, name):
    """Where a run writes: what the yaml says, else results/<task>/<encoder and short forms>.

    Example
    -------
    >>> hparams = {"task": "key", "output_folder": None, "freeze_encoder": False}
    >>> output_folder(hparams | {"quick": True, "marble_compat": False}, "hf:m/95M").as_posix()
    'results/key/hf_m_95M-quick-fine_tuned'
    """
    if hparams["output_folder"]:
        return Path(hparams["output_folder"])
    parts = [re.sub(r"[^\w.-]+", "_", name)]
    parts += [word for word in ("quick", "marble_compat") if hparams[word]]
    parts += [] if hparams["freeze_encoder"] else ["fine_tuned"]
    return Path("results") / hparams["task"] / "-".join(parts)


def results_key(hparams, facts, answers):
    """A hash of all that the results depend on: settings, features, labels, versions.

    facts: list of the feature caches' facts. answers: split -> targets of its tracks.

    Example
    -------
    >>> hparams = dict.fromkeys([*PROTOCOL, *FINE_TUNING], 1)
    >>> key = results_key(hparams, [], {})
    >>> key == results_key(hparams | {"hidden": 2}, [], {})
    False
    >>> key == results_key(hparams | {"lr_encoder": 2}, [], {})  # of a frozen encoder
    True
    """
    names = PROTOCOL + ([] if hparams["freeze_encoder"] else FINE_TUNING)
    parts = {name: hparams[name] for name in names}
    parts["features"] = facts
    parts["answers"] = {split: value.tolist() for split, value in answers.items()}
    parts["versions"] = versions()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
