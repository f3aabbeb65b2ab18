"""Markdown pages, their tables and cells."""


def markdown_page(*blocks):
    """Text of a page: blocks (a text, or lines as of a table) with blank lines between them.

    What is empty or false is left out.
    """
    texts = (
        block if isinstance(block, str) else "\n".join(block) for block in filter(None, blocks)
    )
    return "\n\n".join(filter(None, texts)) + "\n"


def markdown_table(head, rows, align=""):
    """Lines of a table; `align` has "r" for each column that is aligned to the right."""
    marks = ("---:" if mark == "r" else "---" for mark in align.ljust(len(head)))
    head, *lines = (" ".join([*(f"| {c}".rstrip() for c in row), "|"]) for row in (head, *rows))
    return [head, f"|{'|'.join(marks)}|", *lines]


def with_interval(figure):
    """A figure (dict with mean, low, high) in a cell."""
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def signed_interval(difference):
    """A difference (dict with difference, low, high) in a cell."""
    low, high = difference["low"], difference["high"]
    return f"{difference['difference']:+.3f} ({low:+.3f} to {high:+.3f})"


def encoders_table(rows, overall=None, keys=("task", "metric")):
    """Lines of a table: a row per value of `keys`, a column per encoder; the score is the last row.

    rows: dicts with the keys, encoder, chance, mean, low, high. overall: encoder -> score, if any.
    """
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    found = {}
    for row in rows:
        key = *(row[name] for name in keys), f"{row['chance']:.3f}"
        found.setdefault(key, {})[row["encoder"]] = row
    if overall is not None:
        found["**score**", "(metric - chance) / (1 - chance)", 0] = overall
    lines = [
        [*key, *(with_interval(by[e]) if e in by else "missing" for e in encoders)]
        for key, by in found.items()
    ]
    return markdown_table([*keys, "chance", *encoders], lines, "  r")
