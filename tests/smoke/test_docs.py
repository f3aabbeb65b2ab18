"""The pages: code blocks run or name what exists, the site builds, the notebook runs.

A block's info string is its language, `run` or `run-slow` if it is executed, and the name of a file
if it is written to one. Other bash, python and yaml blocks are checked for options, imports and
classes. In python, `print(...)  # text` shows what is printed.
"""

import ast
import contextlib
import functools
import importlib.util
import io
import os
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from speechbrain.utils.run_opts import RunOptions
from tones import write_tones

from docs import try_page
from speechbrain_music.inference.cli import OPTIONS as SBMUSIC

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
FOLDERS = ("recipes", "experiments", "data_prep", "perf", "docs/results", "speechbrain_music")
PAGES = GUIDES + sorted(page for name in FOLDERS for page in ROOT.glob(f"{name}/**/*.md"))
FENCE = re.compile(
    r"^```(\w+)(?: (run|run-slow)(?: (\S+))?)?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
OWN_PATH = re.compile(r"`((?:tests|speechbrain_music|hparams|recipes|data_prep|docs)/[\w./-]+)`")
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for name in ("speechbrain_music", "data_prep", "recipes", "experiments", "perf")
    for path in (ROOT / name).rglob("*.py")
)
RUN_OPTIONS = set(RunOptions().as_dict())
KEYS = {
    path.name: set(re.findall(r"^(\w+)\s*:", path.read_text(encoding="utf-8"), re.MULTILINE))
    for path in ROOT.glob("hparams/*.yaml")
}
SCRIPTS = "\n".join(path.read_text() for path in ROOT.glob("*/options.yaml"))
OPTIONS = set(re.findall(r'"--(\w+)"', CODE)).union(RUN_OPTIONS, *KEYS.values())
OPTIONS.update(re.findall(r"^  --(\w+):", SCRIPTS, re.MULTILINE))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    """(line, language, tag, file, code) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start()].count("\n") + 2, *m.groups()) for m in FENCE.finditer(text)]


def faults(language, code):
    """What a block that is not run names and does not exist."""
    if language == "bash":
        for line in code.replace("\\\n", " ").splitlines():
            for command in re.split(r" (?:\||&&) ", line):
                yield from command_faults(shlex.split(command, comments=True))
    names = re.findall(r"!(?:new|name|apply):(speechbrain_music[\w.]+)", code)
    for node in ast.walk(ast.parse(code)) if language == "python" else ():
        if isinstance(node, ast.ImportFrom) and node.module.startswith("speechbrain_music"):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    yield from (name for name in names if pydoc.locate(name) is None)


def command_faults(words):
    script = next((at for at, word in enumerate(words) if word.endswith(".py")), None)
    known = OPTIONS
    if words[:1] == ["make"]:
        yield from (word for word in words[1:] if "=" not in word and word not in TARGETS)
    elif words[:1] == ["sbmusic"] or words[:2] == ["python", "-m"]:
        module = words[2] if words[1] == "-m" else "speechbrain_music.inference.cli"
        if importlib.util.find_spec(module) is None:
            yield module
        if module.startswith("speechbrain_music.data_prep"):
            known = options_of(*words[1:4])
        elif module == "speechbrain_music.inference.cli":
            names = " ".join(SBMUSIC.get(words[3 if words[1] == "-m" else 1], ()))
            known = {"help", "version", *re.findall(r"--(\w+)", names)}
        elif module.split(".")[0] not in ("speechbrain_music", "perf"):
            return
    elif script is None:
        return
    elif not (ROOT / words[script]).is_file() and words[script] != "train.py":
        yield words[script]
    else:
        yaml = next((Path(word).name for word in words if word.endswith(".yaml")), "")
        is_recipe = words[script].endswith("train.py") and yaml in KEYS
        known = KEYS[yaml] | RUN_OPTIONS | {"preset"} if is_recipe else OPTIONS
        words = words[script + 1 :]
    options = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    yield from (f"--{option}" for option in options if option not in known)


@functools.cache
def options_of(*command):
    helped = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True)
    return {"help", *re.findall(r"--(\w+)", helped.stdout)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_on_pages_exist(page):
    shown = [block for block in blocks(page) if not block[2]]
    wrong = [f"line {line}: {it}" for line, lang, *_, code in shown for it in faults(lang, code)]
    written = " ".join(f"{block[3]} {block[4]}" for block in blocks(page) if block[2])
    for path in OWN_PATH.findall(page.read_text(encoding="utf-8")):
        if not (ROOT / path).exists() and path not in written and "NAME" not in path:
            wrong.append(path)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_conflict_is_left(page):
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_troubleshooting_quotes_real_messages():
    # Of an f-string the fixed parts are compared; "..." stands for its values.
    code = re.sub(r'"\s*\n\s*f?"', "", CODE)
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    parts = [part.strip() for message in quoted for part in message.split("...")]
    assert len(quoted) > 20 and [part for part in parts if part not in code] == []


RUN = [
    pytest.param(page, {"run", tag}, id=f"{name_of(page)}-{tag}", marks=marks)
    for tag, marks in (("run", ()), ("run-slow", pytest.mark.slow))
    for page in GUIDES
    if any(block[2] == tag for block in blocks(page))
]


@pytest.mark.parametrize("page, tags", RUN)
def test_blocks_run(page, tags, tmp_path):
    """In a folder that looks like a checkout with music in it."""
    for name in ("recipes", "hparams"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_tones(tmp_path / "my_music", seconds=(16, 18))
    shutil.copy(tmp_path / "my_music" / "polka.mp3", tmp_path / "song.mp3")
    bin_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": bin_path, "HF_HUB_OFFLINE": "1"}
    namespace = {"__name__": "page"}
    for line, language, tag, file, code in blocks(page):
        where = f"{name_of(page)}:{line}"
        if file:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(code, encoding="utf-8")
        elif tag in tags and language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", code]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
            assert not done.returncode, f"{where}\n{(done.stdout + done.stderr).decode()[-4000:]}"
        elif tag in tags:
            printed = io.StringIO()
            with contextlib.chdir(tmp_path), contextlib.redirect_stdout(printed):
                exec(compile("\n" * (line - 1) + code, page, "exec"), namespace)
            shown = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
            assert not shown or printed.getvalue().splitlines() == shown, where


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_the_page_that_runs_the_encoder_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(try_page, "FOLDER", tmp_path / "try")
    false = shutil.which("false")

    def missing():
        setup, paths = try_page.try_page_files()
        assert list(setup) == ["missing"] and not paths
        assert not (tmp_path / "try").exists() or not list((tmp_path / "try").iterdir())
        return setup["missing"]

    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert missing().startswith("install Node.js, whose npm fetches onnxruntime-web@")
    monkeypatch.setattr(shutil, "which", lambda _: false)
    assert missing().startswith("npm could not fetch onnxruntime-web@")
    monkeypatch.setattr(try_page, "find_spec", lambda name: None)
    assert missing().startswith("pip install -e '.[onnx,replica]' in the clone")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "docs/tutorial.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
