"""Evaluation of several encoders on several tasks: one table with paired comparisons.

python recipes/marble.py --encoders mel random:EXPORT mine=EXPORT
python recipes/marble.py --encoders mel mine=EXPORT,EXPORT2 --tasks gtzan_genre nsynth_pitch
python recipes/marble.py --encoders mine=EXPORT --data gtzan=/data/GTZAN nsynth=/data/NSynth
python recipes/marble.py --encoders mel mine=EXPORT --tasks gtzan_beats rwc_chords rwc_structure

Encoders are what a recipe's --encoder takes, optionally as NAME=ENCODER; several exports (seeds of
one system) are separated by commas. Without --tasks the eight of the paper run, on whole clips.
Without --data all run on replicas; with it, tasks without a data set are left out and listed.
Finished results are reused. Further options (--quick True ...) go to every recipe.

Labels of your own run by themselves, with --tasks labels --data labels=FOLDER --label COLUMN, and
a recipe of your own, recipes/NAME/ with hparams/NAME.yaml, with --tasks NAME --data NAME=FOLDER.
"""

import json
import logging
import sys
import zlib
from importlib import import_module
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch

from speechbrain_music.evaluation.frame_results import scored_task
from speechbrain_music.evaluation.protocol import RESULTS, load_task
from speechbrain_music.evaluation.results import PREDICTIONS, resampled_figures
from speechbrain_music.evaluation.tasks import ALL_TASKS, TASKS, existing_tasks
from speechbrain_music.metrics.resampling import compare, interval, over_encoders, score
from speechbrain_music.models.frozen import name_specs
from speechbrain_music.reporting.pages import TEMPLATES, by_encoder, render
from speechbrain_music.utils.arguments import make_parser
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, run_command

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
COLUMNS = "task encoder metric mean sd low high chance layer lr".split()


def recipe_arguments(task, encoder, folder, features, data, others):
    """The command line of one task's recipe for one encoder."""
    options = {
        "encoder": json.dumps(encoder) if isinstance(encoder, list) else encoder,
        "output_folder": folder,
        "feature_folder": features,
    }
    if data:
        options["data_folder"] = data
    return [str(ROOT / task.yaml), *(f"--{k}={value}" for k, value in options.items()), *others]


