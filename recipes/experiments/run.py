"""One of the paper's experiments: variants of the pre-training, compared in one table.

python recipes/experiments/run.py masking [--seeds 1 2] [--system brn_sum_tiny]
    [--tasks gtzan_genre giantsteps_key vocalset_technique] [--judge "--quick True ..."]
    [--data_folder /my/music] [--data gtzan=/data/GTZAN ...]

NAME.yaml beside this file says what is varied; README.md lists them. Each variant is pre-trained
with every seed, side by side where there are cores, and judged on the tasks by recipes/marble.py.
Further options (--number_of_epochs 10 ...) go to every pre-training. What is done is not done
again, and runs that two experiments share are done once. Without --data_folder music is composed.
"""

import argparse
import json
import logging
import shlex
import time
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import yaml

from speechbrain_music.brains import measures
from speechbrain_music.data_prep.fallback import MUSIC_FOLDER
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import make_corpus
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.hub import EXPORT
from speechbrain_music.models.export import load_export
from speechbrain_music.models.targets import QUANTIZER
from speechbrain_music.reporting.marble_table import with_interval
from speechbrain_music.reporting.pictures import picture
from speechbrain_music.reporting.run_log import read_rows
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran
from speechbrain_music.utils.errors import UserError, run_recipe
from speechbrain_music.utils.processes import FINISHED, noted_in, side_by_side

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
RECIPES = HERE.parent
HPARAMS = RECIPES.parent / "hparams"
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))
TASKS = ["gtzan_genre", "giantsteps_key", "vocalset_technique"]
JUDGE = "--quick True --pooling mean_std"
MOST_EPOCHS = 100_000
DEFAULTS = {"minutes": None, "options": {}, "same_time": [], "beside": []}
COLUMNS = "variant column value low high".split()
ORDER = ("difference", "low", "high")
OVERLAPPED = 5  # held-out tracks


def chunking(run, tracks, **_):
    """How far states of a track heard by the chunk are from those of the whole track.

    The last layer's, chunks of 10 s, alone and sharing half; relative to the states' deviation.
    """
    encoder = MusicEncoder.from_export(run / EXPORT)
    errors = {0.0: [], 4.8: []}
    for path in tracks.sort_values("duration")["wav"].tail(OVERLAPPED):
        whole = encoder.encode_file(path, chunk=None).values
        for overlap, found in errors.items():
            part = encoder.encode_file(path, chunk=9.6, overlap=overlap).values
            found.append(np.sqrt(np.square(part - whole).mean() / whole.var(axis=0).mean()))
    return {f"error, overlap {s:g} s": float(np.mean(e)) for s, e in errors.items()}


MEASURES = measures.MEASURES | {"chunking": chunking}


def load(name):
    """What is asked, and the variants: the first is what the others are compared with.

    Arguments
    ---------
    name : str
        Of a yaml beside this file. Its keys: question; minutes (how long it took when its table
        was made); options (of all its pre-trainings); variants (name -> options of its own, among
        them `system` and `tokenizer`, a yaml of recipes/tokenizer); measures (of brains.measures,
        and chunking); same_time (variants that are trained once more, for as long as the first
        was); beside (more to judge; FIRST stands for the first variant's first export).

    Raises
    ------
    UserError
        For an unknown experiment.
    """
    if name not in NAMES:
        raise UserError(f"there is no experiment {name!r}: choose {', '.join(NAMES)}")
    stored = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return SimpleNamespace(**DEFAULTS | stored, name=name)


