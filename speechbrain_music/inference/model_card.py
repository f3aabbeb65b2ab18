"""The model card of an export: what it is, what it heard, what it is worth, how to use it."""

import json
import re
from functools import cache
from pathlib import Path

from speechbrain_music.inference.facts import UNKNOWN, facts_of
from speechbrain_music.inference.hub import HUB_ID
from speechbrain_music.models.export import load_export
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.reporting.marble_table import with_interval
from speechbrain_music.utils.errors import UserError

TAGS = ("speechbrain", "speechbrain_music", "music", "audio", "best-rq")
REFERENCES = (
    "Pre-training and systems: arXiv 2601.09603. SummaryMixing: Parcollet et al., arXiv "
    "2307.07421. BEST-RQ: Chiu et al., arXiv 2202.01855. Tasks: MARBLE, arXiv 2306.10548."
)


class CardError(UserError):
    """A card that would say what is not so, or cannot be written.

    Example
    -------
    >>> model_card("export", "mine")
    Traceback (most recent call last):
    ...
    speechbrain_music.inference.model_card.CardError: 'mine' is no name on the hub: write USER/NAME
    """


def model_card(folder, hub_id, results=(), licence=None):
    """The text of a README.md for the hub.

    Arguments
    ---------
    folder : path
        An export.
    hub_id : str
        "user/name", where it will be found.
    results : list of path
        `results.json` of tasks by which this very encoder was judged.
    licence : str, optional
        Identifier of the weights' licence, such as "cc-by-4.0".

    Returns
    -------
    str
        With the hub's metadata at its head. Figures on replicas stand in a table of their own.

    Raises
    ------
    CardError
        If an identifier is none, or a `results.json` is damaged or judges another encoder.
    ExportError
        As `load_export`.

    Example
    -------
    >>> from speechbrain_music.models.encoder import Encoder
    >>> from speechbrain_music.models.export import save_export
    >>> from speechbrain_music.models.frontend import LogMel
    >>> folder = getfixture("tmp_path") / "export"
    >>> save_export(folder, Encoder(num_layers=1, d_model=16, ffn_units=16), LogMel())
    >>> print(*model_card(folder, "me/mine").splitlines()[:2], sep="\\n")
    ---
    library_name: speechbrain
    """
    if not HUB_ID.fullmatch(hub_id):
        raise CardError(f"{hub_id!r} is no name on the hub: write USER/NAME")
    if licence is not None and not re.fullmatch(r"[a-z0-9.-]+", licence):
        raise CardError(f"{licence!r} is no licence's identifier: write cc-by-4.0, apache-2.0 ...")
    model = load_export(folder)
    judged = [_read_results(path) for path in results]
    _check_encoder(model, judged)
    facts = facts_of(model)
    config, name = model.encoder.config, hub_id.partition("/")[2]
    lines = ["---", "library_name: speechbrain", *([f"license: {licence}"] if licence else [])]
    lines += ["pipeline_tag: feature-extraction", f"tags: [{', '.join(TAGS)}]", "---"]
    lines += [f"# {name}", ""]
    lines += [
        f"A music encoder: from audio to {config['num_layers'] + 1} hidden states of "
        f"{config['d_model']} values, 25 a second, pre-trained without labels by masked "
        "prediction (BEST-RQ) with speechbrain_music.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {title} | {text.replace('|', '/')} |" for title, text in facts.items()),
        "",
        *_usage(hub_id),
        "## What it is worth",
        "",
        *_figures(judged),
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(model, facts)),
        "",
        "## Licence",
        "",
        f"Of the weights: {licence}." if licence else "Of the weights: none is stated yet.",
        "That of the music they were trained on is not the weights' and is not known here.",
        "",
        "## References",
        "",
        REFERENCES,
    ]
    return "\n".join(lines) + "\n"


