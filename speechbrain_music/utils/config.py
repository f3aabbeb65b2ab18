"""Experiments from a yaml and a command line: every key is known, used and checked.

HyperPyYAML accepts a key that nothing uses, and YAML reads a folder named 007 as a number. Here a
recipe declares the keys that it reads with the kind of each; an unknown key, an idle key or a value
out of range is an error before anything is built.
"""

import atexit
import difflib
import re
from pathlib import Path
from tempfile import NamedTemporaryFile

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML, ScalarNode, YAMLError
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from speechbrain_music.utils import kinds
from speechbrain_music.utils.errors import UserError, did_you_mean

TABLES = YAML(typ="safe", pure=True).load(Path(__file__).with_name("run_options.yaml"))
REPLACED, SYNONYMS = TABLES["replaced"], TABLES["synonyms"]
RUN_OPTIONS = kinds.named(TABLES["kinds"])
OBJECT_TAG = re.compile(r"!(name|new):")


class Hparams(dict):
    """What a yaml gives; a key that it lacks is a `UserError`."""

    def __missing__(self, key):
        raise UserError(f"the yaml has no key {key}: add it, see hparams/ for its form")


def load_experiment(argv, options, model_options=None):
    """Loads a recipe's yaml with the overrides of its command line.

    `argv` is the yaml's path, then `--key value` or `--key=value`: top-level keys of the yaml, or
    run options of SpeechBrain. `--KEY package.module.Class` exchanges the class of an object
    (`!new:` or `!name:`) and keeps its arguments. `options` and `model_options` are key -> `Kind`
    of all that the recipe's code reads, and of what only the yaml's objects do.

    Returns a file with the yaml's text, `Hparams`, RunOptions for the Brain, and the overrides.
    Raises UserError for a missing or unreadable yaml, an unknown key (naming the nearest one), a
    key that nothing uses, a value that is not allowed, or one that a module refuses.
    """
    if not argv or argv[0].startswith("--"):
        raise UserError("the first argument must be a yaml, such as hparams/brn_sum.yaml")
    file = Path(argv[0])
    try:
        source = file.read_text(encoding="utf-8")
        nodes = YAML(pure=True).compose(source)
        written = {key.value: value for key, value in nodes.value}
    except (OSError, UnicodeError) as error:
        hint = did_you_mean(file, "pass an experiment's yaml", "*.yaml")
        raise UserError(f"{file} cannot be read ({error}): {hint}") from None
    except (YAMLError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{file} is no yaml of an experiment: {error}") from None
    run_options = {
        name: RUN_OPTIONS.get(name, kinds.boolean if isinstance(value, bool) else kinds.text)
        for name, value in RunOptions().as_dict().items()
        if name in HELP_TEXTS or name.endswith("_module_keys")
    }
    schema = {**run_options, **(model_options or {}), **options}
    refuse_idle_keys(file, source, written, {*options, *run_options})

    overrides, run_values = {}, {}
    for key, value in _pairs(argv[1:]):
        if key in written and OBJECT_TAG.match(str(written[key].tag)):
            source = _with_class(source, key, value)
        elif key in written:
            overrides[key] = _parse(key, value, schema)
        elif key in REPLACED:
            raise UserError(f"--{key} is not used here: use {REPLACED[key]}")
        elif key in run_options:
            run_values[key] = _parse(key, value, schema)
        else:
            near = _nearest_option(key, written, run_options)
            raise UserError(f"unknown option --{key}: did you mean --{near}?")
    # Plain values are checked before anything is built from them, the others after.
    plain = {
        key: kinds.yaml_value(node.value) if node.style is None else node.value
        for key, node in written.items()
        if isinstance(node, ScalarNode) and not str(node.tag).startswith("!")
    }
    check_values(plain | overrides | run_values, schema)
    switches = [f"--{key}" for key, value in run_values.items() if value is True]
    pairs = [f"--{key}={value}" for key, value in run_values.items() if type(value) is not bool]
    _, run_opts, _ = RunOptions.from_command_line_args([str(file), *switches, *pairs])
    try:
        hparams = Hparams(load_hyperpyyaml(source, overrides))
    except ImportError as error:
        raise UserError(
            f"{file}: {error}: install its package, or add its folder to PYTHONPATH"
        ) from error
    except (ValueError, TypeError, ArithmeticError, RuntimeError, YAMLError) as error:
        # HyperPyYAML puts what it says before the error's own arguments.
        fault = ": ".join(map(str, error.args)) or error
        raise UserError(fault if isinstance(error, UserError) else f"{file}: {fault}") from error
    check_values(hparams, schema)
    return _file_of(source, file), hparams, run_opts, overrides


def with_preset(argv, folder):
    """The command line, with the values of folder/NAME.yaml before its own for `--preset NAME`."""
    if not any(token.partition("=")[0] == "--preset" for token in argv[1:]):
        return argv
    pairs, presets = [*_pairs(argv[1:])], {path.stem: path for path in folder.glob("*.yaml")}
    for name in [value for key, value in pairs if key == "preset"]:
        if name not in presets:
            raise UserError(f"--preset is {name}: choose {', '.join(sorted(presets))}")
        pairs = [*YAML(typ="safe", pure=True).load(presets[name]).items(), *pairs]
    pairs = [(f"--{key}", value) for key, value in pairs if key != "preset"]  # the last one counts
    return [argv[0], *(key if value is None else f"{key}={value}" for key, value in pairs)]


def check_values(values, schema):
    """Raises UserError for the first value that its kind does not allow."""
    for key, value in values.items():
        if key in schema and not schema[key].fits(value):
            raise UserError(f"{key} is {value!r}: it must be {schema[key].allowed}")


def refuse_idle_keys(file, source, keys, read):
    """Raises UserError for a key that neither the recipe reads nor the yaml refers to."""
    referred = set(re.findall(r"<(\w+)", source))
    for key in keys:
        if key not in read | referred and not key.startswith("__"):
            near = difflib.get_close_matches(key, read - set(keys), n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            raise UserError(f"{file}: nothing uses the key {key}: {hint}")


def _pairs(tokens):
    tokens = list(tokens)
    while tokens:
        token = tokens.pop(0)
        if not token.startswith("--") or token == "--":
            raise UserError(
                f"unexpected argument {token!r}: write options as --key value, and quote a path "
                "with a space"
            )
        key, equals, value = token[2:].partition("=")
        if not equals:
            is_flag = not tokens or tokens[0].startswith("--")
            value = None if is_flag else tokens.pop(0)
        yield key, value


def _nearest_option(key, written, run_options):
    """The option that was meant: a synonym, else one that is alike; objects come last."""
    if SYNONYMS.get(key) in written:
        return SYNONYMS[key]
    plain = [name for name, node in written.items() if not str(node.tag).startswith("!n")]
    near = difflib.get_close_matches(key, plain, n=1)
    return (near or difflib.get_close_matches(key, [*written, *run_options], n=1, cutoff=0))[0]


def _parse(key, value, schema):
    kind = schema.get(key)
    if value is None:
        if kind is kinds.boolean:
            return True
        raise UserError(f"--{key} needs a value")
    if kind is None:
        return kinds.given(value)
    if kind.parse is None:
        raise UserError(f"--{key} {value}: {key} is built by the yaml, change it there")
    return kind.parse(value)


def _with_class(source, key, name):
    """The yaml's text with another class for an object; its arguments stay as they are."""
    if name is None or not re.fullmatch(r"\w+(\.\w+)+", name):
        raise UserError(f"--{key} is {name}: it must be a class, as package.module.Class")
    return re.sub(rf"^({key}\s*:\s*!(?:name|new):)\S+", rf"\g<1>{name}", source, flags=re.MULTILINE)


def _file_of(source, file):
    """A file with the yaml's text: the yaml itself if no class was exchanged."""
    if source == file.read_text(encoding="utf-8"):
        return str(file)
    with NamedTemporaryFile("w", suffix=".yaml", delete=False, encoding="utf-8") as changed:
        changed.write(source)
    atexit.register(Path(changed.name).unlink, missing_ok=True)
    return changed.name
