"""Experiments from a yaml and a command line: every key is known, used and checked.

HyperPyYAML accepts a key that nothing uses, and YAML reads a folder named 007 as a number. Here a
recipe declares the keys that it reads with the kind of each; an unknown key, an idle key or a value
out of range is an error before anything is built.
"""

import atexit
import difflib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML, ScalarNode, YAMLError
from speechbrain.utils.run_opts import RunOptions

from speechbrain_music.utils.errors import UserError, did_you_mean

# Run options of SpeechBrain's Brain that would contradict a key of the yaml.
REPLACED = {
    "grad_accumulation_factor": "effective_batch (accumulation is computed from it)",
    "optimizer_step_limit": "max_steps",
    "auto_mix_prec": "precision",
    "bfloat16_mix_prec": "precision",
    "data_parallel_backend": "torchrun",
}


OBJECT_TAG = re.compile(r"!(name|new):")


class ConfigError(UserError):
    """A yaml, or an option on the command line, that cannot be used."""


# ---- kinds of values ----


def _yaml_value(text):
    """A YAML 1.2 value; what is no scalar or list stays text."""
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):  # a date such as 2020-13-45
        return text
    return text if isinstance(value, dict) else value


class Kind(NamedTuple):
    """Values that an option may have: a test, words after "it must be", a parser of its text."""

    fits: Callable
    allowed: str
    parse: Callable = _yaml_value


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


whole = Kind(lambda x: _is_int(x) and x >= 1, "a whole number of 1 or more")
natural = Kind(lambda x: _is_int(x) and x >= 0, "a whole number of 0 or more")
number = Kind(_is_number, "a number")
positive = Kind(lambda x: _is_number(x) and x > 0, "above 0")
not_negative = Kind(lambda x: _is_number(x) and x >= 0, "0 or more")
share = Kind(lambda x: _is_number(x) and 0 < x < 1, "between 0 and 1")
dropout = Kind(lambda x: _is_number(x) and 0 <= x < 1, "at least 0 and less than 1")
boolean = Kind(lambda x: isinstance(x, bool), "true or false")
# Text is taken as it is: a folder may be named 007, true or [live].
text = Kind(lambda x: isinstance(x, str), "text", str)
path = Kind(lambda x: isinstance(x, (str, Path)) and str(x) != "", "a path", str)
# An object that the yaml builds; on a command line its class can be exchanged.
yaml_object = Kind(lambda x: True, "built by the yaml", None)


def choice(*values):
    """One of some values."""
    return Kind(lambda x: any(x is v or x == v and type(x) is type(v) for v in values),
                f"{', '.join(map(str, values[:-1]))} or {values[-1]}")  # fmt: skip


def optional(kind):
    """What `kind` allows, or null; a path or text on the command line is never null."""

    def parse(given):
        return kind.parse(given) if kind.parse is str or _yaml_value(given) is not None else None

    return Kind(lambda x: x is None or kind.fits(x), f"{kind.allowed}, or null", parse)


def list_of(kind):
    """A list of one or more values of a kind."""
    return Kind(
        lambda x: isinstance(x, list) and len(x) > 0 and all(map(kind.fits, x)),
        f"a list, and each value {kind.allowed}",
    )


def _text_or_list(given):
    try:
        values = json.loads(given)
    except ValueError:
        return given
    return values if isinstance(values, list) else given


texts = Kind(
    lambda x: path.fits(x) or list_of(path).fits(x),
    'text, or a list of texts such as ["a", "b"]',
    _text_or_list,
)

names = Kind(lambda x: text.fits(x) or list_of(text).fits(x), "a name, or a list of names")


# ---- loading ----


class Hparams(dict):
    """What a yaml gives; a key that it lacks is a ConfigError."""

    def __missing__(self, key):
        raise ConfigError(f"the yaml has no key {key}: add it, see hparams/ for its form")


