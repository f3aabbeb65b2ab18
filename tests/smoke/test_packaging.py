"""The wheel: its contents, and training with it alone outside the repository."""

import ast
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from speechbrain_music import __version__

ROOT = Path(__file__).parents[2]
SHIPPED = {".py", ".yaml", ".json", ".typed"}


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index"], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, because building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "data", "results", "build", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A function: runs python elsewhere, with the wheel in a folder of its own; returns stdout.

    Of this environment it sees the other packages only: -S reads no .pth file, hence no editable
    install of this repository.
    """
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--target", target, wheel)
    path = os.pathsep.join([str(target), *site.getsitepackages()])

    def python(*arguments, folder=target.parent):
        arguments = [str(part).replace("TARGET", str(target)) for part in arguments]
        result = subprocess.run(
            [sys.executable, "-S", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.replace(str(target), "TARGET")

    return python


def test_wheel_contents(wheel):
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    places = {"speechbrain_music": "", "hparams": "hparams/", "data_prep": "data_prep/"}
    expected = {
        f"speechbrain_music/{place}{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in places.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SHIPPED
    }
    assert names == expected
    for name in (
        "py.typed",
        "hparams/brn_sum.yaml",
        "data_prep/replica/bank.json",
        "data_prep/replica/genres.yaml",
    ):
        assert f"speechbrain_music/{name}" in names


def test_command_of_wheel(python):
    assert python("TARGET/bin/sbmusic", "--version").split() == ["sbmusic", __version__]


YAML = """
width: 16
features: !new:speechbrain_music.models.frontend.LogMel
encoder: !apply:speechbrain_music.models.encoder.make_encoder
    num_layers: 1
    d_model: !ref <width>
    ffn_units: 32
mixing: !new:speechbrain_music.nnet.summary_mixing.SummaryMixing
    d_model: !ref <width>
head: !new:speechbrain.nnet.linear.Linear
    input_size: !ref <width>
    n_neurons: 3
modules:
    features: !ref <features>
    encoder: !ref <encoder>
    mixing: !ref <mixing>
    head: !ref <head>
opt_class: !name:torch.optim.Adam
    lr: 0.01
"""
TRAINING = """
from importlib.metadata import version
from importlib.resources import files

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain_music
import speechbrain_music.data_prep.replica
import speechbrain_music.hparams


class Mine(sb.Brain):
    def compute_forward(self, batch, stage):
        hidden, _, tokens = self.modules.encoder(*self.modules.features(*batch[:2]))
        return self.modules.head(self.modules.mixing(hidden).mean(1))

    def compute_objectives(self, scores, batch, stage):
        return torch.nn.functional.cross_entropy(scores, batch[2])


with open("mine.yaml") as file:
    hparams = load_hyperpyyaml(file)
waves, lengths = torch.randn(4, 9600), torch.full((4,), 9600)
data = torch.utils.data.TensorDataset(waves, lengths, torch.tensor([0, 1, 2, 0]))
brain = Mine(hparams["modules"], hparams["opt_class"], hparams, {"noprogressbar": True})
before = {name: value.clone() for name, value in brain.modules.named_parameters()}
brain.fit(range(1), torch.utils.data.DataLoader(data, batch_size=2))
moved = [not torch.equal(before[name], value) for name, value in brain.modules.named_parameters()]
print("steps", brain.optimizer_step, "moved", all(moved))

size = {"num_layers": 1, "d_model": 16, "codebook_size": 32}
packaged = files("speechbrain_music.hparams").joinpath("brn_sum_tiny.yaml").read_text()
print("packaged", load_hyperpyyaml(packaged, size)["encoder"].config["num_layers"])
print("version", version("speechbrain_music") == speechbrain_music.__version__)
for module in (speechbrain_music, speechbrain_music.hparams, speechbrain_music.data_prep.replica):
    print("from", module.__file__)
"""


def test_own_yaml_trains_outside_repository(python, tmp_path):
    (tmp_path / "mine.yaml").write_text(YAML)
    (tmp_path / "train.py").write_text(TRAINING)
    said = python("train.py", folder=tmp_path).splitlines()
    assert said[-6:] == [
        "steps 2 moved True",
        "packaged 1",
        "version True",
        "from TARGET/speechbrain_music/__init__.py",
        "from TARGET/speechbrain_music/hparams/__init__.py",
        "from TARGET/speechbrain_music/data_prep/replica/__init__.py",
    ]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE, EXTRAS = PROJECT["dependencies"], sum(PROJECT["optional-dependencies"].values(), [])


def names_of(requirements):
    parsed = map(Requirement, requirements or ())
    return {canonicalize_name(r.name) for r in parsed if "extra" not in str(r.marker)}


def test_pins_are_within_ranges():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in map(Requirement, BASE + EXTRAS):
        assert pins[requirement.name] in requirement.specifier, requirement
        assert not {"==", "~="} & {part.operator for part in requirement.specifier}


def modules_of_extras():
    """Top-level modules that only an extra brings."""
    base = names_of(BASE)
    base = base.union(*(names_of(metadata.requires(name)) for name in base))
    extras = names_of(EXTRAS) - base
    return {
        module
        for module, packages in metadata.packages_distributions().items()
        if extras & set(map(canonicalize_name, packages))
    }


WITHOUT = """
import sys
from importlib import import_module
from pkgutil import walk_packages

import speechbrain_music

sys.modules.update(dict.fromkeys(sys.argv[1:]))
for _, name, _ in walk_packages(speechbrain_music.__path__, "speechbrain_music."):
    if not name.endswith("__main__"):
        try:
            import_module(name)
            print("imported", name)
        except ModuleNotFoundError as error:
            print("failed", name, error)
"""


def test_modules_without_extras(python):
    hidden = modules_of_extras()
    assert {"transformers", "onnxscript", "torchmetrics", "midirenderer", "pyarrow"} <= hidden
    said = python("-c", WITHOUT, *hidden)
    assert len(re.findall("^imported", said, re.MULTILINE)) > 80
    for name in re.findall(r"^failed speechbrain_music\.(\S+)", said, re.MULTILINE):
        source = ROOT / "speechbrain_music" / f"{name.replace('.', '/')}.py"
        assert "the extra [" in ast.get_docstring(ast.parse(source.read_text())), said
