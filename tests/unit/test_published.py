"""Published figures: each task's published.csv is well formed and agrees with its README."""

import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from speechbrain_music.evaluation.tasks import ALL_TASKS, MTG_TASKS, TASKS

RECIPES = Path(__file__).parents[2] / "recipes"
COLUMNS = ["model", "metric", "value", "sd", "source", "protocol"]


def readme_figures(recipe):
    """(model, metric, source, protocol, text) of each figure in the README's published table."""
    text = (RECIPES / recipe / "README.md").read_text(encoding="utf-8")
    published = text.split("\n## Published figures\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", published, re.MULTILINE)
    (model, *metrics, source, protocol), *rows = ([*map(str.strip, x.split("|"))] for x in lines)
    assert (model, source, protocol) == ("model", "source", "protocol")
    for name, *figures, where, how in rows:
        for metric, figure in zip(metrics, figures, strict=True):
            if figure:
                yield name, re.sub("[ -]", "_", metric.lower()), where, how, figure


CLIPS = {entry.folder for entry in (TASKS | MTG_TASKS).values()}
OTHERS = {entry.folder for entry in ALL_TASKS.values()} - CLIPS


@pytest.mark.parametrize("recipe", sorted(CLIPS | OTHERS))
def test_published_figures_equal_the_readme(recipe):
    table = pd.read_csv(RECIPES / recipe / "published.csv", dtype=str, keep_default_na=False)
    tasks = {name for name, entry in ALL_TASKS.items() if entry.folder == recipe}
    if "task" in table:  # several tasks
        found = table.pop("task")
        assert set(found) <= tasks
        if recipe in CLIPS:  # the README has a column for each
            table["metric"] = found + "_" + table["metric"]
    if recipe in CLIPS:
        assert set(table["protocol"]) <= {"MARBLE constrained", "own"}
    assert list(table) == COLUMNS and not table.duplicated(["model", "metric", "source"]).any()
    shown = Counter()
    for row in table.itertuples():  # 0.840 and 0.003 are shown as 84.0 ± 0.3
        assert -1 <= Decimal(row.value) <= 1 and row.model and row.source, row
        figure = " ± ".join(str(Decimal(x).scaleb(2)) for x in (row.value, row.sd) if x)
        shown[row.model, row.metric, row.source, row.protocol, figure] += 1
    assert shown == Counter(readme_figures(recipe))
