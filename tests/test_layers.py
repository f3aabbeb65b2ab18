"""Imports point downwards; yamls have no unused key."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import combinations
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from speechbrain.utils.run_opts import RunOptions

from recipes.pretrain.train import OPTIONS
from speechbrain_music.evaluation.protocol import FINE_TUNING, FRAMES, PROTOCOL, VERSIONS, load_task
from speechbrain_music.evaluation.tasks import (
    ALL_TASKS,
    FRAME_TASKS,
    MTG_TASKS,
    TASKS,
    VERSION_TASKS,
    find_task,
)
from speechbrain_music.utils.config import refuse_idle_keys

ROOT = Path(__file__).parents[1]
PACKAGE = "speechbrain_music"

# What each part may import of this package, besides itself and the ground.
TOOLS = {"models", "dataio", "optim", "metrics", "reporting", "utils", "nnet"}
MAY_IMPORT = {
    "recipes": TOOLS | {"brains", "evaluation", "inference", "data_prep", "hparams"},
    "experiments": TOOLS | {"brains", "evaluation", "inference", "data_prep", "hparams"},
    "evaluation": TOOLS | {"brains"},
    "brains": TOOLS | {"data_prep"},
    "inference": TOOLS | {"data_prep", "evaluation"},
    "models": {"nnet"},
    "dataio": {"nnet", "models", "metrics"},
    "optim": {"nnet"},
    "metrics": {"nnet"},
    "reporting": {"metrics", "models", "dataio", "nnet"},
    "utils": set(),
    "nnet": set(),
    "data_prep": set(),
    "hparams": set(),
}
# Imported by all: without dependencies that are slow to import.
GROUND = {f"{PACKAGE}.dataio.{name}" for name in ("annotations", "audio", "mp3")}
GROUND |= {f"{PACKAGE}.utils.{name}" for name in ("atomic", "errors", "memory")}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ("data_prep", "hparams"):
        parts = (PACKAGE, *parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {
    module_name(path): path
    for folder in (PACKAGE, "data_prep", "hparams", "recipes", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def part_of(name):
    parts = name.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]


def imports(module):
    """Full names of all that a module imports, wherever in it the statement stands."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"  # a module, or a name in one
                yield name if name in MODULES else node.module


def outsiders(module):
    """Top-level packages that are neither this one nor the standard library's."""
    tops = {name.split(".")[0] for name in imports(module)}
    return tops - sys.stdlib_module_names - {PACKAGE}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    own = {name for name in imports(module) if name.split(".")[0] in (PACKAGE, "recipes")}
    part, found = part_of(module), outsiders(module)
    if part == "nnet":
        assert found <= {"torch", "numpy"}
    if part == "data_prep" or module in GROUND:
        assert not found & {"torch", "torchaudio", "speechbrain"}
    assert not found & {"data_prep", "hparams", "tests"}  # they have one name, inside the package
    if module == PACKAGE or module in GROUND:
        assert own <= GROUND and not (found and ".utils." in module)
        return
    if part == "recipes":
        assert not any(name.startswith("recipes") for name in own)
    allowed = MAY_IMPORT[part] | {part, PACKAGE}
    assert not {name for name in own - GROUND if part_of(name) not in allowed}


def test_imports_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = sum(project["optional-dependencies"].values(), project["dependencies"])
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    brought_by = packages_distributions()
    for module in MODULES:
        for name in outsiders(module):
            assert declared & set(map(canonicalize_name, brought_by[name])), f"{module}: {name}"


LIGHT = [PACKAGE, f"{PACKAGE}.data_prep.__main__", f"{PACKAGE}.inference.cli", *sorted(GROUND)]


@pytest.mark.parametrize("light", LIGHT)
def test_light_modules_import_no_torch(light):
    heavy = {"torch", "speechbrain"} | ({"pandas"} if "data_prep" in light else set())
    code = f"import {light}, sys; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


FULL = ["brn_sum", "brn_att", "cnf_sum", "cnf_att"]
TINY = [f"{name}_tiny" for name in FULL]


def blocks(system):
    """Top-level key -> its text without comments."""
    text = (ROOT / "hparams" / f"{system}.yaml").read_text()
    lines = [re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in text.splitlines()]
    parts = re.split(r"^(\w+):", "\n".join(line for line in lines if line), flags=re.MULTILINE)
    assert not parts[0].strip()
    keys = parts[1::2]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, parts[2::2], strict=True))


def test_systems_differ_in_mixer_and_block_only():
    for one, two in [*combinations(FULL, 2), *combinations(TINY, 2)]:
        one, two = blocks(one), blocks(two)
        differing = {key for key in one | two if one.get(key) != two.get(key)}
        assert "system" in differing
        assert differing <= {"system", "mixer", "block", "ffn_units"}


@pytest.mark.parametrize("system", FULL + TINY)
def test_yaml_keys_and_options_agree(system):
    keys = list(blocks(system))
    yaml = ROOT / "hparams" / f"{system}.yaml"
    used = {*OPTIONS, *RunOptions().as_dict()}  # SpeechBrain's Brain uses the latter
    refuse_idle_keys(yaml, yaml.read_text(), keys, used)
    assert set(OPTIONS) <= set(keys)
    assert blocks(system)["system"].strip() == system


CLIPS = TASKS | MTG_TASKS | {"labels": find_task("labels")}
# What the tasks differ in; all else is one protocol.
OWN = set("name task prepare number_of_epochs patience plateau_patience replica_scale".split())
OWN |= set("chunk_seconds max_seconds excerpt split tagged_only marble label table".split())


OWN |= set("batch_size window_seconds fold player chord_head functions".split())  # by the frame


@pytest.mark.parametrize("tasks", [CLIPS, FRAME_TASKS])
def test_tasks_share_one_protocol(tasks):
    yamls = {task: blocks(task) for task in tasks}
    first = yamls[next(name for name in yamls if name.startswith("gtzan"))]
    for task, keys in yamls.items():
        assert keys["name"].strip() == task
        assert first.keys() - keys.keys() <= {"split", "fold", "replica_scale"}
        differing = {key for key in keys if keys[key] != first.get(key)}
        assert differing <= OWN, task


@pytest.mark.parametrize("tasks, base", [(CLIPS, "ProbeBrain"), (FRAME_TASKS, "FrameBrain")])
def test_task_recipes_differ_in_names_only(tasks, base):
    texts = {}
    for task in {entry.folder for entry in tasks.values()}:
        head, rest = (ROOT / f"recipes/{task}/train.py").read_text().split("class ", 1)
        brain, docstring = re.match(rf'(\w+)\(evaluation.{base}\):\n    (""".*""")', rest).groups()
        imports = head[head.index("from speechbrain_music") :]
        texts[task] = imports + rest.replace(docstring, "").replace(brain, "Brain")
    assert len(set(texts.values())) == 1


@pytest.mark.parametrize("task", ALL_TASKS)
def test_registry_agrees_with_yaml(task):
    entry = find_task(task)
    _, hparams, _, _ = load_task([str(ROOT / entry.yaml), "--encoder", "mel"])
    assert hparams["prepare"].keywords["data_set"] == entry.data_set
    some = {"label", "max_seconds", "excerpt"}  # of some of them
    options = {*PROTOCOL, *FINE_TUNING} - some if task in CLIPS else FRAMES
    assert set(VERSIONS if task in VERSION_TASKS else options) <= set(blocks(task))
    assert (ROOT / entry.recipe.replace(".", "/")).with_suffix(".py").exists()
