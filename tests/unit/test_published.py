"""Published figures: each task's published.csv is well formed and agrees with its README."""

import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
COLUMNS = ["model", "metric", "value", "sd", "source", "protocol"]
SHOWN = {
    "accuracy": "accuracy",
    "ROC-AUC": "roc_auc",
    "average precision": "average_precision",
    "weighted score": "weighted_score",
    "R2 arousal": "r2_arousal",
    "R2 valence": "r2_valence",
}
METRICS = {
    "mtt_tagging": ["roc_auc", "average_precision"],
    "giantsteps_key": ["weighted_score"],
    "gtzan_genre": ["accuracy"],
    "emomusic_emotion": ["r2_arousal", "r2_valence"],
    "nsynth_pitch": ["accuracy"],
    "nsynth_instrument": ["accuracy"],
    "vocalset_singer": ["accuracy"],
    "vocalset_technique": ["accuracy"],
}


FOUND = {path.parent.name for path in RECIPES.glob("*/published.csv")}


def figures(recipe):
    with open(RECIPES / recipe / "published.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


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
                yield named["model"], SHOWN[column], *where, named[column]


@pytest.mark.parametrize("recipe", sorted(FOUND | METRICS.keys()))
def test_figures_are_well_formed_and_the_readme_shows_them(recipe):
    found, shown = figures(recipe), Counter()
    assert {figure["metric"] for figure in found} == set(METRICS[recipe])
    for figure in found:
        assert -1 <= Decimal(figure["value"]) <= 1, figure
        assert not figure["sd"] or 0 < Decimal(figure["sd"]) < Decimal("0.1"), figure
        assert figure["protocol"] in ("MARBLE constrained", "own"), figure
        assert figure["model"] and figure["source"], figure
    keys = Counter((figure["model"], figure["metric"], figure["source"]) for figure in found)
    assert [key for key, times in keys.items() if times > 1] == []
    for figure in found:  # 0.840 and 0.003 are shown as 84.0 ± 0.3
        percents = [str(Decimal(figure[k]).scaleb(2)) for k in ("value", "sd") if figure[k]]
        named = (figure[key] for key in ("model", "metric", "source", "protocol"))
        shown[(*named, " ± ".join(percents))] += 1
    assert shown == Counter(readme_table(recipe))