def collect(folder, task, name):
    """One cell of the table, the resampled figures behind it, and the names of the test tracks."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        with np.load(folder / PREDICTIONS) as stored:
            logits, targets = (torch.from_numpy(stored[key]) for key in ("logits", "targets"))
            tracks = stored["tracks"].tolist()
        # The same resamples of tracks for all encoders of a task.
        resamples, seed = results["protocol"]["resamples"], zlib.crc32(name.encode())
        return results, resampled_figures(task, logits, targets, resamples, seed), tracks
    except (OSError, ValueError, LookupError, EOFError, BadZipFile) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it and run again") from error


def resampled_scores(task, cells, drawn, trained):
    """Encoder -> score on a task, and its resamples (R,).

    cells: encoder -> results; drawn: encoder -> what `resampled_figures` gives. The spread of seeds
    is pooled over the systems in `trained`, of which several encoders were trained.
    """
    scores = {}
    for name, figures in drawn.items():
        pooled = [other for other in drawn if name in trained and other in trained - {name}]
        seed = zlib.crc32(name.encode())  # of an encoder, the same for all tasks
        found = {
            metric: over_encoders(
                values, np.random.default_rng(seed), [drawn[other][metric] for other in pooled]
            )
            for metric, values in figures.items()
        }
        chance = {metric: f["chance"] for metric, f in cells[name]["figures"].items()}
        scores[name] = cells[name]["score"]["mean"], score(task, found, chance)
    return scores


def mean_score(by_task):
    """The mean score of an encoder over its tasks, with its interval."""
    values, drawn = (np.mean(part, axis=0) for part in zip(*by_task.values(), strict=True))
    return {"mean": float(values), **interval(drawn.clip(max=1)), "tasks": len(by_task)}


def write_suite(folder, cells, overall, pairs, failed):
    """Writes marble.md, marble.csv and marble.json.

    cells: (task, encoder) -> a recipe's results. overall: encoder -> mean, low, high of its score,
    and number of tasks. pairs: from `metrics.resampling.compare`. failed: what is missing -> why.
    """
    rows = [
        {"task": task, "encoder": encoder, "metric": metric, **figure}
        | {key: [run[key] for run in results["encoder"]["runs"]] for key in ("layer", "lr")}
        for (task, encoder), results in cells.items()
        for metric, figure in results["figures"].items()
    ]
    lines = [row | {key: " ".join(map(str, row[key])) for key in ("layer", "lr")} for row in rows]
    table = pd.DataFrame(lines, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
    stored = {"rows": rows, "overall": overall, "pairs": pairs, "failed": failed}
    stored["scores"] = [
        {"task": task, "encoder": encoder, **results["score"]}
        | {"each": results["each"], "runs": results["encoder"]["runs"]}
        for (task, encoder), results in cells.items()
    ]
    page = render(
        TEMPLATES / "marble.md",
        cells=cells,
        encoders=list(dict.fromkeys(row["encoder"] for row in rows)),
        figures=by_encoder(rows, "task", "metric"),
        **stored,
    )
    dump = json.dumps(stored, indent=2) + "\n"
    texts = {"marble.csv": table, "marble.md": page, "marble.json": dump}
    write_together({Path(folder, name): text for name, text in texts.items()})


def parse(argv):
    """The command line: arguments, encoders, data folders, and options of the recipes."""
    parser = make_parser(__file__, __doc__)
    parser.set_defaults(tasks=list(TASKS))
    args, others = parser.parse_known_args(argv)
    args.tasks = existing_tasks(args.tasks, ROOT)
    if {"--output_folder", "--feature_folder", "--encoder", "--data_folder"} & {
        option.partition("=")[0] for option in others
    }:
        raise UserError("folders and encoders of all recipes are set by --out, --encoders, --data")
    data = dict(item.partition("=")[::2] for item in args.data)
    used = dict.fromkeys(task.data_set for task in [*ALL_TASKS.values(), *args.tasks])
    for data_set in data:
        if data_set not in used:
            raise UserError(f"no task uses {data_set!r}: choose from {', '.join(used)}")
    return args, name_specs(args.encoders), data, others


def main(argv):
    """Evaluates all encoders on all tasks, then writes the table; see the head of this file."""
    args, encoders, data, others = parse(argv)
    if str(ROOT) not in sys.path:  # for the recipes
        sys.path.insert(0, str(ROOT))
    features = args.features or args.out / "features"
    trained = {name for name, spec in encoders.items() if isinstance(spec, list)}
    cells, scores, failed, tested = {}, {name: {} for name in encoders}, {}, {}
    for task in args.tasks:
        root = data.get(task.data_set)
        if data and not root:
            failed[task.name] = f"no folder of {task.data_set} was given with --data"
            continue
        made, found, drawn = None, {}, {}
        for name, encoder in encoders.items():
            logger.info(f"-- {task.name}, {name}")
            try:
                folder = args.out / task.name / name
                command = recipe_arguments(task, encoder, folder, features, root, others)
                import_module(task.recipe).main(command)
                made = made or scored_task(load_task(command)[1])
                results, figures, tracks = collect(folder, made, task.name)
                if tracks != tested.setdefault(task.name, tracks):
                    raise UserError("other test tracks could be read than for the encoders before")
                found[name], drawn[name] = results, figures
            except (UserError, OSError) as error:
                failed[f"{task.name}, {name}"] = " ".join(str(error).split())
                logger.error(failed[f"{task.name}, {name}"])
        for name, scored in resampled_scores(made, found, drawn, trained).items():
            shown = found[name]["task"]  # with the label, if it is the user's
            cells[shown, name], scores[name][shown] = found[name], scored
    if not cells:
        raise UserError(f"nothing could be evaluated: {'; '.join(failed.values())}")
    if not args.no_table:
        overall = {name: mean_score(by_task) for name, by_task in scores.items() if by_task}
        write_suite(args.out, cells, overall, compare(scores), failed)
        print((args.out / "marble.md").read_text(encoding="utf-8"))
    if failed:
        where = "; ".join(failed.values()) if args.no_table else "the table names them"
        raise UserError(f"{len(failed)} of the results are missing: {where}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(run_command(lambda: main(sys.argv[1:])))
