"""Compare encoders by retrieval on any folder of music, with or without labels.

python experiments/retrieval.py /my/music --encoders mel random:EXPORT mine=EXPORT
python experiments/retrieval.py /my/music --manifest test.csv --same album --encoders mel EXPORT

Recordings are cut into excerpts. For each excerpt the others are ranked by similarity; those of
the same recording should come first, or with --same COLUMN those of other recordings that have
the same label in the manifest. Encoders are named as for recipes/marble.py. README.md has the
protocol.
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.distributed import infer_device
from tqdm import tqdm

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.evaluation.chunks import cut_into_chunks
from speechbrain_music.evaluation.features import FeatureCache
from speechbrain_music.metrics.resampling import compare, draw_counts, interval, over_encoders
from speechbrain_music.metrics.retrieval import chance_level, layer_vectors, retrieve
from speechbrain_music.models.frozen import make_encoders, name_specs
from speechbrain_music.reporting.pages import by_encoder, render
from speechbrain_music.utils.arguments import make_parser
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, run_command

TITLES = {"top1": "top-1 accuracy", "map": "mean average precision"}
CHOSEN_BY = "map"
FEATURES = ("raw", "centred")
PAGE = Path(__file__).parent / "templates/retrieval.md"


def find_recordings(args):
    """The recordings to compare as `read_manifest` gives them, and files that cannot be used."""
    if args.manifest:
        return read_manifest(args.manifest, args.folder), {"skipped": 0, "reasons": {}}
    manifests = [args.out / "manifests" / f"{split}.csv" for split in ("train", "valid")]
    report = DATA_SETS["folder"].prepare(args.folder, args.out / "manifests")
    tracks = [read_manifest(path, args.folder) for path in manifests]
    return pd.concat(tracks, ignore_index=True), report


def cut_into_excerpts(tracks, seconds, max_seconds=None):
    """`cut_into_chunks`'s table of recordings with two excerpts or more.

    `place` is an excerpt's number in its recording. A rest shorter than `seconds` is left out, and
    what comes after `max_seconds` of a recording.
    """
    excerpts = cut_into_chunks(tracks.sort_values("ID"), seconds, seconds, max_seconds)
    excerpts = excerpts[excerpts["duration"] > 0.999 * seconds]  # not of a row shorter than one
    excerpts = excerpts[excerpts["track"].duplicated(keep=False)].reset_index(drop=True)
    return excerpts.assign(place=excerpts.groupby("track").cumcount())


def evaluate(values, recordings, **ranking):
    """Scores of one encoder, with a column per (features, metric); and features -> two layers.

    `values` is (excerpts, layers, dim), `ranking` are arguments of `retrieve`. The layer is chosen
    on half of the recordings by mean average precision, and the other half is scored with it, both
    ways round. A recording without relevant excerpts has nan.
    """
    scores, chosen = {}, {}
    half = np.arange(recordings.max() + 1) % 2 == 0
    for kind in FEATURES:
        layers = []
        for vectors in tqdm(layer_vectors(values, kind), desc=f"comparing {kind}", unit="layer"):
            found = retrieve(lambda rows, x=vectors: x[rows] @ x.T, **ranking)
            layers.append(by_recording(found, recordings))
        first, second = (
            int(np.argmax([table[CHOSEN_BY][part].mean() for table in layers]))
            for part in (half, ~half)
        )
        scores[kind] = pd.concat([layers[second][half], layers[first][~half]]).sort_index()
        chosen[kind] = [first, second]
    return pd.concat(scores, axis=1), chosen


def by_recording(found, recordings):
    """The means of what `retrieve` gives over the excerpts of each recording, nan left out."""
    return pd.DataFrame(found)[list(TITLES)].groupby(recordings).mean()


def summarise(systems, chances, resamples):
    """Rows of the table, and differences between systems as `metrics.resampling.compare`.

    systems: name -> its encoders' scores, as `evaluate` gives them.
    """
    rows, drawn = [], {name: {} for name in systems}
    for name, encoders in systems.items():
        for kind, metric in encoders[0]:
            values = np.stack([scores[kind, metric].dropna() for scores in encoders])
            counts = draw_counts(values.shape[1], resamples) / values.shape[1]
            resampled = over_encoders(values @ counts.T, np.random.default_rng(0))
            mean = float(values.mean())
            drawn[name][f"{TITLES[metric]}, {kind}"] = mean, resampled
            row = {"encoder": name, "features": kind, "metric": metric, "mean": mean}
            row |= interval(resampled.clip(0, 1)) | {"chance": float(chances[metric].mean())}
            rows.append(row | {"by_encoder": values.mean(axis=1).tolist()})
    return rows, compare(drawn)


def main(argv):
    """Compare encoders on a folder of music; see the head of this file."""
    args = make_parser(__file__, __doc__).parse_args(argv)
    specs = name_specs(args.encoders)
    options = args.trust_remote_code, args.pooling
    systems = {name: make_encoders(spec, *options) for name, spec in specs.items()}
    tracks, report = find_recordings(args)
    files, same = len(tracks), args.same or "recording"
    if args.same and args.same not in tracks:
        raise UserError(f"same is {args.same!r}: --manifest names a table with that column")
    excerpts = cut_into_excerpts(tracks, args.seconds, args.max_seconds)
    if (long_enough := excerpts["track"].nunique()) < 2:
        raise UserError(
            f"{long_enough} of {files} recordings in {args.folder} have two excerpts of "
            f"{args.seconds:g} s, two are needed: give a folder with more, or lower --seconds"
        )
    features, readable = {}, np.ones(len(excerpts), dtype=bool)
    for name, encoders in systems.items():
        features[name] = []
        for encoder in encoders:
            cache = FeatureCache(args.features or args.out / "features", encoder, excerpts).open()
            cache.extract(batch_size=8, device=infer_device())
            values, could, _ = cache.load()
            features[name].append(values)
            readable &= could
    kept = excerpts[readable]
    kept = kept[kept["track"].duplicated(keep=False)]
    rows = kept.index.to_numpy()
    recordings = pd.factorize(kept["track"])[0]
    if args.same:  # no excerpt of the same recording is ranked
        ranking = {"groups": pd.factorize(kept[args.same])[0], "positions": recordings}
    else:
        places = kept["place"].to_numpy()
        ranking = {"groups": recordings, "positions": places, "gap": args.gap}

    chances = by_recording(chance_level(**ranking), recordings)
    queried = int(chances["top1"].count())
    if queried < 4:
        raise UserError(
            f"{queried} recording(s) have an excerpt of the same {same} to find, four are needed: "
            "lower --gap or --seconds, or give more music"
        )
    scores, layers = {}, {}
    for name in systems:
        found = [evaluate(values[rows], recordings, **ranking) for values in features[name]]
        scores[name] = [each for each, _ in found]
        layers[name] = {kind: [chosen[kind] for _, chosen in found] for kind in FEATURES}
    table, pairs = summarise(scores, chances, args.resamples)

    counts = {
        "recordings": len(set(recordings)),
        "excerpts": len(rows),
        "too short for two excerpts": files - long_enough,
        "too short for the gap": len(set(recordings)) - queried,
        "unreadable excerpts": int((~readable).sum()),
        "skipped files": report["skipped"],
        "reasons": report["reasons"],
    }
    stored = vars(args) | {
        "same": same,
        "counts": counts,
        "encoders": {
            name: {"spec": specs[name], "identities": [encoder.identity for encoder in encoders]}
            for name, encoders in systems.items()
        },
        "layers": layers,
        "rows": table,
        "pairs": pairs,
    }
    figures = by_encoder(table, "metric", "features")
    text = render(PAGE, **stored, by_label=bool(args.same), titles=TITLES, figures=figures)
    dump = json.dumps(stored, indent=2, default=str) + "\n"
    write_together({args.out / "retrieval.md": text, args.out / "retrieval.json": dump})
    print(text)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(run_command(lambda: main(sys.argv[1:])))
