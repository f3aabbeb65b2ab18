"""Recordings found again: a check of encoders on any folder of music, without labels.

python recipes/retrieval/retrieval.py /my/music --encoders mel random:EXPORT mine=EXPORT

Recordings are cut into excerpts; each is compared with all others, and those of the same recording
should be the most similar. Encoders are what recipes/marble.py takes. README.md has the protocol.
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
from speechbrain_music.metrics.retrieval import METRICS, by_chance, retrieve, unit_vectors
from speechbrain_music.models.frozen import make_encoders, name_specs
from speechbrain_music.reporting.marble_table import with_interval
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, run_recipe

COLUMNS = "encoder layer measure gap mean low high chance recordings".split()
TITLES = {"top1": "1-NN accuracy", "average_precision": "mean average precision"}
ALL = "all"  # layers, one vector after the other


def find_excerpts(folder, out, seconds):
    """A folder's music in excerpts.

    Arguments
    ---------
    folder, out : path
        The music; where its manifests go.
    seconds : float
        Of an excerpt; a shorter rest is left out.

    Returns
    -------
    excerpts : pandas.DataFrame
        A row an excerpt, as `cut_into_chunks`, with `place`, its number in the recording.
    report : dict
        Of `prepare_folder`.
    """
    manifests = [out / "train.csv", out / "valid.csv"]
    report = prepare_folder(folder, *manifests, refresh=True)
    tracks = pd.concat([read_manifest(path, folder) for path in manifests], ignore_index=True)
    excerpts = cut_into_chunks(tracks.sort_values("ID"), seconds, min_last_chunk_seconds=seconds)
    whole = excerpts["duration"] > 0.999 * seconds  # a recording shorter than one is cut to itself
    excerpts = excerpts[whole].reset_index(drop=True)
    return excerpts.assign(place=excerpts.groupby("track").cumcount()), report


def with_company(excerpts):
    """Which excerpts' recordings have at least two: (N,) bool."""
    return (excerpts.groupby("track")["track"].transform("size") > 1).to_numpy(dtype=bool)


def extract(encoders, excerpts, folder):
    """Each encoder's features (N, layers, dim), and which excerpts all could read: (N,) bool."""
    values, readable = [], np.ones(len(excerpts), dtype=bool)
    for encoder in encoders:
        cache = FeatureCache(folder, encoder, excerpts).open()
        cache.extract(batch_size=8, device=infer_device())
        features, could, _ = cache.load()
        values.append(features)
        readable &= could
    return values, readable


def judge(values, rows, recordings, places, gaps):
    """One encoder's measures.

    Arguments
    ---------
    values : np.ndarray
        (excerpts, layers, dim).
    rows, recordings, places : np.ndarray
        (N,) int: which excerpts, whose, and which of the recording's.
    gaps : list of int
        Neighbours that are left out.

    Returns
    -------
    dict
        (measure, gap) -> (layers + 1, recordings): means over a recording's excerpts, the last
        row being of all layers together; nan for a recording that cannot be asked about.
    """
    vectors = [unit_vectors(values[rows, layer]) for layer in range(values.shape[1])]
    # All layers weigh the same. With one layer this is that layer.
    together = np.concatenate(vectors, axis=1) / np.float32(np.sqrt(len(vectors)))
    found = [
        {gap: retrieve(layer, recordings, places, gap) for gap in gaps}
        for layer in tqdm([*vectors, together], desc="comparing excerpts", unit="layer")
    ]
    return {
        (measure, gap): np.stack([by_recording(layer[gap][measure], recordings) for layer in found])
        for measure in METRICS
        for gap in gaps
    }


def by_recording(values, recordings):
    """Means over each recording's excerpts, nan left out: (N,) -> (recordings,)."""
    asked = ~np.isnan(values)
    sums = np.bincount(recordings, np.where(asked, values, 0))
    counts = np.bincount(recordings, asked)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def summarise(name, layers, systems, chances, resamples):
    """Rows of the table (dicts of `COLUMNS`) of the encoders of one system."""
    rows = []
    for (measure, gap), first in systems[0].items():
        asked = ~np.isnan(first[0])
        counts = draw_counts(asked.sum(), resamples) / asked.sum()
        chance = float(chances[measure, gap][asked].mean())
        for place, layer in enumerate(layers):
            values = np.stack([system[measure, gap][place, asked] for system in systems])
            drawn = over_encoders(values @ counts.T, np.random.default_rng(0))
            low, high = interval(drawn)
            figure = (float(values.mean()), low, high, chance, int(asked.sum()))
            rows.append(dict(zip(COLUMNS, (name, layer, measure, gap, *figure), strict=True)))
    return rows


