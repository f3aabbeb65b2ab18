"""Ablation: pre-train variants of the method and compare them in one table.

python experiments/ablations/run.py masking [--seeds 1 2] [--system brn_sum_tiny]
    [--tasks gtzan_genre giantsteps_key vocalset_technique] [--evaluate "--quick True ..."]
    [--data_folder /my/music] [--data gtzan=/data/GTZAN ...]

NAME.yaml in this folder says what is varied; experiments/README.md lists them. Each variant is
pre-trained with every seed and evaluated on the tasks by recipes/marble.py. Further options
(--number_of_epochs 10 ...) go to every pre-training. Finished work is reused, also by another
ablation. Without --data_folder music is composed.
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
import torch
import yaml

from speechbrain_music.data_prep.fallback import MUSIC_FOLDER
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import make_corpus
from speechbrain_music.dataio.audio import SAMPLE_RATE, read_segment
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.metrics.comparison import LEVEL
from speechbrain_music.metrics.resampling import holm
from speechbrain_music.models.branchformer import BranchWeights
from speechbrain_music.models.export import load_export
from speechbrain_music.models.frontend import BANDS, STACK, TOKEN_RATE
from speechbrain_music.models.safe_folder import RUN_RESULT
from speechbrain_music.models.targets import QUANTIZER
from speechbrain_music.reporting.pictures import picture
from speechbrain_music.reporting.run_log import read_rows
from speechbrain_music.reporting.tables import (
    markdown_page,
    markdown_table,
    signed_interval,
    with_interval,
)
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran
from speechbrain_music.utils.errors import UserError, run_recipe
from speechbrain_music.utils.processes import read_finished, run_recipes

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))
TASKS = ["gtzan_genre", "giantsteps_key", "vocalset_technique"]
EVALUATE = "--quick True --pooling mean_std"
MOST_EPOCHS = 100_000
DEFAULTS = {"minutes": None, "options": {}, "equal_time": [], "baselines": []}
COLUMNS = "variant column value low high".split()
CHUNKED_TRACKS = 5  # held-out
BRANCH_TRACKS, BRANCH_SAMPLES = 20, 10 * SAMPLE_RATE  # held-out, for weights of branches


# ---- metrics of a finished run: its folder, its exported model, held-out tracks -> figures ----


def _parameters(model, **_):
    """Of one block, of the encoder, and of the whole model with its two heads."""
    parts = model.encoder.layers[0], model.encoder
    block, encoder = (sum(p.numel() for p in part.parameters()) for part in parts)
    quantizer, width = model.config["training"]["quantizer"], model.encoder.config["d_model"]
    outputs = quantizer["codebook_size"] * quantizer["num_codebooks"] + STACK * BANDS
    return {"block": block, "encoder": encoder, "whole": encoder + (width + 1) * outputs}


def _speed(run, **_):
    """Seconds of audio trained on per second, the median over the rows of the log."""
    rates = [row["tokens_per_second"] for row in read_rows(run, "train")]
    return {"x real time": float(torch.tensor(rates).median()) / TOKEN_RATE}


def _held_out(run, model, **_):
    """On held-out tracks, at the exported step. Cross-entropies of different tokens cannot be
    compared, their differences from the unigram's can."""
    step = model.config["training"]["step"]
    row = next(row for row in read_rows(run, "valid") if row["step"] == step)
    return {
        "nats below unigram": row["cross_entropy_unigram"] - row["cross_entropy"],
        "accuracy": row["accuracy"],
        "mel MSE": row["mel_mse"],
    }


def _codebook(run, **_):
    """Use of the codebook on held-out tracks."""
    row = read_rows(run, "valid")[-1]
    return {key.replace("_", " "): row[key] for key in ("codes_used", "perplexity", "collisions")}


