"""Model card of an export: configuration, training music, results, limits and usage."""

import json
import re
from functools import cache
from pathlib import Path

from speechbrain_music.models.export import load_export
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.models.safe_folder import FEATURES
from speechbrain_music.reporting.tables import markdown_page, markdown_table, with_interval
from speechbrain_music.utils.errors import UserError, escaped

UNKNOWN = "not stated"
ORIGINS = {True: ", composed by a program", False: "", None: ", origin unknown"}
RANDOM = "random projection"  # trained quantizers have a kind
TARGETS = "{kind}, {num_codebooks} x {codebook_size:,} tokens"
HOURS = "{train:.2f} h to train on, {valid:.2f} h held out"
TAGS = "tags: [speechbrain, speechbrain_music, music, audio, best-rq]"
DATA_KINDS = (
    "On the published data",
    "On recorded music, but not on the published data: not comparable with published results",
    "On composed music that replaces the data sets: this says nothing about recorded music and "
    "must not be compared with published results",
)
REFERENCES = (
    "Pre-training and systems: arXiv 2601.09603. SummaryMixing: Parcollet et al., arXiv "
    "2307.07421. BEST-RQ: Chiu et al., arXiv 2202.01855. Tasks: MARBLE, arXiv 2306.10548."
)
USAGE = """## Usage

```
pip install speechbrain-music
sbmusic embed song.mp3 --model {hub_id} --out song.npy
```

```python
from speechbrain_music.inference import MusicEncoder

encoder = MusicEncoder.from_export("{hub_id}")
values = encoder.encode_file("song.mp3", layers="all", pool="mean").values
```

The files are safetensors and JSON: loading them runs no code."""


class CardError(UserError):
    """A card that would be wrong, or cannot be written."""


def model_card(folder, hub_id, results=(), licence=None):
    """The README.md of an export for the hub, with the hub's metadata at its head.

    hub_id: "user/name". results: paths of `results.json` of tasks on which this very encoder was
    evaluated. licence: identifier of the weights' licence, such as "cc-by-4.0". Raises CardError
    if the licence is none, or a file is damaged or of another encoder, and what `load_export` does.
    """
    if licence is not None and not re.fullmatch(r"[a-z0-9.-]+", licence):
        raise CardError(
            f"{licence!r} is not the identifier of a licence: write cc-by-4.0, apache-2.0 ..."
        )
    model = load_export(folder)
    # Hashes all weights, so once per pooling and not per task.
    identity = cache(lambda pooling: ExportEncoder(model, "", pooling).identity)
    results = [_read_results(path, identity) for path in results]
    metadata, encoder = encoder_metadata(model), _architecture(model)
    return markdown_page(
        [
            "---",
            "library_name: speechbrain",
            *([f"license: {licence}"] if licence else []),
            "pipeline_tag: feature-extraction",
            TAGS,
            "---",
            f"# {hub_id.partition('/')[2]}",
        ],
        f"A music encoder: from audio to {encoder['layers'] + 1} hidden states of "
        f"{encoder['dim']} values, {TOKEN_RATE} per second, pre-trained without labels by masked "
        "prediction (BEST-RQ) with speechbrain_music.",
        markdown_table(["", ""], [(k, text.replace("|", "/")) for k, text in metadata.items()]),
        USAGE.format(hub_id=hub_id),
        "## Evaluation",
        "" if results else "It has not been evaluated on any task.",
        *_result_tables(results),
        "## Limits",
        [f"- {limit}" for limit in _limits(model, metadata)],
        "## Licence",
        f"Of the weights: {licence or 'not stated yet'}.\n"
        "The licence of the training music is another one, and is not known here.",
        "## References",
        REFERENCES,
    )


