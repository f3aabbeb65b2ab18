"""Model card of an export: configuration, training music, results, limits and usage."""

import json
import re
from functools import cache
from pathlib import Path
from string import Template

from speechbrain_music.models.export import load_export
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.models.safe_folder import FEATURES
from speechbrain_music.reporting.tables import markdown_page, markdown_table, with_interval
from speechbrain_music.utils.errors import UserError, escaped

CARD = Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8"))
COMPOSED = "- All of its training music was composed by a program: it has seen no recording.\n"
MEANS = (
    "- SummaryMixing takes a mean over the context, which is one chunk (30 s by default): "
    "compare embeddings of the same chunk length only.\n"
)
UNKNOWN = "not stated"
ORIGINS = {True: ", composed by a program", False: "", None: ", origin unknown"}
RANDOM = {"kind": "random projection"}  # trained quantizers have a kind
DATA_KINDS = (
    "On the published data",
    "On recorded music, but not on the published data: not comparable with published results",
    "On composed music that replaces the data sets: this says nothing about recorded music and "
    "must not be compared with published results",
)
HEAD = ["task", "data", "metric", "mean (95% interval)", "chance", "tracks", "notes"]


class CardError(UserError):
    """A card that would be wrong, or cannot be written."""


def model_card(folder, hub_id, results=(), licence=None, classes=()):
    """The README.md of an export for the hub, with the hub's metadata at its head.

    hub_id: "user/name". results: paths of `results.json` of tasks on which this very encoder was
    evaluated. licence: identifier of the weights' licence, such as "cc-by-4.0". Raises CardError
    if the licence is none, or a file is damaged or of another encoder, and what `load_export`,
    which takes the classes, does.
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9.-]+", licence):
        raise CardError(
            f"{licence!r} is not the identifier of a licence: write cc-by-4.0, apache-2.0 ..."
        )
    model = load_export(folder, classes=classes)
    # Hashes all weights, so once per pooling and not per task.
    identity = cache(lambda pooling: ExportEncoder(model, "", pooling).identity)
    results = [_read_results(path, identity) for path in results]
    blocks = [] if results else ["It has not been evaluated on any task."]
    for kind, title in enumerate(DATA_KINDS):
        if rows := [row for found, rows in results for row in rows if found == kind]:
            blocks += [f"**{title}.**", markdown_table(HEAD, rows, "    rr")]
    metadata = encoder_metadata(model)
    rows = [(key, text.replace("|", "/")) for key, text in metadata.items()]
    is_composed = _stated(lambda: str({c["composed"] for c in model.config["training"]["corpora"]}))
    return CARD.substitute(
        name=hub_id.partition("/")[2],
        hub_id=hub_id,
        licence_key=f"license: {licence}\n" if licence else "",
        licence=licence or "not stated yet",
        states=len(model.encoder.layers) + 1,
        dim=model.encoder.config["d_model"],
        rate=TOKEN_RATE,
        metadata="\n".join(markdown_table(["", ""], rows)),
        evaluation=markdown_page(*blocks).rstrip(),
        corpora=metadata["corpora"],
        composed_limit=COMPOSED if is_composed == "{True}" else "",
        mixer_limit=MEANS if _mixer(model) == "SummaryMixing" else "",
    )


def encoder_metadata(model):
    """Title -> text about a `WaveEncoder` and its training; "not stated" for what is unknown."""
    config, training = model.encoder.config, model.config.get("training", {})
    layers, parameters = len(model.encoder.layers), sum(p.numel() for p in model.parameters())
    stated = {
        "system": lambda: str(training["system"]),
        "targets": lambda: "{kind}, {num_codebooks} x {codebook_size:,} tokens".format(
            **RANDOM | training["quantizer"]
        ),
        "corpora": lambda: "; ".join(map(_corpus, training["corpora"])),
        "audio": lambda: "{train:.2f} h to train on, {valid:.2f} h held out".format(
            **training["hours"]
        ),
        "steps": lambda: f"{training['step']:,.0f}",
        "seed": lambda: str(training["seed"]),
        "initialised": lambda: str(training.get("init_from") or "at random"),
        "held-out loss": lambda: f"{training['held_out_loss']:.4f}",
        "compression": lambda: training.get("compression", "none"),
    }
    stated = {title: _stated(text) for title, text in stated.items()}
    return {
        "system": stated.pop("system"),
        "encoder": f"{layers} {config['block']['class']} blocks, mixer {_mixer(model)}, "
        f"{parameters:,} parameters",
        "hidden states": f"{layers + 1} (the front-end's is 0), {config['d_model']} values, "
        f"{TOKEN_RATE} per second",
        "features": f"log-mel, {FEATURES['bands']} bands, at {FEATURES['sample_rate']} Hz, "
        f"a frame every {FEATURES['hop']} samples",
        **stated,
    }


def _mixer(model):
    return model.encoder.config["block"].get("mixer", {}).get("class", "of its own")


def _stated(text):
    """Call `text()`; an export may say anything, or nothing."""
    try:
        return escaped(" ".join(text().split())) or UNKNOWN
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
        return UNKNOWN


def _corpus(corpus):
    return f"{corpus['name']} ({corpus['hours']:.2f} h{ORIGINS[corpus['composed']]})"


def _read_results(path, identity):
    """The kind of data, an index of `DATA_KINDS`, and the rows of a results.json of this model."""
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        data, protocol, encoder = results["data"], results["protocol"], results["encoder"]
        system, evaluated = encoder["name"], [run["identity"] for run in encoder["runs"]]
        name = data["data_set"]
        is_same = identity(protocol["pooling"]) in evaluated
        notes = list(data["deviations"])
        kind = 2 if data["replica"] else 1 if notes else 0
        if data["replica"]:
            notes.append(f"generator {data['replica']['generator']}")
            name += " (replica)"
        elif data.get("published"):
            notes.append(f"published results use {data['published']}")
        notes.append("frozen" if protocol.get("freeze_encoder", True) else "fine-tuned")
        if len(evaluated) > 1:
            notes.append(f"mean of {len(evaluated)} encoders, of which this is one")
        if protocol.get("quick"):
            notes.append("few probes")
        rows = [
            (results["task"], name, metric, with_interval(figure), f"{figure['chance']:.3f}")
            + (data["tracks"]["test"], "; ".join(notes))
            for metric, figure in results["figures"].items()
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CardError(
            f"{path} is not the results.json of a task ({type(error).__name__}: {error}): pass one "
            "that a recipe wrote"
        ) from error
    if not is_same:
        raise CardError(
            f"{path} evaluates {system}, which has other weights than this export: run the task "
            "with --encoder on this export"
        )
    return kind, rows
