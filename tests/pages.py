"""Pages whose code is true: their fenced blocks are run here, or checked in `illustrations`.

A block's info string is its language and one of `TAGS`; GitHub reads the first word only. A file's
name behind `run`: the block is written to it, and the text above names it. In a python block
`print(...)  # text` shows what is printed, and it must be.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from typing import NamedTuple

from tones import write_tones

ROOT = Path(__file__).parents[1]
TAGS = ("run", "run-slow", "illustration")
FENCE = re.compile(r"\s*(`{3,}|~{3,})(.*)")
SHOWN = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


class WrongPage(AssertionError):
    """Something on a page is not so; the message begins with the page and the line."""


class Block(NamedTuple):
    """A fenced block: where it is (its first line), what its head says, and its code."""

    page: str
    line: int
    language: str
    tag: str
    file: str
    code: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def read_page(text, page):
    """A page's blocks, and the lines of its text: (number, line)."""
    blocks, prose, opened = [], [], None
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, first, lines = fence, number + 1, []
        elif opened is None:
            prose.append((number, line))
        elif fence and fence[1].startswith(opened[1]) and not fence[2].strip():
            blocks.append(_block(page, first, opened[2].split(), lines, prose))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise WrongPage(f"{page}:{first}: the block has no end")
    return blocks, prose


def _block(page, line, head, lines, prose):
    language, tag, file, *more = [*head, "", "", ""]
    block = Block(page, line, language, tag, file, textwrap.dedent("\n".join(lines)) + "\n")
    if tag not in TAGS or any(more) or (file and tag != "run"):
        raise WrongPage(
            f"{block}: its head is {' '.join(head)!r}, it must be a language and one of {TAGS}"
        )
    if file and f"`{file}`" not in "\n".join(line for _, line in prose[-5:]):
        raise WrongPage(f"{block}: the text above does not name `{file}`")
    return block


def workplace(folder):
    """Makes a folder look like a checkout, with some music in my_music/ and a song.mp3.

    recipes/ and hparams/ are copies: pages may write into them.
    """
    for name in ("recipes", "hparams"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_tones(folder / "my_music", seconds=(16, 18))
    shutil.copy(folder / "my_music" / "polka.mp3", folder / "song.mp3")
    return folder


def run_page(blocks, folder, slow=False):
    """Executes a page's `run` blocks, with `slow` its `run-slow` blocks too, in a folder.

    Python blocks share a namespace. What a block does not do ends it all, with a WrongPage.
    """
    namespace = {"__name__": "page"}
    for block in blocks:
        if block.file:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.code)
        elif block.tag == "run" or (slow and block.tag == "run-slow"):
            if block.language == "bash":
                _run_bash(block, folder)
            elif block.language == "python":
                _run_python(block, folder, namespace)
            else:
                raise WrongPage(f"{block}: {block.language or 'nothing'} cannot be run")


def _run_bash(block, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    trap = f"trap 'echo {block.page}:$LINENO: $BASH_COMMAND >&2' ERR"
    script = trap + "\n" * (block.line - 1) + block.code  # so that lines have the page's numbers
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        said = (result.stdout + result.stderr)[-4000:]
        raise WrongPage(f"{block}: exit code {result.returncode}\n{said}")


def _run_python(block, folder, namespace):
    printed = io.StringIO()
    try:
        code = compile("\n" * (block.line - 1) + block.code, block.page, "exec")
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
            exec(code, namespace)
    except Exception as error:
        said = "".join(traceback.format_exception(error))
        raise WrongPage(f"{block}: {type(error).__name__}\n{said}") from error
    shown = SHOWN.findall(block.code)
    if shown and printed.getvalue().splitlines() != shown:
        raise WrongPage(f"{block}: shows {shown}, prints {printed.getvalue().splitlines()}")
