"""Results of a frame task: scores of whole tracks, results.json, the report, the trained heads."""

import torch
from speechbrain.utils.distributed import if_main_process

from speechbrain_music.evaluation import results
from speechbrain_music.evaluation.probe_files import save_probe
from speechbrain_music.evaluation.probes import STANDARDIZE
from speechbrain_music.metrics.track_scores import TrackScores


def write_frame_results(run, data_report, tested):
    """Writes results.json, scores of tracks, the report and the heads; returns the output folder.

    tested: for each encoder (TaskFeatures, TrainedHeads, predictions of the test tracks). The
    heads of the first encoder and probe seed are saved.
    """
    if not if_main_process():
        return run.output
    hparams, heads = run.hparams, run.hparams["heads"]
    features, first = tested[0][:2]
    test, train = features.splits["test"], features.splits["train"]
    scores = scored_task(hparams)

    def of_tracks(predictions):
        return scores.of_tracks(test.annotations, predictions, test.seconds)

    # Encoders x seeds x tracks x (heads x metrics x 2).
    by_head = [[torch.stack([*map(of_tracks, found[h])]) for h in heads] for *_, found in tested]
    figures = torch.stack([torch.cat(of_encoder, 2) for of_encoder in by_head])
    task = first.task
    perfect = [
        task.decode(task.oracle(task.targets(annotation, round(seconds * task.rate))))
        for annotation, seconds in zip(test.annotations, test.seconds, strict=True)
    ]
    constants = [task.constant(train.annotations, seconds) for seconds in test.seconds]
    chance, perfect = (of_tracks(each).repeat(1, len(heads)) for each in (constants, perfect))
    summary = results.summarise(scores, figures, chance, chance, hparams["resamples"])
    summary["perfect"] = scores.figures(perfect, chance)
    whole = {"layer": "all", "standardize": STANDARDIZE[True]}
    runs = [results.describe_heads(*x[:2]) | {"layers": x[0].cache.layers} | whole for x in tested]
    described = results.describe(run, data_report, tested, runs, summary)
    for kind, rows in first.chosen.items():
        head = first.brains[rows[0]].modules.head
        save_probe(run.output / f"probe_{kind}.safetensors", task, head, features.cache, hparams)
    arrays, shown = (figures, chance, test.names), {"metrics": task.metrics, "rate": task.rate}
    results.write_files(run.output, described, "frames.md", tested, *arrays, **shown)
    return run.output


def scored_task(hparams):
    """The task that figures and comparisons of systems are of: that of a frame task's tracks."""
    task = hparams["task"]
    return TrackScores(task, hparams["heads"]) if "heads" in hparams else task
