"""The wheel: its contents, and training with it alone outside the repository."""

import ast
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from tones import write_tones

from speechbrain_music import __version__

ROOT = Path(__file__).parents[2]
SHIPPED = {".py", ".yaml", ".json", ".bib", ".typed"}


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
        if path.suffix in SHIPPED or path.parent.name in ("shipped", "templates")
    }
    assert names == expected
    assert wheel.stat().st_size < 8e6


FROM = """
from importlib.metadata import version
from speechbrain_music import __file__ as package, data_prep, hparams

print(version("speechbrain_music"), package, data_prep.__file__, hparams.__file__)
"""


def test_wheel_is_what_is_imported(python):
    assert python("TARGET/bin/sbmusic", "--version").split() == ["sbmusic", __version__]
    files = [
        f"TARGET/speechbrain_music/{name}__init__.py" for name in ("", "data_prep/", "hparams/")
    ]
    assert python("-c", FROM).split() == [__version__, *files]


def test_the_shipped_encoder_embeds_without_a_model(python, tmp_path):
    write_tones(tmp_path / "my_music", count=3)
    out = python("TARGET/bin/sbmusic", "embed", "my_music", "--out", "a.npz", folder=tmp_path)
    assert "by the small encoder of this package" in out
    (tmp_path / "new.wav").write_bytes(next((tmp_path / "my_music").rglob("*.wav")).read_bytes())
    found = python("TARGET/bin/sbmusic", "similar", "new.wav", "--in", "a.npz", folder=tmp_path)
    assert found.count("my_music") == 3


def test_own_yaml_trains_outside_repository(python, tmp_path):
    """The yaml and the script of docs/plugin.md."""
    page = (ROOT / "docs/plugin.md").read_text()
    for name, code in re.findall(r"^```\w+ run (\S+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(code)
    write_tones(tmp_path / "my_music", count=2)
    prepare = ("-m", "speechbrain_music.data_prep", "folder", "my_music", "--out", "manifests")
    python(*prepare, folder=tmp_path)
    python("train.py", "mine.yaml", "--device", "cpu", folder=tmp_path)


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Modules that only an extra brings.
HIDDEN = "onnx onnxruntime onnxscript pebble pretty_midi midirenderer transformers".split()
HIDDEN += "mir_eval librosa sklearn pytest mkdocs nbclient".split()


PEERS = ("muq", "omar_rq", "musicfm")  # not installed with the project: of transformers 4


def test_pins_are_within_ranges():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    ours = [names for extra, names in EXTRAS.items() if extra not in PEERS]
    for requirement in map(Requirement, sum(ours, PROJECT["dependencies"])):
        assert pins[requirement.name] in requirement.specifier, requirement
        assert not {"==", "~="} & {part.operator for part in requirement.specifier}


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
    printed = python("-c", WITHOUT, *HIDDEN)
    assert len(re.findall("^imported", printed, re.MULTILINE)) > 80
    for name in re.findall(r"^failed speechbrain_music\.(\S+)", printed, re.MULTILINE):
        source = ROOT / "speechbrain_music" / f"{name.replace('.', '/')}.py"
        assert "the extra [" in ast.get_docstring(ast.parse(source.read_text())), printed