def load_experiment(argv, options, model_options=None):
    """Loads a recipe's yaml with the overrides of its command line.

    Arguments
    ---------
    argv : list of str
        The yaml's path, then `--key value` or `--key=value`: top-level keys of the yaml, or run
        options of SpeechBrain. `--KEY package.module.Class` exchanges the class of an object
        (`!new:` or `!name:`) and keeps its arguments.
    options, model_options : dict
        Key -> `Kind` of all that the recipe's code reads, and of what only the yaml's objects do.

    Returns
    -------
    tuple
        A file with the yaml's text; `Hparams`; RunOptions for the Brain; the overrides.

    Raises
    ------
    ConfigError
        For a missing or unreadable yaml, an unknown key (naming the nearest valid one), a key
        that nothing uses, a value that is not allowed, or one that a module refuses.
    """
    kinds = {**(model_options or {}), **options}
    if not argv or argv[0].startswith("--"):
        raise ConfigError("the first argument must be a yaml, such as hparams/brn_sum.yaml")
    file = Path(argv[0])
    try:
        source = file.read_text(encoding="utf-8")
        nodes = YAML(pure=True).compose(source)
        written = {key.value: value for key, value in nodes.value}
    except (OSError, UnicodeError) as error:
        siblings = [path.name for path in file.parent.glob("*.yaml")]
        hint = did_you_mean(file, siblings, "pass an experiment's yaml")
        raise ConfigError(f"{file} cannot be read ({error}): {hint}") from None
    except (YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{file} is no yaml of an experiment: {error}") from None
    run_names = set(RunOptions().as_dict()) - {"param_file", "overridden_args"}
    refuse_idle_keys(file, source, written, set(options) | run_names)

    overrides, run_arguments = {}, []
    for key, value in _pairs(argv[1:]):
        if key in written and OBJECT_TAG.match(str(written[key].tag)):
            source = _with_class(source, key, value)
        elif key in written:
            overrides[key] = _parse(key, value, kinds)
        elif key in REPLACED:
            raise ConfigError(f"--{key} is not used here: use {REPLACED[key]}")
        elif key in run_names:
            run_arguments += [f"--{key}"] if value is None else [f"--{key}", value]
        else:
            near = difflib.get_close_matches(key, [*written, *run_names], n=1, cutoff=0)
            raise ConfigError(f"unknown option --{key}: did you mean --{near[0]}?")
    # Plain values are checked before anything is built from them, the others after.
    plain = {
        key: _yaml_value(node.value) if node.style is None else node.value
        for key, node in written.items()
        if isinstance(node, ScalarNode) and not str(node.tag).startswith("!")
    }
    check_values(plain | overrides, kinds)
    _, run_opts, _ = RunOptions.from_command_line_args([str(file), *run_arguments])
    try:
        hparams = Hparams(load_hyperpyyaml(source, overrides))
    except ImportError as error:
        raise ConfigError(
            f"{file}: {error}: install its package, or add its folder to PYTHONPATH"
        ) from error
    except (ValueError, TypeError, ArithmeticError, RuntimeError, YAMLError) as error:
        # HyperPyYAML puts what it says before the error's own arguments.
        raise ConfigError(f"{file}: {': '.join(map(str, error.args)) or error}") from error
    check_values(hparams, kinds)
    return _file_of(source, file), hparams, run_opts, overrides


def check_values(values, kinds):
    """Raises ConfigError for the first value that its kind does not allow."""
    for key, value in values.items():
        if key in kinds and not kinds[key].fits(value):
            raise ConfigError(f"{key} is {value!r}: it must be {kinds[key].allowed}")


def refuse_idle_keys(file, source, keys, read):
    """Raises ConfigError for a key that neither the recipe reads nor the yaml refers to."""
    referred = set(re.findall(r"<(\w+)", source))
    for key in keys:
        if key not in read | referred and not key.startswith("__"):
            near = difflib.get_close_matches(key, read - set(keys), n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            raise ConfigError(f"{file}: nothing uses the key {key}: {hint}")


def _pairs(tokens):
    tokens = list(tokens)
    while tokens:
        token = tokens.pop(0)
        if not token.startswith("--") or token == "--":
            raise ConfigError(
                f"unexpected argument {token!r}: write options as --key value, and quote a path "
                "with a space"
            )
        key, equals, value = token[2:].partition("=")
        if not equals:
            is_flag = not tokens or tokens[0].startswith("--")
            value = None if is_flag else tokens.pop(0)
        yield key, value


def _parse(key, value, kinds):
    kind = kinds.get(key)
    if value is None:
        if kind is boolean:
            return True
        raise ConfigError(f"--{key} needs a value")
    if kind is None:
        return _yaml_value(value)
    if kind.parse is None:
        raise ConfigError(f"--{key} {value}: {key} is built by the yaml, change it there")
    return kind.parse(value)


def _with_class(source, key, name):
    """The yaml's text with another class for an object; its arguments stay as they are."""
    if name is None or not re.fullmatch(r"\w+(\.\w+)+", name):
        raise ConfigError(f"--{key} is {name}: it must be a class, as package.module.Class")
    return re.sub(rf"^({key}\s*:\s*!(?:name|new):)\S+", rf"\g<1>{name}", source, flags=re.MULTILINE)


def _file_of(source, file):
    """A file with the yaml's text: the yaml itself if no class was exchanged."""
    if source == file.read_text(encoding="utf-8"):
        return str(file)
    with NamedTemporaryFile("w", suffix=".yaml", delete=False, encoding="utf-8") as changed:
        changed.write(source)
    atexit.register(Path(changed.name).unlink, missing_ok=True)
    return changed.name