class Runs:
    """Pre-trainings, one folder for each set of options and seed.

    Arguments
    ---------
    args : argparse.Namespace
        Of the command line.
    common : dict
        Options of all pre-trainings.
    """

    def __init__(self, args, common):
        self.args, self.common = args, common

    def folders(self, options):
        """A variant's folder for each seed."""
        everything = {key: str(value) for key, value in (self.common | options).items()}
        if "tokenizer" in options:
            everything["tokenizer_options"] = self.args.tokenizer
        name = f"{options.get('system', self.args.system)}-{self._digest(everything)}"
        return [self.args.work / f"{name}-{seed}" for seed in self.args.seeds]

    def held_out(self, folder):
        """The tracks that a run has not trained on, a row each."""
        manifest = self.common.get("valid_csv", folder / "manifests" / "valid.csv")
        return read_manifest(manifest, self.args.data_folder)

    def _digest(self, options):
        key = json.dumps([self.args.data_folder, options], sort_keys=True)
        return blake2b(key.encode(), digest_size=5).hexdigest()

    def train(self, variants):
        """Trains what is not trained, and writes beside it what it took."""
        todo = {}
        for options in variants.values():
            places = zip(self.args.seeds, self.folders(options), strict=True)
            new = [(seed, folder) for seed, folder in places if not (folder / FINISHED).exists()]
            if new and "tokenizer" in options:
                self._train_tokenizers(options["tokenizer"])
            todo |= {folder: self._command(options, folder, seed) for seed, folder in new}
        side_by_side(list(todo.values()), noted_in(list(todo)))

    def _command(self, options, folder, seed):
        options = self.common | options
        system = options.pop("system", self.args.system)
        tokenizer = options.pop("tokenizer", None)
        if tokenizer:
            options["targets"] = self._tokenizer(tokenizer, seed) / QUANTIZER
        pairs = [part for key, value in options.items() for part in (f"--{key}", value)]
        where = ["--data_folder", self.args.data_folder, "--output_folder", folder, "--seed", seed]
        return [RECIPES / "pretrain" / "train.py", HPARAMS / f"{system}.yaml", *where, *pairs]

    def _tokenizer(self, name, seed):
        return self.args.work / f"{name}-{self._digest(self.args.tokenizer)}-{seed}"

    def _train_tokenizers(self, name):
        train = [RECIPES / "tokenizer" / "train.py", HPARAMS / f"{name}.yaml"]
        train += ["--data_folder", self.args.data_folder, *shlex.split(self.args.tokenizer)]
        side_by_side(
            [
                [*train, "--output_folder", self._tokenizer(name, seed), "--seed", seed]
                for seed in self.args.seeds
            ]
        )

    def for_as_long_as_the_first(self, names, variants):
        """Some once more, with as many steps as fit into the time that the first one took."""
        first = next(iter(variants.values()))
        steps = read_rows(self.folders(first)[0], "train")[-1]["step"]

        def rate(options):
            speeds = map(MEASURES["speed"], self.folders(options))
            return np.median([found["x real time"] for found in speeds])

        return {
            f"{name}_same_time": variants[name]
            | {"max_steps": max(1, round(steps * rate(variants[name]) / rate(first)))}
            | {"number_of_epochs": MOST_EPOCHS}  # the steps end it
            for name in names
        }


def judge(args, experiment, runs, variants):
    """Judges all variants on the tasks; what recipes/marble.py has written."""
    exports = {
        name: [str(folder / EXPORT) for folder in runs.folders(options)]
        for name, options in variants.items()
    }
    encoders = [f"{name}={','.join(folders)}" for name, folders in exports.items()]
    first = next(iter(exports.values()))[0]
    encoders += [spec.replace("FIRST", first) for spec in experiment.beside]
    out = args.work / experiment.name
    command = [RECIPES / "marble.py", "--encoders", *encoders, "--out", out]
    command += ["--features", args.work / "features", *shlex.split(args.judge)]
    if args.data:
        command += ["--data", *args.data]
    side_by_side([[*command, "--no_table", "--tasks", task] for task in args.tasks])
    side_by_side([[*command, "--tasks", *args.tasks]])
    return json.loads((out / "marble.json").read_text(encoding="utf-8"))


def measure(experiment, runs, variants):
    """Variant -> measure -> values, one a seed."""
    found = {}
    for name, options in variants.items():
        columns = found.setdefault(name, {})
        for folder in runs.folders(options):
            model = load_export(folder / EXPORT)
            tracks = runs.held_out(folder)
            for key in experiment.measures:
                for column, value in MEASURES[key](folder, model=model, tracks=tracks).items():
                    columns.setdefault(column, []).append(value)
    return found


