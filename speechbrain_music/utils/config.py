"""Experiments from a yaml and a command line, with no key ignored.

SpeechBrain's own parser takes `--key=a=b` apart and leaves some run options as text; HyperPyYAML
accepts a key that nothing uses. In a run of a week a typo must cost zero seconds.
"""

import difflib
import re
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.run_opts import RunOptions

from speechbrain_music.utils.errors import UserError

# Run options of SpeechBrain's Brain that would contradict a key of the yaml.
REPLACED = {
    "grad_accumulation_factor": "effective_batch (accumulation is computed from it)",
    "optimizer_step_limit": "max_steps",
    "auto_mix_prec": "precision",
    "bfloat16_mix_prec": "precision",
    "data_parallel_backend": "torchrun",
}


class ConfigError(UserError):
    """A yaml, or an option on the command line, that cannot be used.

    Example
    -------
    >>> load_experiment(["--lr", "1"], {"lr"})
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.config.ConfigError: the first argument must be a yaml, such as \
hparams/brn_sum.yaml
    """


def load_experiment(argv, reads):
    """Loads a recipe's yaml with the overrides of its command line.

    Arguments
    ---------
    argv : list of str
        The yaml's path, then `--key value` or `--key=value`: top-level keys of the yaml, or run
        options of SpeechBrain (`--device cpu`, `--noprogressbar` ...).
    reads : set of str
        The keys that the recipe itself reads.

    Returns
    -------
    hparams_file : str
        The yaml's path.
    hparams : dict
        What HyperPyYAML makes of it.
    run_opts : RunOptions
        For the Brain.
    overrides : dict
        Those of the yaml, for `create_experiment_directory`.

    Raises
    ------
    ConfigError
        For a missing or unreadable yaml, an unknown key (naming the nearest valid one), a key
        that nothing uses, or a value that a module refuses.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("seed: 1\\nlr: 0.1\\n")
    >>> load_experiment([str(path), "--lr", "1e-3"], {"seed", "lr"})[1]
    {'seed': 1, 'lr': 0.001}
    >>> load_experiment([str(path), "--lrr", "1"], {"seed", "lr"})
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.config.ConfigError: unknown option --lrr: did you mean --lr?
    """
    if not argv or argv[0].startswith("--"):
        raise ConfigError("the first argument must be a yaml, such as hparams/brn_sum.yaml")
    path = Path(argv[0])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): pass an experiment's yaml") from None
    keys = re.findall(r"^(\w+)\s*:", text, re.MULTILINE)
    run_names = set(RunOptions().as_dict()) - {"param_file", "overridden_args"}
    _refuse_unused(path, text, keys, reads | run_names)

    overrides, run_arguments = {}, []
    for key, value in _pairs(argv[1:]):
        if key in keys:
            overrides[key] = _parse(key, value)
        elif key in REPLACED:
            raise ConfigError(f"--{key} is not used here: use {REPLACED[key]}")
        elif key in run_names:
            run_arguments += [f"--{key}"] if value is None else [f"--{key}", value]
        else:
            near = difflib.get_close_matches(key, [*keys, *run_names], n=1, cutoff=0)
            raise ConfigError(f"unknown option --{key}: did you mean --{near[0]}?")
    _, run_opts, _ = RunOptions.from_command_line_args([str(path), *run_arguments])
    try:
        with open(path, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, YAMLError, ImportError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return str(path), hparams, run_opts, overrides


RANGES = {
    "whole": (lambda x: isinstance(x, int) and x >= 1, "a whole number of 1 or more"),
    "natural": (lambda x: isinstance(x, int) and x >= 0, "a whole number of 0 or more"),
    "positive": (lambda x: isinstance(x, (int, float)) and 0 < x < float("inf"), "above 0"),
    "not_negative": (lambda x: isinstance(x, (int, float)) and 0 <= x < float("inf"), "0 or more"),
    "share": (lambda x: isinstance(x, (int, float)) and 0 < x < 1, "between 0 and 1"),
}


def check_ranges(hparams, **names):
    """Refuses numbers out of range: keyword = a kind of `RANGES`, value = names of keys.

    Raises ConfigError with the key, its value and what is allowed.

    Example
    -------
    >>> check_ranges({"lr": 0.1, "nhead": 0}, positive="lr", whole="nhead")
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.config.ConfigError: nhead is 0: it must be a whole number of 1 or more
    """
    for kind, keys in names.items():
        fits, allowed = RANGES[kind]
        for key in keys.split():
            if isinstance(hparams[key], bool) or not fits(hparams[key]):
                raise ConfigError(f"{key} is {hparams[key]!r}: it must be {allowed}")


def _refuse_unused(path, text, keys, read):
    referred = set(re.findall(r"<(\w+)", text))
    for key in keys:
        if key not in read | referred and not key.startswith("__"):
            near = difflib.get_close_matches(key, read - set(keys), n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            raise ConfigError(f"{path}: nothing uses the key {key}: {hint}")


def _pairs(tokens):
    tokens = list(tokens)
    while tokens:
        token = tokens.pop(0)
        if not token.startswith("--") or token == "--":
            raise ConfigError(f"{token!r} stands where an option was expected: write --key value")
        key, equals, value = token[2:].partition("=")
        if not equals:
            is_flag = not tokens or tokens[0].startswith("--")
            value = None if is_flag else tokens.pop(0)
        yield key, value


def _parse(key, value):
    if value is None:
        raise ConfigError(f"--{key} needs a value")
    if key.endswith(("_folder", "_csv")):
        return value  # a folder named 007 is no number
    try:
        parsed = YAML(typ="safe", pure=True).load(value)
    except YAMLError:
        return value
    return value if isinstance(parsed, dict) else parsed
