"""Compare encoders by retrieval on any folder of music, without labels.

python experiments/retrieval.py /my/music --encoders mel random:EXPORT mine=EXPORT

Recordings are cut into excerpts. For each excerpt the others are ranked by similarity; those of
the same recording should come first. Encoders are named as for recipes/marble.py. README.md has
the protocol.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.distributed import infer_device
from tqdm import tqdm

from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.evaluation.chunks import cut_into_chunks
from speechbrain_music.evaluation.features import FeatureCache
from speechbrain_music.metrics.resampling import draw_counts, interval, over_encoders
from speechbrain_music.metrics.retrieval import METRICS, chance_level, retrieve, unit_vectors
from speechbrain_music.models.frozen import make_encoders, name_specs
from speechbrain_music.reporting.tables import markdown_page, markdown_table, with_interval
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, run_recipe

COLUMNS = "encoder layer metric gap mean low high chance recordings".split()
TITLES = {"top1": "top-1 accuracy", "average_precision": "mean average precision"}
ALL = "all"  # layers, concatenated


def find_excerpts(folder, out, seconds):
    """Cut a folder's music into excerpts; return `cut_into_chunks`'s table and a report.

    A rest shorter than `seconds` is left out. `place` is the excerpt's number in the recording.
    """
    manifests = [out / "train.csv", out / "valid.csv"]
    report = prepare_folder(folder, *manifests, refresh=True)
    tracks = pd.concat([read_manifest(path, folder) for path in manifests], ignore_index=True)
    excerpts = cut_into_chunks(tracks.sort_values("ID"), seconds, min_last_chunk_seconds=seconds)
    whole = excerpts["duration"] > 0.999 * seconds  # a recording shorter than one is cut to itself
    excerpts = excerpts[whole].reset_index(drop=True)
    return excerpts.assign(place=excerpts.groupby("track").cumcount()), report


def evaluate(values, rows, recordings, places, gaps):
    """Compute the metrics of one encoder: (metric, gap) -> (layers + 1, recordings).

    `values` is (excerpts, layers, dim), of which `rows` are used. The last row of a result is of
    all layers together; a recording without relevant excerpts has nan.
    """
    vectors = [unit_vectors(values[rows, layer]) for layer in range(values.shape[1])]
    # All layers have the same weight. With one layer this is that layer.
    together = np.concatenate(vectors, axis=1) / np.float32(np.sqrt(len(vectors)))
    found = [
        {gap: retrieve(layer, recordings, places, gap) for gap in gaps}
        for layer in tqdm([*vectors, together], desc="comparing excerpts", unit="layer")
    ]
    return {
        (metric, gap): np.stack([by_recording(layer[gap][metric], recordings) for layer in found])
        for metric in METRICS
        for gap in gaps
    }


def by_recording(values, recordings):
    """Average (N,) over the excerpts of each recording, nan left out: (recordings,)."""
    defined = ~np.isnan(values)
    sums = np.bincount(recordings, np.where(defined, values, 0))
    counts = np.bincount(recordings, defined)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def summarise(name, layers, systems, chances, resamples):
    """Return the rows of the table (dicts of `COLUMNS`) of the encoders of one system."""
    rows = []
    for (metric, gap), first in systems[0].items():
        defined = ~np.isnan(first[0])
        recordings = int(defined.sum())
        counts = draw_counts(recordings, resamples) / recordings
        chance = float(chances[metric, gap][defined].mean())
        for number, layer in enumerate(layers):
            values = np.stack([system[metric, gap][number, defined] for system in systems])
            drawn = over_encoders(values @ counts.T, np.random.default_rng(0))
            low, high = interval(drawn.clip(0, 1))
            row = (name, layer, metric, gap, float(values.mean()), low, high, chance, recordings)
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows


def page(title, summary, rows, gap):
    """Return the text of retrieval.md."""
    by_key = {(r["encoder"], r["layer"], r["metric"], r["gap"]): r for r in rows}
    names = list(dict.fromkeys(row["encoder"] for row in rows))
    shown = {}
    for name in names:
        layers = list(dict.fromkeys(row["layer"] for row in rows if row["encoder"] == name))
        figures = [by_key[name, layer, "average_precision", gap]["mean"] for layer in layers[:-1]]
        best = layers[int(np.argmax(figures))]
        shown[name] = {"last layer": layers[-2], "best layer": best, "all layers": layers[-1]}
    rows = []
    for metric, metric_title in TITLES.items():
        for left_out in sorted({gap for _, _, _, gap in by_key}):
            words = f"{left_out} at each side" if left_out else "nothing"
            for features in ("last layer", "best layer", "all layers"):
                here = [by_key[name, shown[name][features], metric, left_out] for name in names]
                layer = "{layer}: " if features == "best layer" else ""
                cells = [layer.format(**row) + with_interval(row) for row in here]
                recordings, chance = here[0]["recordings"], f"{here[0]['chance']:.3f}"
                rows.append([metric_title, words, recordings, features, chance, *cells])
    head = ["metric", "left out", "recordings", "features", "chance", *names]
    return markdown_page(
        f"# Retrieval of excerpts of the same recording: {title}",
        summary,
        markdown_table(head, rows, "  r r"),
        "Means over recordings, each counted once; 95% intervals over recordings and "
        "encoders of a system. Top-1 accuracy: how often the most similar other excerpt is of the "
        "same recording. Average precision: how high all excerpts of the same recording rank. Left "
        "out: neighbours of the query. Chance: a random order, exact. The best layer has the "
        f"highest mean average precision with {gap} at each side left out, **chosen on these "
        "recordings**, so it is optimistic. Each layer: retrieval.csv.",
    )


def parse(argv):
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoders", nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("results/retrieval"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of an excerpt")
    parser.add_argument("--gap", type=int, default=1, help="neighbours per side that are left out")
    parser.add_argument("--resamples", type=int, default=1000, help="of the recordings")
    parser.add_argument("--trust_remote_code", action="store_true", help="for hf: encoders")
    args = parser.parse_args(argv)
    if not 0.1 <= args.seconds < float("inf"):
        raise UserError(f"seconds is {args.seconds}: it must be at least 0.1, pass --seconds 5")
    for name, least in (("gap", 0), ("resamples", 1)):
        if getattr(args, name) < least:
            raise UserError(f"{name} is {getattr(args, name)}: it must be {least} or more")
    return args


def main(argv):
    """Compare encoders on a folder of music; see the head of this file."""
    args = parse(argv)
    specs = name_specs(args.encoders)
    systems = {name: make_encoders(spec, args.trust_remote_code) for name, spec in specs.items()}
    excerpts, report = find_excerpts(args.folder, args.out / "manifests", args.seconds)
    files = sum(split["files"] for split in report["splits"].values())
    excerpts = excerpts[excerpts["track"].duplicated(keep=False)].reset_index(drop=True)
    _check(excerpts["track"].nunique(), files, args)
    features, readable = {}, np.ones(len(excerpts), dtype=bool)
    for name, encoders in systems.items():
        features[name] = []
        for encoder in encoders:
            cache = FeatureCache(args.out / "features", encoder, excerpts).open()
            cache.extract(batch_size=8, device=infer_device())
            values, could, _ = cache.load()
            features[name].append(values)
            readable &= could
    kept = excerpts[readable]
    kept = kept[kept["track"].duplicated(keep=False)]
    rows = kept.index.to_numpy()
    recordings, places = pd.factorize(kept["track"])[0], kept["place"].to_numpy()
    _check(len(set(recordings)), files, args)

    gaps = sorted({0, args.gap})
    chances = {
        (metric, gap): by_recording(values, recordings)
        for gap in gaps
        for metric, values in chance_level(recordings, places, gap).items()
    }
    queried = int((~np.isnan(chances["top1", args.gap])).sum())
    if queried < 2:
        raise UserError(
            f"gap is {args.gap}: {queried} recording(s) have excerpts of {args.seconds:g} s that "
            "far apart, two are needed: lower --gap or --seconds"
        )
    table = []
    for name, encoders in systems.items():
        layers = [*encoders[0].layers, ALL]
        metrics = [evaluate(v, rows, recordings, places, gaps) for v in features[name]]
        table += summarise(name, layers, metrics, chances, args.resamples)

    counts = {
        "recordings": len(set(recordings)),
        "excerpts": len(rows),
        "too short for two excerpts": files - excerpts["track"].nunique(),
        "too short for the gap": len(set(recordings)) - queried,
        "unreadable excerpts": int((~readable).sum()),
        "skipped files": report["skipped"],
        "reasons": report["reasons"],
    }
    summary = (
        f"{counts['recordings']} recordings, {counts['excerpts']} excerpts of {args.seconds:g} s. "
        f"Left out: {counts['too short for two excerpts']} recordings with fewer than two "
        f"excerpts, {counts['skipped files']} files that cannot be used, "
        f"{counts['unreadable excerpts']} excerpts that cannot be read. With {args.gap} at each "
        f"side left out, {counts['too short for the gap']} recordings are ranked but are no "
        "queries: they have no excerpt left to find."
    )
    text = page(args.folder, summary, table, args.gap)
    stored = {
        "folder": str(args.folder),
        "seconds": args.seconds,
        "gap": args.gap,
        "resamples": args.resamples,
        "counts": counts,
        "encoders": {
            name: {"spec": specs[name], "identities": [encoder.identity for encoder in encoders]}
            for name, encoders in systems.items()
        },
        "rows": table,
    }
    lines = pd.DataFrame(table, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
    write_together(
        {
            args.out / "retrieval.csv": lines,
            args.out / "retrieval.md": text,
            args.out / "retrieval.json": json.dumps(stored, indent=2) + "\n",
        }
    )
    print(text)
    return args.out


def _check(recordings, files, args):
    if recordings < 2:
        raise UserError(
            f"{recordings} of {files} recordings in {args.folder} have two excerpts of "
            f"{args.seconds:g} s, two are needed: give a folder with more, or lower --seconds"
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_recipe(main)