def page(experiment, facts, measured, judged):
    """The experiment's Markdown."""
    first = next(iter(measured))
    against = {pair["second"]: pair["all tasks"] for pair in judged["pairs"]}
    columns = list(dict.fromkeys(key for values in measured.values() for key in values))
    head = [*columns, "score", f"{first} is better by"]
    lines = [
        f"# {experiment.name}: {experiment.question}",
        "",
        f"Written by `{facts['command']}`; its last start took {facts['minutes']} minutes (what "
        f"earlier ones, and other experiments, had done was not done again). Machine: "
        f"{facts['machine']}.",
        "",
        facts["corpus"],
        "",
        "| variant | " + " | ".join(head) + " |",
        "|---|" + "---:|" * len(head),
    ]
    for name in judged["overall"]:
        values = measured.get(name, {})
        cells = [_seeds(values[key]) if key in values else "" for key in columns]
        cells.append(with_interval(judged["overall"][name]))
        cells.append(_difference(against[name]) if name in against else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(
        lines
        + [
            "",
            f"Seeds {', '.join(map(str, facts['seeds']))}: a measure is their mean, with the least "
            f"and the greatest where they differ. The score is over {', '.join(facts['tasks'])} "
            "(0 at chance, 1 at best), with 95% intervals over test tracks and seeds; a difference "
            "is paired, and **one** where its interval excludes 0.",
            "",
            f"![scores]({experiment.name}.png)",
            "",
        ]
    )


def _seeds(values):
    mean, low, high = float(np.mean(values)), min(values), max(values)
    if low == high:
        return f"{mean:,.0f}" if mean == round(mean) else f"{mean:.3f}"
    digits = 0 if high >= 100 else 3
    return f"{mean:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _difference(found):
    text = f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
    return f"**{text}**" if found["differs"] else text


def write(folder, experiment, facts, measured, judged):
    """Writes NAME.md, .csv, .json and .png."""
    first = next(iter(measured))
    rows = [
        (name, column, np.mean(values), min(values), max(values))
        for name, columns in measured.items()
        for column, values in columns.items()
    ]
    rows += [(n, "score", v["mean"], v["low"], v["high"]) for n, v in judged["overall"].items()]
    pairs = [pair for pair in judged["pairs"] if pair["first"] == first]
    for pair in pairs:
        whole = pair["all tasks"]
        rows.append((pair["second"], "behind the first", *(whole[k] for k in ORDER)))
    table = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
    stored = facts | {"measured": measured, "judged": judged | {"pairs": pairs}}
    text = page(experiment, facts, measured, stored["judged"])
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder / f"{experiment.name}.png", judged)
    write_together(
        {
            folder / f"{experiment.name}.md": text,
            folder / f"{experiment.name}.csv": table,
            folder / f"{experiment.name}.json": json.dumps(stored, indent=2) + "\n",
        }
    )


def draw(path, judged):
    """Each variant's score beside the first's, with intervals."""
    names, values = zip(*judged["overall"].items(), strict=True)
    with picture(path, (6.5, 1.2 + 0.4 * len(names))) as figure:
        axes = figure.subplots()
        means = [value["mean"] for value in values]
        errors = [[v["mean"] - v["low"] for v in values], [v["high"] - v["mean"] for v in values]]
        axes.errorbar(means, names, xerr=np.maximum(errors, 0), fmt="o", capsize=3)
        axes.axvline(means[0], color="black", linewidth=0.8, linestyle="--")
        axes.margins(y=0.15)
        axes.invert_yaxis()
        axes.set_xlabel("score over tasks: 0 at chance, 1 at best")
        axes.grid(axis="x", alpha=0.3)


def parse(argv):
    """The command line: arguments, and options of all pre-trainings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=", ".join(NAMES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--system", default="brn_sum_tiny", help="a yaml of hparams/")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--judge", default=JUDGE, help="options for the tasks")
    parser.add_argument("--tokenizer", default="", help="options for recipes/tokenizer")
    parser.add_argument("--data_folder", help="music to pre-train on")
    parser.add_argument("--hours", type=float, default=1.0, help="of composed music, without it")
    parser.add_argument("--data", nargs="*", help="data sets of the tasks, as marble.py takes them")
    parser.add_argument("--out", type=Path, default=Path("results/experiments"))
    parser.add_argument("--work", type=Path, default=Path("results/experiments-work"))
    args, others = parser.parse_known_args(argv)
    if len(others) % 2 or not all(key.startswith("--") for key in others[::2]):
        raise UserError(f"{shlex.join(others)}: options of the pre-training are --key value")
    return args, {key[2:]: value for key, value in zip(others[::2], others[1::2], strict=True)}


def main(argv):
    """Runs an experiment; see this file's head."""
    args, others = parse(argv)
    experiment = load(args.name)
    began = time.time()
    if experiment.minutes:
        logger.info(f"{args.name}: {experiment.minutes} minutes on 2 CPU cores by its defaults")
    corpus = f"Pre-trained on {args.data_folder}."
    if args.data_folder is None:
        args.data_folder = MUSIC_FOLDER.format(args.hours)
        make_corpus(Path(args.data_folder), args.hours)
        corpus = (
            f"Pre-trained on {args.hours:g} hours of music composed by a program. **No figure says "
            "anything about recorded music.**"
        )
    if not args.data:
        corpus += " Tasks are replicas, composed too."
    runs, variants = Runs(args, experiment.options | others), experiment.variants
    runs.train(variants)
    more = runs.for_as_long_as_the_first(experiment.same_time, variants)
    runs.train(more)
    variants = variants | more
    judged = judge(args, experiment, runs, variants)
    facts = {
        "command": shlex.join(["python", "recipes/experiments/run.py", *argv]),
        "minutes": round((time.time() - began) / 60),
        "machine": where_it_ran(),
        "corpus": corpus,
        "seeds": args.seeds,
        "tasks": args.tasks,
    }
    measured = measure(experiment, runs, variants)
    write(args.out, experiment, facts, measured, judged)
    print((args.out / f"{experiment.name}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_recipe(main)
