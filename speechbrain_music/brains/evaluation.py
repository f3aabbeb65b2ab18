"""A recipe's run: an encoder judged on a task, from its command line to its report."""

import json
import logging
import time

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_barrier, if_main_process, run_on_main

from speechbrain_music.brains.base import among_processes, join_processes
from speechbrain_music.brains.finetune import finetune
from speechbrain_music.brains.protocol import (
    PREPARATION,
    PROTOCOL,
    load_task,
    output_folder,
    results_key,
)
from speechbrain_music.brains.sweep import sweep
from speechbrain_music.dataio.chunks import cut_into_chunks
from speechbrain_music.dataio.feature_batches import FeatureSplit
from speechbrain_music.dataio.feature_cache import FeatureCache
from speechbrain_music.dataio.feature_statistics import directions_for
from speechbrain_music.metrics.summary import summarise
from speechbrain_music.models.frozen import make_encoders
from speechbrain_music.reporting.task_report import RESULTS, read_published, write_results
from speechbrain_music.utils.environment import versions
from speechbrain_music.utils.errors import UserError
from speechbrain_music.utils.memory import keep_freed_memory

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")


def evaluate(argv, brain_class, find_data, published):
    """Judges an encoder: prepares, extracts, sweeps, perhaps fine-tunes, reports.

    Arguments
    ---------
    argv : list of str
        A task's yaml, then `--key value` pairs.
    brain_class : type
        The recipe's `ProbeBrain`.
    find_data : callable
        `find_data(data_folder=..., out=..., replica_scale=..., **options)` -> the preparation's
        report and split -> table; see `data_prep.fallback.prepare_or_synthesize`.
    published : path
        CSV of published figures, which stand beside results on the published data only.

    Returns
    -------
    Path
        The folder with `results.json` and the rest of what `reporting.task_report` writes.

    Raises
    ------
    UserError
        For what the user can mend; what is whole before stays.

    Example
    -------
    >>> argv = ["hparams/gtzan_genre.yaml", "--encoder", "mel", "--pooling", "max"]
    >>> evaluate(argv, None, None, None)  # before any data are looked for
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: pooling is 'max': choose mean or mean_std
    """
    began = time.time()
    keep_freed_memory()
    hparams_file, hparams, run_opts, overrides = load_task(argv)
    encoders = make_encoders(hparams["encoder"], hparams["trust_remote_code"], hparams["pooling"])
    output = output_folder(hparams, encoders[0].name)
    join_processes(run_opts)
    options = {key: hparams[key] for key in PREPARATION if key in hparams}
    options |= {key: hparams[key] for key in ("data_folder", "replica_scale")}
    report, tables = run_on_main(find_data, kwargs=options | {"out": output / "manifests"})

    task = brain_class.task
    cut = {
        key: hparams.get(key) for key in ("chunk_seconds", "min_last_chunk_seconds", "max_seconds")
    }
    parts = {split: cut_into_chunks(tables[split], **cut) for split in SPLITS}
    names = {split: list(dict.fromkeys(parts[split]["track"])) for split in SPLITS}
    answers = {split: _answers(task, parts[split]) for split in SPLITS}
    absent = {split: task.absent(answers[split]) for split in SPLITS}
    _check_classes(task, absent)
    chunks = pd.concat([parts[split].assign(split=split) for split in SPLITS], ignore_index=True)

    caches = [FeatureCache(hparams["feature_folder"], encoder, chunks) for encoder in encoders]
    key = results_key(hparams, [cache.facts for cache in caches], answers)
    if run_on_main(_is_done, [output, key]):
        return output
    sb.create_experiment_directory(output, hparams_file, overrides)
    for cache in caches:
        _extract(cache, hparams, run_opts)

    # Training that was cut short goes on, also to another number of epochs, and in no other case.
    same = results_key(hparams | {"fine_tune_epochs": None}, [c.facts for c in caches], answers)
    runs, probes, logits = [], [], []
    for number, (encoder, cache) in enumerate(zip(encoders, caches, strict=True)):
        values, readable, reasons = cache.load()
        splits = _split_features(chunks, values, readable, names, answers)
        swept = sweep(brain_class, splits, encoder.layers, hparams, run_opts)
        tested, tuned = swept.logits, None
        if not hparams["freeze_encoder"]:
            folder = output / f"save-{same[:12]}-{number}"
            tested, tuned = finetune(
                brain_class, encoder, swept, chunks, splits, hparams, run_opts, folder
            )
        logits.append(tested)
        runs.append(_run(encoder, swept, tuned))
        probes.append(swept.table.assign(encoder=number))
    if not if_main_process():
        return output

    logits, test, train = torch.stack(logits), splits["test"], splits["train"]
    verdict = summarise(task, logits, test.answers, train.answers, hparams["resamples"])
    replica = report["replica"]
    real = replica is None and not report["deviations"]
    results = {
        "task": hparams["task"],
        "command": [str(part) for part in argv],
        "key": key,
        "encoder": {"spec": hparams["encoder"], "name": encoders[0].name, "runs": runs},
        "data": {
            "data_set": report["data_set"],
            "replica": replica and {k: replica[k] for k in ("generator", "scale", "seed")},
            "settings": report["settings"],
            "published": report.get("published"),
            "deviations": report["deviations"],
            "tracks": {split: len(splits[split].answers) for split in SPLITS},
            "chunks": {split: len(splits[split].rows) for split in SPLITS},
            "unreadable": len(reasons),
            "reasons": list(reasons.values())[:20],
            "absent": absent,
        },
        "protocol": {name: hparams[name] for name in PROTOCOL}
        | {"halved": len(train.rows) > hparams["successive_halving_above"]},
        **verdict,
        "published": read_published(published, task.metrics) if real else [],
        "versions": versions(),
        "seconds": round(time.time() - began, 1),
    }
    write_results(
        output,
        results,
        pd.concat(probes, ignore_index=True),
        logits.numpy(),
        test.answers.numpy(),
        test.names,
        task.names,
    )
    for metric, figure in verdict["figures"].items():
        logger.info(
            f"{hparams['task']}, {encoders[0].name}: {metric} {figure['mean']:.4f} "
            f"({figure['low']:.4f} to {figure['high']:.4f}), chance {figure['chance']:.4f}"
        )
    return output