@torch.no_grad()
def _branch_weights(model, tracks, **_):
    """Weight of the global branch per layer, where branches are averaged."""
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, BranchWeights):
            weights = found.setdefault(name.split(".")[2], [])
            keep = lambda _, __, out, weights=weights: weights.append(out[:, 0])  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    if hooks:
        for path in tracks["wav"].head(BRANCH_TRACKS):
            wave = read_segment(path, length=BRANCH_SAMPLES)
            model(torch.from_numpy(wave).unsqueeze(0))
    for hook in hooks:
        hook.remove()
    return {f"global weight, layer {n}": float(torch.cat(w).mean()) for n, w in found.items()}


def _chunking(run, tracks, **_):
    """Difference between hidden states of a track encoded in chunks of 9.6 s and as a whole,
    relative to the deviation of the states: last layer, chunks without and with overlap."""
    encoder = MusicEncoder.from_export(run / RUN_RESULT)
    errors = {0.0: [], 4.8: []}
    for path in tracks.sort_values("duration")["wav"].tail(CHUNKED_TRACKS):
        whole = encoder.encode_file(path, chunk=None).values
        for overlap, values in errors.items():
            part = encoder.encode_file(path, chunk=9.6, overlap=overlap).values
            values.append(np.sqrt(np.square(part - whole).mean() / whole.var(axis=0).mean()))
    return {f"chunking error, overlap {s:g} s": float(np.mean(e)) for s, e in errors.items()}


METRICS = {
    "parameters": _parameters,
    "speed": _speed,
    # Of the run's process, decoded tracks included.
    "memory": lambda run, **_: {"peak MiB": read_finished(run)["peak_mib"]},
    "held_out": _held_out,
    "codebook": _codebook,
    "branch_weights": _branch_weights,
    "chunking": _chunking,
}


# ---- runs ----


def load(name):
    """An ablation's yaml as a namespace.

    question; minutes (how long it took when its table was made); options (of all pre-trainings);
    variants (name -> options of its own, among them `system` and `tokenizer`, a yaml of
    recipes/tokenizer; the others are compared with the first); metrics (of `METRICS`); equal_time
    (variants that are trained once more, for as long as the first was); baselines (more encoders;
    FIRST is the first variant's first export).
    """
    if name not in NAMES:
        raise UserError(f"there is no ablation {name!r}: choose {', '.join(NAMES)}")
    stored = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return SimpleNamespace(**DEFAULTS | stored, name=name)