def picks(rows, gap):
    """(what, layer) of the layers that the page shows, from one encoder's rows."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    own = [layer for layer in layers if layer != ALL]
    mean = {
        r["layer"]: r["mean"]
        for r in rows
        if (r["measure"], r["gap"]) == ("average_precision", gap)
    }
    best = max(own, key=mean.get)
    return {"last layer": own[-1], "best layer": best, "all layers": layers[-1]}


def page(title, facts, rows, gap):
    """The text of retrieval.md."""
    names = list(dict.fromkeys(row["encoder"] for row in rows))
    chosen = {name: picks([row for row in rows if row["encoder"] == name], gap) for name in names}
    lines = [f"# Recordings found again: {title}", "", facts, ""]
    lines += [f"| measure | left out | recordings | features | chance | {' | '.join(names)} |"]
    lines += ["|---|---|---:|---|---:|" + "---|" * len(names)]
    for measure, title in TITLES.items():
        for left_out in sorted({row["gap"] for row in rows}):
            of = {
                (row["encoder"], row["layer"]): row
                for row in rows
                if (row["measure"], row["gap"]) == (measure, left_out)
            }
            any_one = next(iter(of.values()))
            words = f"{left_out} at each side" if left_out else "nothing"
            start = f"| {title} | {words} | {any_one['recordings']} |"
            for what in ("last layer", "best layer", "all layers"):
                cells = [_cell(of[name, chosen[name][what]], what) for name in names]
                lines += [f"{start} {what} | {any_one['chance']:.3f} | {' | '.join(cells)} |"]
    return "\n".join(lines) + (
        "\n\nMeans over recordings, each counting once; 95% bootstrap intervals over recordings "
        "and encoders of a system. 1-NN accuracy: how often the most similar other excerpt is of "
        "the same recording; average precision: how near to the front all of them are ranked. "
        "Left out: the excerpts before and after the one that is compared. Chance: a random "
        "order, exact. The best layer has the highest mean average precision where "
        f"{gap} at each side are left out, **chosen on these very recordings**: it flatters. Each "
        "layer: retrieval.csv.\n"
    )


def _cell(row, what):
    layer = f"{row['layer']}: " if what == "best layer" else ""
    return layer + with_interval(row)


def parse(argv):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoders", nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("results/retrieval"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of an excerpt")
    parser.add_argument("--gap", type=int, default=1, help="neighbours a side that are left out")
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
    """Judges encoders on a folder of music; see this file's head for the arguments."""
    args = parse(argv)
    specs = name_specs(args.encoders)
    systems = {name: make_encoders(spec, args.trust_remote_code) for name, spec in specs.items()}
    excerpts, report = find_excerpts(args.folder, args.out / "manifests", args.seconds)
    files = sum(split["files"] for split in report["splits"].values())
    excerpts = excerpts[with_company(excerpts)].reset_index(drop=True)
    _check(excerpts["track"].nunique(), files, args)
    features, readable = {}, np.ones(len(excerpts), dtype=bool)
    for name, encoders in systems.items():
        features[name], could = extract(encoders, excerpts, args.out / "features")
        readable &= could
    kept = excerpts[readable]
    kept = kept[with_company(kept)]
    rows = kept.index.to_numpy()
    recordings, places = pd.factorize(kept["track"])[0], kept["place"].to_numpy()
    _check(len(set(recordings)), files, args)

    gaps = sorted({0, args.gap})
    chances = {
        (measure, gap): by_recording(values, recordings)
        for gap in gaps
        for measure, values in by_chance(recordings, places, gap).items()
    }
    asked = int((~np.isnan(chances["top1", args.gap])).sum())
    if asked < 2:
        raise UserError(
            f"gap is {args.gap}: {asked} recording(s) have excerpts of {args.seconds:g} s that far "
            "apart, two are needed: lower --gap or --seconds"
        )
    table = []
    for name, encoders in systems.items():
        layers = [*encoders[0].layers, ALL]
        judged = [judge(v, rows, recordings, places, gaps) for v in features[name]]
        table += summarise(name, layers, judged, chances, args.resamples)

    counts = {
        "recordings": len(set(recordings)),
        "excerpts": len(rows),
        "too short for two excerpts": files - excerpts["track"].nunique(),
        "too short for the gap": len(set(recordings)) - asked,
        "unreadable excerpts": int((~readable).sum()),
        "skipped files": report["skipped"],
        "reasons": report["reasons"],
    }
    facts = (
        f"{counts['recordings']} recordings, {counts['excerpts']} excerpts of {args.seconds:g} s. "
        f"Left out: {counts['too short for two excerpts']} recordings with fewer than two "
        f"excerpts, {counts['skipped files']} files that cannot be used, "
        f"{counts['unreadable excerpts']} excerpts that cannot be read. Where {args.gap} at each "
        f"side are left out, {counts['too short for the gap']} recordings have nothing to be found "
        "and are only among what is ranked."
    )
    _write(args, specs, systems, counts, table, page(args.folder, facts, table, args.gap))
    print((args.out / "retrieval.md").read_text(encoding="utf-8"))
    return args.out


def _check(recordings, files, args):
    if recordings < 2:
        raise UserError(
            f"{recordings} of {files} recordings in {args.folder} have two excerpts of "
            f"{args.seconds:g} s, two are needed: give a folder with more, or lower --seconds"
        )


def _write(args, specs, systems, counts, table, text):
    lines = pd.DataFrame(table, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
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
    write_together(
        {
            args.out / "retrieval.csv": lines,
            args.out / "retrieval.md": text,
            args.out / "retrieval.json": json.dumps(stored, indent=2) + "\n",
        }
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_recipe(main)
