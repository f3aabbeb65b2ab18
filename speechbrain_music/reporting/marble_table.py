"""Tables of several encoders on several tasks."""

import json
from pathlib import Path

import pandas as pd

from speechbrain_music.reporting.tables import encoders_table, markdown_page, markdown_table
from speechbrain_music.utils.atomic import write_together

COLUMNS = "task encoder metric mean sd low high chance layer lr".split()


def write_suite(folder, cells, overall, pairs, failed):
    """Writes marble.md, marble.csv and marble.json.

    cells: (task, encoder) -> a recipe's results. overall: encoder -> mean, low, high of its score,
    and number of tasks. pairs: from `metrics.comparison.compare`. failed: what is missing -> why.
    """
    folder = Path(folder)
    rows = [
        {"task": task, "encoder": encoder, "metric": metric, **figure}
        | {key: [run[key] for run in results["encoder"]["runs"]] for key in ("layer", "lr")}
        for (task, encoder), results in cells.items()
        for metric, figure in results["figures"].items()
    ]
    lines = [row | {key: " ".join(map(str, row[key])) for key in ("layer", "lr")} for row in rows]
    table = pd.DataFrame(lines, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
    stored = {"rows": rows, "overall": overall, "pairs": pairs, "failed": failed}
    stored["scores"] = [
        {"task": task, "encoder": encoder, **results["score"]}
        | {"each": results["each"], "runs": results["encoder"]["runs"]}
        for (task, encoder), results in cells.items()
    ]
    write_together(
        {
            folder / "marble.csv": table,
            folder / "marble.md": _page(cells, rows, overall, pairs, failed),
            folder / "marble.json": json.dumps(stored, indent=2) + "\n",
        }
    )


def _page(cells, rows, overall, pairs, failed):
    replicas = {r["data"]["replica"]["generator"] for r in cells.values() if r["data"]["replica"]}
    blocks = ["# Encoders and tasks"]
    if replicas:
        blocks.append(
            f"**On replicas** ({', '.join(sorted(replicas))}): music composed by a program. No "
            "figure says anything about recorded music: do not compare with published figures."
        )
    counts = sorted({value["tasks"] for value in overall.values()})
    blocks += [
        encoders_table(rows, overall),
        "Means over encoders of a system and probe seeds, 95% intervals over test tracks "
        "(bootstrap) and encoders (Student's t; for the score and for differences of it, the "
        "spread of seeds is pooled over all systems of several exports). The score is the mean "
        f"over {' or '.join(map(str, counts))} tasks, of several metrics of a task their mean, R2 "
        "under 0 as 0.",
    ]
    if pairs:
        blocks += [
            "## Differences of scores",
            "Paired on the same resamples. A difference is significant for a task if p, after "
            "Holm's correction over tasks, is under 0.05, and over all tasks if its interval "
            "excludes 0.",
        ]
    for pair in pairs:
        differences = {"**all tasks**": pair["all tasks"]} | pair["tasks"]
        table = [_difference(name, d, pair) for name, d in differences.items()]
        blocks.append(f"### {pair['first']} - {pair['second']}")
        blocks.append(
            markdown_table(["task", "difference", "95% interval", "p", ""], table, " r r")
        )
    chosen = [
        [task, encoder]
        + [
            ", ".join(str(run[key]) for run in results["encoder"]["runs"])
            for key in ("standardize", "layer", "lr")
        ]
        for (task, encoder), results in cells.items()
    ]
    head = ["task", "encoder", "features", "layer", "learning rate"]
    blocks += ["## Chosen", markdown_table(head, chosen)]
    if failed:
        blocks += ["## Missing", [f"- {what}: {why}" for what, why in failed.items()]]
    return markdown_page(*blocks)


def _difference(name, d, pair):
    better = pair["first" if d["difference"] > 0 else "second"]
    word = f"{better} is better" if d["differs"] else "no significant difference"
    span = f"{d['low']:+.3f} to {d['high']:+.3f}"
    return name, f"{d['difference']:+.3f}", span, f"{d['p']:.3f}", word