class Runs:
    """Pre-trainings, one folder per set of options and seed; `common` are options of all."""

    def __init__(self, args, common):
        self.args, self.common = args, common

    def folders(self, options):
        """A variant's folders, one per seed."""
        everything = {key: str(value) for key, value in (self.common | options).items()}
        if "tokenizer" in options:
            everything["tokenizer_options"] = self.args.tokenizer
        name = f"{options.get('system', self.args.system)}-{self._digest(everything)}"
        return [self.args.work / f"{name}-{seed}" for seed in self.args.seeds]

    def held_out(self, folder):
        """Manifest of the tracks that a run was not trained on."""
        manifest = self.common.get("valid_csv", folder / "manifests" / "valid.csv")
        return read_manifest(manifest, self.args.data_folder)

    def train(self, variants):
        """Trains what has not finished."""
        todo = {}
        for options in variants.values():
            places = zip(self.args.seeds, self.folders(options), strict=True)
            new = [(seed, folder) for seed, folder in places if not read_finished(folder)]
            if new and "tokenizer" in options:
                name, data = options["tokenizer"], ["--data_folder", self.args.data_folder]
                train = [ROOT / "recipes/tokenizer/train.py", ROOT / f"hparams/{name}.yaml", *data]
                train += shlex.split(self.args.tokenizer)
                folders = [(seed, self._tokenizer(name, seed)) for seed in self.args.seeds]
                run_recipes([[*train, "--output_folder", o, "--seed", s] for s, o in folders])
            todo |= {folder: self._command(options, folder, seed) for seed, folder in new}
        run_recipes(list(todo.values()), list(todo))

    def at_equal_time(self, names, variants):
        """Some variants with as many steps as fit into the time that the first one took."""
        first = next(iter(variants.values()))
        steps = read_rows(self.folders(first)[0], "train")[-1]["step"]

        def rate(options):
            return np.median([_speed(folder)["x real time"] for folder in self.folders(options)])

        more = {}
        for name in names:
            here = max(1, round(steps * rate(variants[name]) / rate(first)))
            options = {"max_steps": here, "number_of_epochs": MOST_EPOCHS}  # the steps end it
            more[f"{name}_equal_time"] = variants[name] | options
        return more

    def metrics(self, keys, variants):
        """Variant -> column -> values, one per seed."""
        found = {name: {} for name in variants}
        for name, options in variants.items():
            for folder in self.folders(options):
                model, tracks = load_export(folder / RUN_RESULT), self.held_out(folder)
                for key in keys:
                    figures = METRICS[key](run=folder, model=model, tracks=tracks)
                    for column, value in figures.items():
                        found[name].setdefault(column, []).append(value)
        return found

    def evaluate(self, ablation, variants):
        """Evaluates all variants on the tasks; returns what recipes/marble.py has written."""
        args = self.args
        exports = {
            name: [str(folder / RUN_RESULT) for folder in self.folders(options)]
            for name, options in variants.items()
        }
        first = next(iter(exports.values()))[0]
        encoders = [f"{name}={','.join(paths)}" for name, paths in exports.items()]
        encoders += [spec.replace("FIRST", first) for spec in ablation.baselines]
        out = args.work / ablation.name
        command = [ROOT / "recipes/marble.py", "--encoders", *encoders, "--out", out]
        command += ["--features", args.work / "features", *shlex.split(args.evaluate)]
        if args.data:
            command += ["--data", *args.data]
        run_recipes([[*command, "--no_table", "--tasks", task] for task in args.tasks])
        run_recipes([[*command, "--tasks", *args.tasks]])
        return json.loads((out / "marble.json").read_text(encoding="utf-8"))

    def _digest(self, options):
        key = json.dumps([self.args.data_folder, options], sort_keys=True)
        return blake2b(key.encode(), digest_size=5).hexdigest()

    def _command(self, options, folder, seed):
        options = self.common | options
        system = options.pop("system", self.args.system)
        tokenizer = options.pop("tokenizer", None)
        if tokenizer:
            options["targets"] = self._tokenizer(tokenizer, seed) / QUANTIZER
        pairs = [part for key, value in options.items() for part in (f"--{key}", value)]
        where = ["--data_folder", self.args.data_folder, "--output_folder", folder, "--seed", seed]
        train = [ROOT / "recipes/pretrain/train.py", ROOT / f"hparams/{system}.yaml"]
        return [*train, *where, *pairs]

    def _tokenizer(self, name, seed):
        return self.args.work / f"{name}-{self._digest(self.args.tokenizer)}-{seed}"


# ---- the table ----


def page(ablation, metadata, metrics, marble):
    """The ablation's Markdown."""
    first = next(iter(metrics))
    against = {pair["second"]: pair["all tasks"] for pair in marble["pairs"]}
    corrected = holm({name: difference["p"] for name, difference in against.items()})
    columns = list(dict.fromkeys(key for values in metrics.values() for key in values))
    rows = []
    for name, score in marble["overall"].items():
        values = metrics.get(name, {})
        cells = [_over_seeds(values[key]) if key in values else "" for key in columns]
        difference, mark = "", ""
        if name in against:
            difference = signed_interval(against[name])
            mark = "**" if corrected[name] < LEVEL else ""
        rows.append([name, *cells, with_interval(score), f"{mark}{difference}{mark}"])
    head = ["variant", *columns, "score", f"{first} minus this"]
    return markdown_page(
        f"# {ablation.name}: {ablation.question}",
        f"Written by `{metadata['command']}`. Its last start took {metadata['minutes']} minutes, "
        f"without the work that it reused. Machine: {metadata['machine']}.",
        metadata["corpus"],
        markdown_table(head, rows, " ".ljust(len(head), "r")),
        f"Seeds {', '.join(map(str, metadata['seeds']))}: mean over seeds, with the minimum and "
        f"the maximum where they differ. The score is over {', '.join(metadata['tasks'])} (0 at "
        "chance, 1 at best), with 95% intervals over test tracks and seeds. Differences of scores "
        "are paired; **bold** where p, after Holm's correction over the rows, is under 0.05.",
        f"![scores]({ablation.name}.png)",
    )


