"""The blocks of docs/many_gpus.md that are computed: `python -m benchmarks.pages` writes them."""

import json
import re
import sys
from pathlib import Path

from benchmarks import cluster
from benchmarks.cells import MEASURED, STEP
from benchmarks.growth_report import per_second
from speechbrain_music.utils.atomic import write_together

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "many_gpus.md"
GROWTH = HERE / "growth.json"
BLOCK = "<!-- {name}: written by `python -m benchmarks.pages` -->\n{text}<!-- end -->\n"
NOT_YET = "Not measured yet: `python -m benchmarks growth` measures it and writes it here.\n"


def blocks():
    """Name -> text of each computed block.

    Example
    -------
    >>> list(blocks())
    ['segments', 'cluster']
    """
    growth = json.loads(GROWTH.read_text(encoding="utf-8")) if GROWTH.exists() else None
    return {
        "segments": segments(growth) if growth else NOT_YET,
        "cluster": cluster.report(cluster.count_parameters()),
    }


def segments(growth):
    """What longer segments cost a training step, as Markdown.

    Arguments
    ---------
    growth : dict
        Of growth.json.

    Example
    -------
    >>> made = {"machine": {"processor": "P", "torch threads": 2}, "date": "2026-01-31T00:00:00"}
    >>> cells = [
    ...     {"what": "brn_sum", "work": STEP, "seconds": s, "outcome": MEASURED,
    ...      "call_seconds": {"median": s / 10}, "extra_bytes": s * 2**25}
    ...     for s in (30, 120)
    ... ]
    >>> print(segments({"cells": cells, **made}).splitlines()[-1])
    | `--segment_seconds 120 --batch_size 1` | 3.75 GiB | 32.0 MiB | 1.00 | 12.0 s | 1.00 |
    """
    cells = [cell for cell in growth["cells"] if cell["work"] == STEP]
    machine, first = growth["machine"], None
    lines = [
        f"Measured on {growth['date'][:10]}, in float32 on {machine['torch threads']} threads of a "
        f"CPU ({machine['processor']}): a whole training step of `{cells[0]['what']}` on one "
        "segment, its memory beyond weights, gradients and the optimiser's moments.\n",
        "| | memory | a second of audio | beside the first | time | a second, beside the first |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for cell in cells:
        head = f"| `--segment_seconds {cell['seconds']} --batch_size 1` |"
        if cell["outcome"] != MEASURED:
            lines.append(f"{head} {cell['outcome']} | | | | |")
            continue
        figures = per_second(cell)
        first = first or figures
        lines.append(
            f"{head} {cell['extra_bytes'] / 2**30:.2f} GiB | {figures['bytes'] / 2**20:.1f} MiB | "
            f"{figures['bytes'] / first['bytes']:.2f} | {cell['call_seconds']['median']:.1f} s | "
            f"{figures['seconds'] / first['seconds']:.2f} |"
        )
    return "\n".join([*lines, ""])


def fill(text, found):
    """A page with its computed blocks replaced.

    Arguments
    ---------
    text : str
        The page.
    found : dict
        Name -> text.

    Raises
    ------
    ValueError
        If the page has no block of a name.

    Example
    -------
    >>> page = BLOCK.format(name="a", text="old\\n")
    >>> fill(page, {"a": "new\\n"}).splitlines()[1]
    'new'
    """
    for name, block in found.items():
        place = re.compile(f"<!-- {name}: .*?<!-- end -->\n", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"the page has no block {name}: write <!-- {name}: --> <!-- end -->")
        text = place.sub(
            lambda _, name=name, block=block: BLOCK.format(name=name, text=block), text
        )
    return text


def refresh(page=PAGE):
    """Writes the computed blocks into a page.

    Example
    -------
    >>> page = getfixture("tmp_path") / "page.md"
    >>> _ = page.write_text("<!-- segments: --><!-- end -->\\n<!-- cluster: --><!-- end -->\\n")
    >>> refresh(page)
    >>> page.read_text().splitlines()[-1]
    '<!-- end -->'
    """
    page = Path(page)
    write_together({page: fill(page.read_text(encoding="utf-8"), blocks())})


if __name__ == "__main__":
    sys.exit(refresh())
