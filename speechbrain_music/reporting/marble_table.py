"""Tables of several encoders on several tasks."""

import json
from pathlib import Path

import pandas as pd

from speechbrain_music.reporting.pages import TEMPLATES, by_encoder, render
from speechbrain_music.utils.atomic import write_together

COLUMNS = "task encoder metric mean sd low high chance layer lr".split()


def write_suite(folder, cells, overall, pairs, failed):
    """Writes marble.md, marble.csv and marble.json.

    cells: (task, encoder) -> a recipe's results. overall: encoder -> mean, low, high of its score,
    and number of tasks. pairs: from `metrics.resampling.compare`. failed: what is missing -> why.
    """
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
    page = render(
        TEMPLATES / "marble.md",
        cells=cells,
        encoders=list(dict.fromkeys(row["encoder"] for row in rows)),
        figures=by_encoder(rows, "task", "metric"),
        **stored,
    )
    dump = json.dumps(stored, indent=2) + "\n"
    texts = {"marble.csv": table, "marble.md": page, "marble.json": dump}
    write_together({Path(folder, name): text for name, text in texts.items()})
