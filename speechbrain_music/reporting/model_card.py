"""Model card of an export: configuration, training music, results, limits and usage."""

import json
import re
from functools import cache
from pathlib import Path

from jinja2 import TemplateError

from speechbrain_music.models.export import load_export
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.models.safe_folder import FEATURES
from speechbrain_music.reporting.pages import TEMPLATES, environment, render
from speechbrain_music.utils.errors import UserError, escaped

UNKNOWN = "not stated"
# "[True]" if a program made all of the training music.
COMPOSED = "{{ training.corpora|map(attribute='composed')|unique|list }}"
# What a template raises for values of another kind than it expects.
DAMAGED = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, TemplateError)


def model_card(folder, hub_id, results=(), licence=None, classes=()):
    """The README.md of an export for the hub, with the hub's metadata at its head.

    hub_id: "user/name". results: paths of `results.json` of tasks on which this very encoder was
    evaluated. licence: identifier of the weights' licence, such as "cc-by-4.0". Raises UserError
    if the licence is none, or a file is damaged or of another encoder, and what `load_export`,
    which takes the classes, does.
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9.-]+", licence):
        raise UserError(
            f"{licence!r} is not the identifier of a licence: write cc-by-4.0, apache-2.0 ..."
        )
    model = load_export(folder, classes=classes)
    # Hashes all weights, so once per pooling and not per task.
    identity = cache(lambda pooling: ExportEncoder(model, "", pooling).identity)
    rows = {"published": "", "recorded": "", "composed": ""}
    for path in results:
        kind, text = _read_results(path, identity)
        rows[kind] += text
    values = _values(model)
    return render(
        TEMPLATES / "model_card.md",
        hub_id=hub_id,
        licence=licence,
        evaluated=bool(results),
        rows=rows,
        metadata=encoder_metadata(model),
        composed=_stated(COMPOSED, values) == "[True]",
        **values,
    )


def encoder_metadata(model):
    """Title -> text about a `WaveEncoder` and its training; "not stated" for what is unknown."""
    values, lines = _values(model), (TEMPLATES / "encoder.txt").read_text(encoding="utf-8")
    pairs = (line.split(": ", 1) for line in lines.splitlines())
    return {title: _stated(text, values) for title, text in pairs}


def _values(model):
    """What templates use of a model."""
    config = model.encoder.config
    return {
        "model": model,
        "config": config,
        "training": model.config.get("training", {}),
        "mixer": (config["block"].get("mixer") or {}).get("class", "of its own"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "features": FEATURES,
        "token_rate": TOKEN_RATE,
    }


def _stated(template, values):
    """Text of a template about a model; an export may say anything, or nothing."""
    try:
        text = environment().from_string(template).render(values)
        return escaped(" ".join(text.split())) or UNKNOWN
    except DAMAGED:
        return UNKNOWN


def _read_results(path, identity):
    """The kind of data and the rows of the card's table of a results.json of this model."""
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        data, system = results["data"], results["encoder"]["name"]
        kind = "composed" if data["replica"] else "recorded" if data["deviations"] else "published"
        evaluated = [run["identity"] for run in results["encoder"]["runs"]]
        is_same = identity(results["protocol"].get("pooling", "mean")) in evaluated
        rows = render(TEMPLATES / "card_results.md", **results)
    except (OSError, *DAMAGED, RecursionError) as error:
        raise UserError(
            f"{path} is not the results.json of a task ({type(error).__name__}: {error}): pass one "
            "that a recipe wrote"
        ) from error
    if not is_same:
        raise UserError(
            f"{path} evaluates {system}, which has other weights than this export: run the task "
            "with --encoder on this export"
        )
    return kind, rows