def _run(encoder, swept, tuned):
    """What is told of one encoder."""
    chosen = swept.table.query("layer == @swept.layer and lr == @swept.lr")
    # Few of many: features that differ little in most of what they could tell.
    directions = {
        f"{share:.0%}": directions_for(swept.variance, share).tolist() for share in (0.9, 0.99)
    }
    return {
        "identity": encoder.identity,
        "layer": swept.layer,
        "lr": swept.lr,
        "valid": chosen["valid"].mean(),
        "fine_tuned": tuned,
        "directions": directions,
    }


def _answers(task, chunks):
    """Targets of the tracks, in the order in which they first come; all chunks must agree."""
    first = ~chunks["track"].duplicated()
    return task.encode(chunks[first])


def _check_classes(task, absent):
    if len(absent["train"]) > max(0, task.outputs - 2):
        raise UserError(
            f"the training split has tracks of {task.outputs - len(absent['train'])} of "
            f"{task.outputs} classes, two are needed: use more data, or a larger --replica_scale"
        )
    for split, names in absent.items():
        if names:
            shown = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
            logger.warning(f"{len(names)} classes have no {split} track: {shown}")


def _is_done(output, key):
    try:
        stored = json.loads((output / RESULTS).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    if stored == key:
        logger.warning(f"{output} has these results already: delete it to make them again")
    return stored == key


def _extract(cache, hparams, run_opts):
    if if_main_process():  # not by run_on_main, which would send the encoder to all processes
        cache.open()
    ddp_barrier()
    cache.check().extract(
        hparams["extract_batch"],
        hparams["num_workers"],
        *among_processes(),
        run_opts.device or sb.utils.distributed.infer_device(),
        bar=not run_opts.noprogressbar,
    )
    ddp_barrier()


def _split_features(chunks, values, readable, names, answers):
    """split -> FeatureSplit of the tracks of which at least one chunk could be read."""
    splits = {}
    for split in SPLITS:
        rows = ((chunks["split"] == split) & readable).to_numpy().nonzero()[0]
        if not len(rows):
            raise UserError(f"no {split} track could be read: check the data folder")
        place = {name: number for number, name in enumerate(names[split])}
        tracks = torch.tensor([place[name] for name in chunks["track"].iloc[rows]])
        left, tracks = tracks.unique(return_inverse=True)
        splits[split] = FeatureSplit(
            values, rows, tracks, answers[split][left], [names[split][i] for i in left.tolist()]
        )
    return splits
