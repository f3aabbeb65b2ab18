"""Everything public says what it is by an example; the suite runs them all as doctests."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("speechbrain_music", "data_prep")
    for path in sorted((ROOT / folder).rglob("*.py"))
    # Every replica names the hash of what made it: a docstring there would make all of them new.
    if not path.is_relative_to(ROOT / "data_prep/replica")
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
