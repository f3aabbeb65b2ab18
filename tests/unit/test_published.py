"""Published figures: each task's published.csv is well formed and agrees with its README."""

import csv
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
COLUMNS = ["model", "metric", "value", "sd", "source", "protocol"]
METRICS = {
    "mtt_tagging": ["roc_auc", "average_precision"],
    "giantsteps_key": ["weighted_score"],
    "emomusic_emotion": ["r2_arousal", "r2_valence"],
}
FOUND = sorted(path.parent.name for path in RECIPES.glob("*/published.csv"))


def readme_table(recipe):
    """(model, metric, source, protocol, text) of each figure in the README's published table."""
    text = (RECIPES / recipe / "README.md").read_text(encoding="utf-8")
    published = text.split("\n## Published figures\n")[1].split("\n## ")[0]
    lines = [line for line in published.splitlines() if line.startswith("|")]
    header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    assert [header[0], *header[-2:]] == ["model", "source", "protocol"]
    for row in rows:
        named = dict(zip(header, row, strict=True))
        for column in header[1:-2]:
            if named[column]:
                where = named["source"], named["protocol"]
                metric = re.sub("[ -]", "_", column.lower())
                yield named["model"], metric, *where, named[column]


@pytest.mark.parametrize("recipe", FOUND)
def test_published_figures_equal_the_readme(recipe):
    with open(RECIPES / recipe / "published.csv", newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        found, shown = list(table), Counter()
    assert table.fieldnames == COLUMNS
    assert {figure["metric"] for figure in found} == set(METRICS.get(recipe, ["accuracy"]))
    for figure in found:
        assert -1 <= Decimal(figure["value"]) <= 1, figure
        assert not figure["sd"] or 0 < Decimal(figure["sd"]) < Decimal("0.1"), figure
        assert figure["protocol"] in ("MARBLE constrained", "own"), figure
        assert figure["model"] and figure["source"], figure
    keys = {(figure["model"], figure["metric"], figure["source"]) for figure in found}
    assert len(keys) == len(found)
    for figure in found:  # 0.840 and 0.003 are shown as 84.0 ± 0.3
        percents = [str(Decimal(figure[k]).scaleb(2)) for k in ("value", "sd") if figure[k]]
        named = (figure[key] for key in ("model", "metric", "source", "protocol"))
        shown[(*named, " ± ".join(percents))] += 1
    assert shown == Counter(readme_table(recipe))


def test_all_tasks_have_published_figures():
    assert len(FOUND) == 8
