"""Several encoders on several tasks, in one table with honest comparisons.

python recipes/marble.py --encoders mel random:EXPORT mine=EXPORT
python recipes/marble.py --encoders mel mine=EXPORT,EXPORT2 --tasks gtzan_genre nsynth_pitch
python recipes/marble.py --encoders mine=EXPORT --data gtzan=/data/GTZAN nsynth=/data/NSynth

Encoders are what a recipe's --encoder takes, with a name before "=" if wanted; several exports
(seeds of one system) are separated by commas. Without --data all tasks are judged on replicas;
with it, on these data sets, and tasks without one are left out and named. What is done already is
not done again. Further options (--quick True ...) go to every recipe.

A recipe of one's own, recipes/NAME/ with hparams/NAME.yaml, is judged by --tasks NAME and --data
NAME=FOLDER.
"""

import argparse
import importlib.util
import json
import logging
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.metrics.comparison import compare
from speechbrain_music.metrics.resampling import interval, score
from speechbrain_music.metrics.summary import resampled_figures
from speechbrain_music.models.frozen import name_specs
from speechbrain_music.reporting.marble_table import write_suite
from speechbrain_music.reporting.task_report import PREDICTIONS, RESULTS
from speechbrain_music.utils.errors import UserError, run_recipe

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
TASKS = {  # recipe -> data set
    "mtt_tagging": "magnatagatune",
    "giantsteps_key": "giantsteps",
    "gtzan_genre": "gtzan",
    "emomusic_emotion": "emomusic",
    "nsynth_pitch": "nsynth",
    "nsynth_instrument": "nsynth",
    "vocalset_singer": "vocalset",
    "vocalset_technique": "vocalset",
}


def load_recipe(name):
    """A recipe's module, by its path: recipes are scripts and do not import each other."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", HERE / name / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def task_of(module):
    """The task of a recipe's Brain."""
    brains = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, ProbeBrain)]
    return next(brain.task for brain in brains if brain.task is not None)


def data_set_of(task):
    """Which data set a recipe needs; one of one's own has its name."""
    return TASKS.get(task, task)


def judge(module, task, encoder, folder, features, data, others):
    """Runs one recipe on one encoder."""
    options = {
        "encoder": json.dumps(encoder) if isinstance(encoder, list) else encoder,
        "output_folder": folder,
        "feature_folder": features,
    }
    if data:
        options["data_folder"] = data
    pairs = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    module.main([str(HERE.parent / "hparams" / f"{task}.yaml"), *pairs, *others])


def collect(folder, module, name, encoder):
    """One cell of the table, the resampled score behind it, and the tracks it is over."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        with np.load(folder / PREDICTIONS) as stored:
            logits, answers = (torch.from_numpy(stored[key]) for key in ("logits", "answers"))
            tracks = stored["tracks"].tolist()
    except (OSError, ValueError, LookupError, EOFError, BadZipFile) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it, it is made again") from error
    task = task_of(module)
    figures = results["figures"]
    # Tracks are drawn alike for all encoders of a task, encoders alike for all tasks.
    drawn = resampled_figures(
        task,
        logits,
        answers,
        results["protocol"]["resamples"],
        seed=zlib.crc32(name.encode()),
        encoder_seed=zlib.crc32(encoder.encode()),
    )
    chance = {metric: figure["chance"] for metric, figure in figures.items()}
    return results, (results["score"]["mean"], score(task, drawn, chance)), tracks


def over_tasks(by_task):
    """The mean score of an encoder over its tasks, with its interval."""
    low, high = interval(np.mean([drawn for _, drawn in by_task.values()], axis=0))
    mean = float(np.mean([value for value, _ in by_task.values()]))
    return {"mean": mean, "low": low, "high": high, "tasks": len(by_task)}


def parse(argv):
    """The command line: arguments, and what goes to the recipes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--data", nargs="*", default=[], help="DATASET=FOLDER ...")
    parser.add_argument("--out", type=Path, default=Path("results/marble"))
    parser.add_argument("--features", type=Path, help="a folder to share (default: in --out)")
    parser.add_argument("--no_table", action="store_true", help="only judge: another run tabulates")
    args, others = parser.parse_known_args(argv)
    for task in args.tasks:
        if not (HERE / task / "published.csv").exists():
            raise UserError(f"there is no task {task!r}: choose from {', '.join(TASKS)}")
    if {"--output_folder", "--feature_folder", "--encoder", "--data_folder"} & set(others):
        raise UserError("folders and encoders of all recipes are set by --out, --encoders, --data")
    data = dict(item.partition("=")[::2] for item in args.data)
    used = dict.fromkeys(map(data_set_of, [*TASKS, *args.tasks]))
    for data_set in data:
        if data_set not in used:
            raise UserError(f"no task uses {data_set!r}: choose from {', '.join(used)}")
    return args, name_specs(args.encoders), data, others


def main(argv):
    """Judges all encoders on all tasks, then writes the table; see this file's head."""
    args, encoders, data, others = parse(argv)
    features = args.features or args.out / "features"
    cells, scores, failed, judged = {}, {name: {} for name in encoders}, {}, {}
    for task in args.tasks:
        root = data.get(data_set_of(task))
        if data and not root:
            failed[task] = f"no folder of {data_set_of(task)} was given with --data"
            continue
        module = load_recipe(task)
        for name, encoder in encoders.items():
            logger.info(f"-- {task}, {name}")
            try:
                folder = args.out / task / name
                judge(module, task, encoder, folder, features, root, others)
                results, scored, tracks = collect(folder, module, task, name)
                if tracks != judged.setdefault(task, tracks):
                    raise UserError("other test tracks could be read than for the encoders before")
                cells[task, name], scores[name][task] = results, scored
            except (UserError, OSError) as error:
                failed[f"{task}, {name}"] = " ".join(str(error).split())
                logger.error(failed[f"{task}, {name}"])
    if not cells:
        raise UserError(f"nothing could be judged: {'; '.join(failed.values())}")
    if not args.no_table:
        overall = {name: over_tasks(by_task) for name, by_task in scores.items() if by_task}
        write_suite(args.out, cells, overall, compare(scores), failed)
        print((args.out / "marble.md").read_text(encoding="utf-8"))
    if failed:
        raise UserError(f"{len(failed)} of the results are missing, the table names them")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_recipe(main)
