"""Code that is shown and not run: what it names must exist.

Paths of the repository, options of the command they belong to, targets of make, keys of yaml, names
that are imported; in a page's text links, paths and commands.
"""

import ast
import contextlib
import importlib.util
import inspect
import io
import pydoc
import re
import runpy
import shlex
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from unittest import mock

import yaml
from pages import ROOT, WrongPage
from speechbrain.utils.run_opts import RunOptions

from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.inference import cli
from speechbrain_music.utils.config import ConfigError, _pairs

OWN = "recipes|hparams|docs|data_prep|speechbrain_music|perf|tests"
PATH = re.compile(rf"(?<![\w./<:-])(?:{OWN})/[\w./-]*")
COMMAND = re.compile(r"`((?:python|torchrun|make|sbmusic \w+) [^`]+)`")
OPTION = re.compile(r"`--(\w+)[ `]")
LINK = re.compile(r"\]\((?!\w+:)([^)#]+)")
# Programs and modules whose options are not ours.
OTHERS = set(". cat cd cp export find git hf kill mkdir pip python3 sed source".split())
OTHER_MODULES = {"pip", "pytest", "venv"}
RUN_OPTIONS = set(RunOptions().as_dict())
KEYS = {
    path.name: set(re.findall(r"^(\w+)\s*:", path.read_text(), re.MULTILINE)) | RUN_OPTIONS
    for path in ROOT.glob("hparams/*.yaml")
}
ALL_KEYS = set().union(*KEYS.values())
OPTIONS = ALL_KEYS.union(
    *(data_set.options for data_set in DATA_SETS.values()),
    *(
        re.findall(r'"--(\w+)"', path.read_text())
        for folder in OWN.split("|")
        for path in (ROOT / folder).rglob("*.py")
    ),
)
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


class Wrong(Exception):
    """What is wrong, not yet where."""


class Parsed(Exception):
    """A command line has been parsed; holds the words that no argument took."""


def check_block(block, ran=""):
    """Raises WrongPage for what a block names and nobody has.

    ran: what was executed of the page, whose paths need not be the repository's.
    """
    check = {"bash": _bash, "python": _python, "yaml": _yaml}.get(block.language, lambda code: None)
    try:
        _paths(block.code, ran)
        check(block.code)
    except Wrong as fault:
        raise WrongPage(f"{block}: {fault}") from None


def check_prose(prose, page, ran=""):
    """The same for the lines of a page's text."""
    for number, line in prose:
        try:
            _paths(line, ran)
            for link in LINK.findall(line):
                if not (ROOT / page).parent.joinpath(link).exists():
                    raise Wrong(f"the link to {link} leads nowhere")
            for command in COMMAND.findall(line):
                _bash(command)
            for option in OPTION.findall(line):
                if option not in OPTIONS:
                    raise Wrong(f"nothing has an option --{option}")
        except Wrong as fault:
            raise WrongPage(f"{page}:{number}: {fault}") from None


def _paths(text, ran):
    for path in PATH.findall(text):
        path = path.rstrip(".")
        if not (ROOT / path).exists() and path not in ran:
            raise Wrong(f"there is no {path}")


# ---- commands ----


def _bash(code):
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command, to_file = [], False
        for word in [*words, ";"]:
            redirects = re.fullmatch("[<>]+", word)
            if re.fullmatch("[|&;()]+", word):
                _command(command)
                command = []
            elif not redirects and not to_file:
                command.append(word)
            to_file = redirects


def _command(words):
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    if not words or words[0] in OTHERS:
        return
    program, *options = words
    if program == "make":
        for target in options:
            if "=" not in target and target not in TARGETS:
                raise Wrong(f"make has no target {target}")
    elif program == "sbmusic":
        _parse(partial(cli.main, options))
    elif program == "torchrun":
        first = next(place for place, word in enumerate(options) if not word.startswith("--"))
        _script(*options[first:])
    elif program == "python" and options[0] == "-m":
        _module(*options[1:])
    elif program == "python":
        _script(*options)
    else:
        raise Wrong(f"{program} is a program that this test does not know")


def _module(name, *options):
    if name in OTHER_MODULES:
        return
    if importlib.util.find_spec(name) is None:
        raise Wrong(f"there is no module {name}")
    if options:  # what takes none might not parse any, and run
        with mock.patch.object(sys, "argv", [name, *options]):
            _parse(partial(runpy.run_module, name, run_name="__main__"))


def _script(name, *options):
    path = ROOT / name
    if not path.is_file():
        raise Wrong(f"there is no {name}")
    if path.name == "train.py":
        if not options:
            raise Wrong(f"{name} is given no yaml")
        _known(options[1:], KEYS.get(Path(options[0]).name, ALL_KEYS))
    elif options:
        with mock.patch.object(sys, "argv", [name, *options]):
            _parse(partial(runpy.run_path, str(path), run_name="__main__"), handed_on=ALL_KEYS)


def _parse(run, handed_on=frozenset()):
    """Runs a command as far as its arguments are parsed; what is left must be `handed_on`."""
    parse, said = ArgumentParser.parse_known_args, io.StringIO()

    def stop(*args, **kwargs):
        raise Parsed(parse(*args, **kwargs)[1])

    try:
        with (
            mock.patch.object(ArgumentParser, "parse_known_args", stop),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
        ):
            run()
    except Parsed as parsed:
        placeholders = {word for word in parsed.args[0] if word.isupper()}
        _known([word for word in parsed.args[0] if word not in placeholders], handed_on)
    except SystemExit as exit:
        if exit.code:
            raise Wrong(said.getvalue().strip().splitlines()[-1]) from None


def _known(words, keys):
    try:
        for key, _ in _pairs(words):
            if key not in keys:
                raise Wrong(f"there is no option --{key}")
    except ConfigError as error:
        raise Wrong(str(error)) from None


# ---- other languages ----


def _python(code):
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise Wrong(f"line {error.lineno} is no Python: {error.msg}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if pydoc.locate(name) is None:
                raise Wrong(f"{name} cannot be imported")


def _yaml(code):
    try:
        _node(yaml.compose(code, Loader=yaml.SafeLoader), code)
    except yaml.YAMLError as error:
        raise Wrong(f"is no yaml: {' '.join(str(error).split())}") from None


def _node(node, code):
    makes = re.match(r"!(?:new|name|apply):([\w.]+)", node.tag)
    if isinstance(node, yaml.MappingNode):
        allowed = _arguments(makes[1]) if makes else ALL_KEYS
        for key, value in node.value:
            # One's own yaml has names of its own, for what it makes and what it refers to.
            own = not makes and (value.tag.startswith("!") or f"<{key.value}>" in code)
            if key.value not in allowed and not own:
                where = f"an argument of {makes[1]}" if makes else "a key of any yaml in hparams/"
                raise Wrong(f"{key.value} is not {where}")
            _node(value, code)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _node(item, code)
    elif makes:
        _arguments(makes[1])


class Any:
    """What holds everything."""

    def __contains__(self, _):
        return True


def _arguments(name):
    """Names of the arguments of what a dotted name stands for."""
    made = pydoc.locate(name)
    if made is None:
        raise Wrong(f"there is no {name}")
    parameters = inspect.signature(made).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    return Any() if inspect.Parameter.VAR_KEYWORD in kinds else parameters
