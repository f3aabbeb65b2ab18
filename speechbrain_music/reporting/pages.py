"""Pages from Jinja templates."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def environment(folder=TEMPLATES, autoescape=False):
    """The Jinja environment of templates in a folder, which may import `tables.md` of this one.

    A value that a template uses and is not given raises jinja2.UndefinedError.
    """
    return Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        undefined=StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template, /, **values):
    """Text of a page without repeated blank lines, from the path of its template.

    Values are escaped in .html only.
    """
    template = Path(template)
    page = environment(template.parent, template.suffix == ".html").get_template(template.name)
    return re.sub(r"\n{3,}", "\n\n", page.render(values)).strip() + "\n"


def by_encoder(rows, *keys):
    """Rows of a table of encoders: (value of each key ..., chance) -> encoder -> row.

    rows: dicts with the keys, encoder, chance, mean, low, high.
    """
    found = {}
    for row in rows:
        key = *(row[name] for name in keys), f"{row['chance']:.3f}"
        found.setdefault(key, {})[row["encoder"]] = row
    return found