def _usage(hub_id):
    return [
        "## How to use it",
        "",
        "```",
        "pip install speechbrain-music",
        f"sbmusic embed song.mp3 --model {hub_id} --out song.npy",
        "```",
        "",
        "```python",
        "from speechbrain_music.inference import MusicEncoder",
        "",
        f'encoder = MusicEncoder.from_export("{hub_id}")',
        'values = encoder.encode_file("song.mp3", layers="all", pool="mean").values',
        "```",
        "",
        "The files are safetensors and JSON: loading them runs no code.",
        "",
    ]


def _read_results(path):
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        data, encoder = results["data"], results["encoder"]
        data["replica"], data["deviations"], data["tracks"]["test"], data["data_set"]
        _ = [run["identity"] for run in encoder["runs"]], results["protocol"]["pooling"]
        _ = [
            with_interval(figure) + f"{figure['chance']}" for figure in results["figures"].values()
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CardError(
            f"{path} is no results.json of a task ({type(error).__name__}: {error}): give the one "
            "that a recipe wrote"
        ) from error
    return results | {"path": path}


def _check_encoder(model, judged):
    # Hashes all weights: not again for each task.
    identity = cache(lambda pooling: ExportEncoder(model, "", pooling).identity)
    for results in judged:
        own = identity(results["protocol"]["pooling"])
        if own not in [run["identity"] for run in results["encoder"]["runs"]]:
            raise CardError(
                f"{results['path']} judges {results['encoder']['name']}, which has other weights "
                "than this export: run the task with --encoder on this export"
            )


def _figures(judged):
    """Tables: on the published data, on real data of other extent, on composed music."""
    if not judged:
        return ["It has not been judged on any task.", ""]
    parts = {
        "On the published data": [
            r for r in judged if not r["data"]["replica"] and not r["data"]["deviations"]
        ],
        "On recorded music, but not on the published data: no published figure is comparable": [
            r for r in judged if not r["data"]["replica"] and r["data"]["deviations"]
        ],
        "On composed music that stands in for the data sets: this says nothing about recorded "
        "music, and none of it may stand beside a published figure": [
            r for r in judged if r["data"]["replica"]
        ],
    }
    lines = []
    for title, group in parts.items():
        if group:
            lines += [f"**{title}.**", ""]
            lines += ["| task | data | metric | mean (95% interval) | chance | tracks | how |"]
            lines += ["|---|---|---|---|---:|---:|---|"]
            lines += [row for results in group for row in _rows(results)]
            lines += [""]
    return lines


def _rows(results):
    data, runs = results["data"], results["encoder"]["runs"]
    notes = list(data["deviations"])
    if data["replica"]:
        notes.append(f"generator {data['replica']['generator']}")
    elif data.get("published"):
        notes.append(f"published figures are of {data['published']}")
    notes.append("frozen" if results["protocol"].get("freeze_encoder", True) else "fine-tuned")
    if len(runs) > 1:
        notes.append(f"mean of {len(runs)} encoders, of which this is one")
    if results["protocol"].get("quick"):
        notes.append("few probes")
    name = f"{data['data_set']} (replica)" if data["replica"] else data["data_set"]
    for metric, figure in results["figures"].items():
        yield (
            f"| {results['task']} | {name} | {metric} | {with_interval(figure)} | "
            f"{figure['chance']:.3f} | {data['tracks']['test']} | {'; '.join(notes)} |"
        )


def _limits(model, facts):
    training = model.config.get("training", {})
    corpora = training.get("corpora") or []
    yield (
        "It hears mono at 24 kHz: nothing above 12 kHz, no stereo. It was trained on what the "
        f"table says (corpora: {facts['corpora']}); of other music nothing is known."
    )
    if corpora and all(isinstance(c, dict) and c.get("composed") for c in corpora):
        yield "All of its training music was composed by a program: no recording was heard."
    if facts["audio"] == UNKNOWN:
        yield "How much music it was trained on is not stated."
    if model.encoder.config["mixing"] == "summary":
        yield (
            "SummaryMixing takes a mean over what is heard at once, so that values depend on the "
            "chunk (30 s unless told otherwise): compare embeddings of one chunk length only."
        )
    yield (
        "Layers differ in what they tell. Choose one on your own validation data, and standardise "
        "each dimension before distances or probes."
    )