def _over_seeds(values):
    mean, low, high = float(np.mean(values)), min(values), max(values)
    if low == high:
        return f"{mean:,.0f}" if mean == round(mean) else f"{mean:.3f}"
    digits = 0 if high >= 100 else 3
    return f"{mean:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def write(folder, ablation, metadata, metrics, marble):
    """Writes NAME.md, .csv, .json and .png."""
    first = next(iter(metrics))
    marble |= {"pairs": [pair for pair in marble["pairs"] if pair["first"] == first]}
    rows = [
        (name, column, np.mean(values), min(values), max(values))
        for name, columns in metrics.items()
        for column, values in columns.items()
    ]
    rows += [(n, "score", v["mean"], v["low"], v["high"]) for n, v in marble["overall"].items()]
    for pair in marble["pairs"]:
        d = pair["all tasks"]
        rows.append((pair["second"], "first minus this", d["difference"], d["low"], d["high"]))
    table = pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n")
    stored = metadata | {"metrics": metrics, "marble": marble}
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder / f"{ablation.name}.png", marble["overall"])
    contents = {"md": page(ablation, metadata, metrics, marble), "csv": table}
    contents["json"] = json.dumps(stored, indent=2) + "\n"
    write_together({folder / f"{ablation.name}.{e}": text for e, text in contents.items()})


def draw(path, overall):
    """The score of each variant with its interval; a line through the first."""
    names, values = zip(*overall.items(), strict=True)
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
    parser.add_argument("--evaluate", default=EVALUATE, help="options of the task recipes")
    parser.add_argument("--tokenizer", default="", help="options of recipes/tokenizer")
    parser.add_argument("--data_folder", help="music to pre-train on")
    parser.add_argument("--hours", type=float, default=1.0, help="of composed music, without it")
    parser.add_argument("--data", nargs="*", help="data sets of the tasks, as for marble.py")
    parser.add_argument("--out", type=Path, default=Path("results/ablations"))
    parser.add_argument("--work", type=Path, default=Path("results/ablations-work"))
    args, others = parser.parse_known_args(argv)
    if len(others) % 2 or not all(key.startswith("--") for key in others[::2]):
        raise UserError(f"{shlex.join(others)}: options of the pre-training are --key value")
    return args, {key[2:]: value for key, value in zip(others[::2], others[1::2], strict=True)}


def main(argv):
    """Runs an ablation; see the head of this file."""
    args, others = parse(argv)
    ablation = load(args.name)
    began = time.time()
    if ablation.minutes:
        logger.info(f"{args.name}: {ablation.minutes} minutes on 2 CPU cores with its defaults")
    corpus = f"Pre-trained on {args.data_folder}."
    if args.data_folder is None:
        args.data_folder = MUSIC_FOLDER.format(args.hours)
        make_corpus(Path(args.data_folder), args.hours)
        corpus = (
            f"Pre-trained on {args.hours:g} hours of music composed by a program. **No figure says "
            "anything about recorded music.**"
        )
    if not args.data:
        corpus += " The tasks are replicas, composed too."
    runs, variants = Runs(args, ablation.options | others), ablation.variants
    runs.train(variants)
    more = runs.at_equal_time(ablation.equal_time, variants)
    runs.train(more)
    variants = variants | more
    marble = runs.evaluate(ablation, variants)
    metadata = {
        "command": shlex.join(["python", "experiments/ablations/run.py", *argv]),
        "minutes": round((time.time() - began) / 60),
        "machine": where_it_ran(),
        "corpus": corpus,
        "seeds": args.seeds,
        "tasks": args.tasks,
    }
    write(args.out, ablation, metadata, runs.metrics(ablation.metrics, variants), marble)
    print((args.out / f"{ablation.name}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_recipe(main)
