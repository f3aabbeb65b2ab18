"""Results of version identification: figures, also by kind of change, the report, a picture."""

import numpy as np
import pandas as pd
import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music.evaluation import results
from speechbrain_music.evaluation.frame_results import scored_task
from speechbrain_music.metrics.base import read_column
from speechbrain_music.metrics.retrieval import FEATURES, chance_level
from speechbrain_music.metrics.versions import ORIGINAL
from speechbrain_music.reporting.pictures import draw_layers, picture


def write_version_results(run, data_report, tested):
    """Writes results.json, scores of works, the report and a picture; returns the output folder.

    tested: for each encoder (TaskFeatures, RankedVersions).
    """
    if not if_main_process():
        return run.output
    hparams, task, (features, first) = run.hparams, run.hparams["task"], tested[0]
    table = features.chunks.table.drop_duplicates("track").set_index("track")
    table = table.loc[features.splits["test"].names]
    works, changes = (np.array(read_column(table, c)) for c in (task.column, task.changes))
    scores, seeds = scored_task(hparams), range(len(hparams["probe_seeds"]))

    def table_of_heads(by_head):
        """Head -> metric -> (K,) values, as a table."""
        columns = {f"{h} {m}": v for h, found in by_head.items() for m, v in found.items()}
        return pd.DataFrame(columns)[list(scores.metrics)]

    def of_queries(found, tracks=None):
        """For each seed the scores of the queries (K, metrics of all heads)."""
        by_head = {
            head: [task.score(each, works, tracks) for each in similarities]
            for head, similarities in found.similarities.items()
        }
        of_seeds = ({h: each[seed % len(each)] for h, each in by_head.items()} for seed in seeds)
        return [table_of_heads(each) for each in of_seeds]

    # A work's score is the mean over its queries, and its weight is their number.
    by_chance = dict.fromkeys(hparams["heads"], chance_level(works))
    by_chance = table_of_heads(by_chance).groupby(works)
    chance = by_chance.mean().dropna()
    weights = torch.tensor(by_chance.count().loc[chance.index].to_numpy(float))
    figures = [[q.groupby(works).mean().dropna() for q in of_queries(found)] for _, found in tested]
    weighted = (torch.tensor(np.array(each)) for each in (figures, chance))
    figures, constant = (torch.stack([x, weights.expand_as(x)], -1).flatten(-2) for x in weighted)
    summary = results.summarise(scores, figures, constant, constant, hparams["resamples"])
    for change in sorted(set(changes) - {"", ORIGINAL}):
        tracks = np.flatnonzero((changes == ORIGINAL) | (changes == change))
        mean = pd.concat([q for _, found in tested for q in of_queries(found, tracks)]).mean()
        summary["by_class"][change] = mean.filter(like=" map").to_dict()
        summary["by_class"][change]["count"] = int((changes == change).sum())
    kinds = {"standardize": ", ".join(hparams["heads"])}
    runs = [results.describe_heads(part, found) | kinds for part, found in tested]
    described = results.describe(run, data_report, tested, runs, summary)
    described["data"]["works"] = len(chance)
    layers = first.table[first.table["head"].isin(FEATURES)]
    curves = layers.pivot(index="layer", columns="head", values="valid")
    curves = curves.reindex(index=features.encoder.layers, columns=layers["head"].unique())
    with picture(run.output / results.LAYERS) as figure:
        title = f"Versions: {features.encoder.name}"
        ylabel = "mean average precision of the validation works"
        draw_layers(figure, title, curves, ylabel)
    arrays = figures, constant, chance.index.tolist()
    shown = {"features": FEATURES, "dim": features.encoder.dim}
    results.write_files(run.output, described, "versions.md", tested, *arrays, **shown)
    return run.output