def encoder_metadata(model):
    """Title -> text about a `WaveEncoder` and its training; "not stated" for what is unknown."""
    encoder, training = _architecture(model), model.config.get("training", {})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "system": _stated(lambda: str(training["system"])),
        "encoder": f"{encoder['layers']} {encoder['block']} blocks, mixer {encoder['mixer']}, "
        f"{parameters:,} parameters",
        "hidden states": f"{encoder['layers'] + 1} (the front-end's is 0), {encoder['dim']} "
        f"values, {TOKEN_RATE} per second",
        "features": f"log-mel, {FEATURES['bands']} bands, at {FEATURES['sample_rate']} Hz, "
        f"a frame every {FEATURES['hop']} samples",
        "targets": _stated(lambda: TARGETS.format(**{"kind": RANDOM} | training["quantizer"])),
        "corpora": _stated(lambda: "; ".join(map(_corpus, training["corpora"]))),
        "audio": _stated(lambda: HOURS.format(**training["hours"])),
        "steps": _stated(lambda: f"{training['step']:,.0f}"),
        "seed": _stated(lambda: str(training["seed"])),
        "held-out loss": _stated(lambda: f"{training['held_out_loss']:.4f}"),
    }


def _architecture(model):
    """The one place that reads the encoder's configuration."""
    config = model.encoder.config
    return {
        "block": config["block"]["class"],
        "mixer": config["block"].get("mixer", {}).get("class", "of its own"),
        "layers": len(model.encoder.layers),
        "dim": config["d_model"],
    }


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
        data, name = results["data"], results["encoder"]["name"]
        evaluated = [run["identity"] for run in results["encoder"]["runs"]]
        is_same = identity(results["protocol"]["pooling"]) in evaluated
        kind = 2 if data["replica"] else 1 if data["deviations"] else 0
        rows = list(_rows(results, len(evaluated)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CardError(
            f"{path} is not the results.json of a task ({type(error).__name__}: {error}): pass one "
            "that a recipe wrote"
        ) from error
    if not is_same:
        raise CardError(
            f"{path} evaluates {name}, which has other weights than this export: run the task with "
            "--encoder on this export"
        )
    return kind, rows


def _rows(results, encoders):
    data, protocol = results["data"], results["protocol"]
    notes, name = list(data["deviations"]), data["data_set"]
    if data["replica"]:
        notes.append(f"generator {data['replica']['generator']}")
        name += " (replica)"
    elif data.get("published"):
        notes.append(f"published results use {data['published']}")
    notes.append("frozen" if protocol.get("freeze_encoder", True) else "fine-tuned")
    if encoders > 1:
        notes.append(f"mean of {encoders} encoders, of which this is one")
    if protocol.get("quick"):
        notes.append("few probes")
    for metric, figure in results["figures"].items():
        values = with_interval(figure), f"{figure['chance']:.3f}", data["tracks"]["test"]
        yield results["task"], name, metric, *values, "; ".join(notes)


def _result_tables(results):
    """Tables by kind of data: as published, recorded but not as published, and composed."""
    head = ["task", "data", "metric", "mean (95% interval)", "chance", "tracks", "notes"]
    for kind, title in enumerate(DATA_KINDS):
        if rows := [row for found, rows in results for row in rows if found == kind]:
            yield from (f"**{title}.**", markdown_table(head, rows, "    rr"))


def _limits(model, metadata):
    corpora = model.config.get("training")
    corpora = corpora.get("corpora") if isinstance(corpora, dict) else []
    yield (
        "Its input is mono at 24 kHz: nothing above 12 kHz, no stereo. It was trained on the "
        f"corpora of the table ({metadata['corpora']}); how well it works for other music is not "
        "known."
    )
    if corpora and all(isinstance(c, dict) and c.get("composed") for c in corpora):
        yield "All of its training music was composed by a program: it has seen no recording."
    if _architecture(model)["mixer"] == "summary":
        yield (
            "SummaryMixing takes a mean over the context, which is one chunk (30 s by default): "
            "compare embeddings of the same chunk length only."
        )
    yield (
        "Layers differ in what they represent. Choose one on your own validation data, and "
        "standardise each dimension before distances or probes."
    )
