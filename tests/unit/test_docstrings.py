"""Everything public says what it is by an example; the suite runs them all as doctests."""

import ast
import doctest
from pathlib import Path

import pytest

from speechbrain_music.data_prep.replica import __main__ as command

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("speechbrain_music", "data_prep")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_public_class_and_function_has_an_example(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    silent = [node.name for node in public if ">>>" not in (ast.get_docstring(node) or "")]
    assert not silent


def test_examples_of_a_main_module_hold(request):
    """pytest runs no doctests of `__main__.py`."""
    names = {"getfixture": request.getfixturevalue}
    failed, tried = doctest.testmod(command, extraglobs=names)
    assert tried and not failed
