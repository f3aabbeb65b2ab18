"""Results of a task by the frame: figures of whole tracks, results.json, a report."""

import pandas as pd
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music.evaluation.protocol import results_key
from speechbrain_music.evaluation.results import describe, report, summarise, write_files
from speechbrain_music.metrics.track_scores import TrackScores, table_of


def write_frame_results(run, data_report, tracks, tested):
    """Writes results.json, figures of tracks and the report; returns the output folder.

    tested: for each encoder (FrameCache, reasons, TrainedHeads, scores of the test tracks).
    """
    if not if_main_process():
        return run.output
    hparams, task = run.hparams, run.hparams["task"]
    caches = [part[0] for part in tested]
    heads, splits = hparams["heads"], tested[0][2].splits
    test = splits["test"]
    scores = TrackScores(task, heads)
    # encoder, seed, track, head and metric
    found = [
        [[table_of(seed, task) for seed in part[3][head]] for head in heads] for part in tested
    ]
    figures, weights = (
        torch.stack(
            [
                torch.stack([torch.stack([s[k] for s in h]) for h in of], 2).flatten(3)
                for of in found
            ]
        )
        for k in (0, 1)
    )
    figures, weights = figures.flatten(3), weights.flatten(3)[0, 0]
    constant = task.constant(splits["train"].annotations)
    pairs = zip(test.annotations, test.seconds, strict=True)
    chance = table_of([task.score(a, constant(seconds), seconds) for a, seconds in pairs], task)[0]
    chance = chance.repeat(1, len(heads))
    summary = summarise(scores, figures, weights, chance, hparams["resamples"])
    runs = []
    for cache, _, trained, _ in tested:
        best = {
            head: trained.table.loc[rows].agg({"lr": "first", "valid": "mean"}).to_dict()
            for head, rows in trained.chosen.items()
        }
        runs.append({"identity": cache.encoder.identity, "layers": cache.layers, "heads": best})
    data = {
        "tracks": {split: len(part.names) for split, part in splits.items()},
        "chunks": {split: int((tracks.table["split"] == split).sum()) for split in splits},
        "unreadable": len(tested[0][1]),
        "reasons": list(tested[0][1].values())[:20],
        "absent": {},
    }
    key = results_key(hparams, caches, tracks.labels)
    results = describe(run, data_report, key, runs, data, summary)
    table = pd.concat([p[2].table.assign(encoder=i) for i, p in enumerate(tested)])
    text = report(results, _chosen(runs), _settings(hparams))
    write_files(run.output, results, table, text, figures, weights, test.names)
    return run.output


def _chosen(runs):
    parts = []
    for place, run in enumerate(runs):
        which = f"Encoder {place + 1}: " if len(runs) > 1 else "Chosen: "
        heads = (
            f"{head} with learning rate {best['lr']:g} (validation {best['valid']:.4f})"
            for head, best in run["heads"].items()
        )
        parts.append(f"{which}{', '.join(heads)}.")
    return " ".join(parts)


def _settings(hparams):
    whole = "whole tracks"
    if hparams["chunk_seconds"]:
        whole = (
            f"chunks of {hparams['chunk_seconds']:g} s that share {hparams['overlap_seconds']:g} s"
        )
    layers = hparams["layers"]
    return (
        f"Encoded in {whole}, {'all layers' if layers is None else f'layers {layers}'} in a learned "
        f"mix; heads trained on windows of {hparams['window_seconds']:g} s, "
        f"{len(hparams['learning_rates'])} learning rates, {len(hparams['probe_seeds'])} seed(s); "
        "figures are of whole tracks, on original times."
    )
