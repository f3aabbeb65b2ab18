"""Does pre-training help? Encoders of several seeds on all tasks, in one table: `make study`.

python experiments/study.py [--out results/study] [--hours 2] [--seeds 1 2] [--epochs 35]
    [--protocols mean_std] [--evaluate "--quick True"] [--music FOLDER]

Composes music, voices and single notes, pre-trains `brn_sum_tiny` on all with several seeds, and
compares it with mel statistics and three untrained encoders on the replicas of the tasks, under
one or several protocols. With --music it also compares them by retrieval on real recordings.
Further options (`--lr 0.001` ...) go to the pre-training recipe. The same command continues after
an interruption, also on another machine: pre-train on one with a GPU, copy the work folder, and
evaluate elsewhere.
"""

import argparse
import json
import logging
import shlex
import time
from itertools import pairwise
from pathlib import Path

from speechbrain_music.data_prep.replica.mixture import prepare_mixture
from speechbrain_music.evaluation.tasks import TASKS
from speechbrain_music.metrics.pretraining import HELD_OUT
from speechbrain_music.reporting.run_log import read_rows
from speechbrain_music.reporting.tables import (
    markdown_page,
    markdown_table,
    signed_interval,
    with_interval,
)
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran
from speechbrain_music.utils.errors import run_recipe
from speechbrain_music.utils.processes import read_finished, run_recipes

HERE = Path(__file__).parent
ROOT = HERE.parent
# How hidden states become features.
PROTOCOLS = {
    "mean": [],
    "mean_std": ["--pooling", "mean_std"],
    "whitened": ["--pooling", "mean_std", "--standardize", "whiten"],
}


def pretrain(args, folders, options):
    """Pre-trains with each seed of `folders` (seed -> run) that has not finished."""
    settings = {"hours": args.hours, "epochs": args.epochs, "options": shlex.join(options)}
    todo = {s: f for s, f in folders.items() if settings.items() - read_finished(f).items()}
    if not todo:
        return
    command = [ROOT / "recipes/pretrain/train.py", ROOT / "hparams/brn_sum_tiny.yaml"]
    music = prepare_mixture(args.hours, args.work / "manifests")
    command += [part for key, value in music.items() for part in (f"--{key}", value)]
    command += ["--number_of_epochs", args.epochs, *options]
    runs = [[*command, "--output_folder", todo[seed], "--seed", seed] for seed in todo]
    run_recipes(runs, list(todo.values()), **settings, machine=where_it_ran())


def evaluate(args, protocol, encoders):
    """Evaluates all encoders on all tasks under one protocol; returns the folder of the table."""
    out = args.work / protocol
    command = [ROOT / "recipes/marble.py", "--out", out, "--encoders", *encoders]
    command += ["--features", args.work / "features", *PROTOCOLS[protocol]]
    command += shlex.split(args.evaluate)
    half = -(-len(args.tasks) // 2)
    parts = [part for part in (args.tasks[:half], args.tasks[half:]) if part]
    run_recipes([[*command, "--no_table", "--tasks", *part] for part in parts])
    run_recipes([[*command, "--tasks", *args.tasks]])
    return out


def page(args, argv, folders, minutes):
    """The text of `study.md`."""
    command = shlex.join(["python", "experiments/study.py", *argv])
    machines = {read_finished(folder)["machine"] for folder in folders.values()}
    last = [read_rows(folder, "valid")[-1] for folder in folders.values()]
    held_out = []  # baselines differ between seeds, too: each has a quantizer of its own
    for title, key, baselines in HELD_OUT:
        for name, label in {key: "model", **baselines}.items():
            held_out.append([title, label, *(f"{row[name]:.3f}" for row in last)])
    scores = []
    for name in args.protocols:
        stored = json.loads((args.work / name / "marble.json").read_text(encoding="utf-8"))
        rows = {encoder: with_interval(value) for encoder, value in stored["overall"].items()}
        for pair in stored["pairs"]:
            minus = f"{pair['first']} - {pair['second']}"
            rows[minus] = signed_interval(pair["all tasks"])
        scores += [[f"[{name}]({name}.md)", what, value] for what, value in rows.items()]
    spent = ", ".join(f"{stage} {value:.0f}" for stage, value in minutes.items())
    seeds = [f"seed {seed}" for seed in folders]
    return markdown_page(
        "# Study: does pre-training help?",
        f"Written by `{command}`. Machine of the pre-training: {'; '.join(sorted(machines))}. "
        f"Machine of the evaluation: {where_it_ran()}.",
        "A program composed and rendered all music here, that of the tasks too. **No figure says "
        "anything about recorded music**, and none can be compared with a published one.",
        f"{args.hours:g} hours of composed music, with voices and single notes; "
        f"{last[0]['step']} optimiser steps per seed.",
        markdown_table(["held-out tracks", "", *seeds], held_out, "  " + "r" * len(seeds)),
        [f"![curves of seed {seed}](curves-{seed}.png)" for seed in folders],
        markdown_table(["protocol", "encoder, or difference", "score (95% interval)"], scores),
        f"Minutes of the last start, without the work that it reused: {spent}.",
        "Real recordings: [retrieval.md](retrieval.md)." if args.music else "",
    )


def main(argv):
    """Runs the study; see the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/study"))
    parser.add_argument("--hours", type=float, default=2.0, help="of music to pre-train on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=35)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--protocols", nargs="+", default=["mean_std"], choices=PROTOCOLS)
    parser.add_argument("--evaluate", default="--quick True", help="options of the task recipes")
    parser.add_argument("--music", help="a folder of real recordings, for retrieval")
    parser.add_argument("--work", type=Path, default=Path("results/study-work"))
    args, others = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING)
    folders = {seed: args.work / f"brn_sum_tiny-{seed}" for seed in args.seeds}
    laps = {"": time.time()}
    pretrain(args, folders, others)
    laps["pre-training"] = time.time()
    exports = [folder / "export" for folder in folders.values()]
    encoders = ["mel", f"random:{exports[0]}", f"pre-trained={','.join(map(str, exports))}"]
    sources = {f"curves-{seed}.png": folder / "curves.png" for seed, folder in folders.items()}
    for name in args.protocols:
        out = evaluate(args, name, encoders)
        sources |= {f"{name}.{end}": out / f"marble.{end}" for end in ("md", "csv", "json", "png")}
        laps[f"evaluation ({name})"] = time.time()
    if args.music:
        out = args.work / "retrieval"
        run_recipes([[HERE / "retrieval.py", args.music, "--encoders", *encoders, "--out", out]])
        sources |= {f"retrieval.{end}": out / f"retrieval.{end}" for end in ("md", "json")}
        laps["retrieval"] = time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        content = source.read_bytes()
        if name.endswith(".md"):  # the picture of each protocol is renamed too
            content = content.replace(b"(marble.png)", f"({source.parent.name}.png)".encode())
        (args.out / name).write_bytes(content)
    minutes = {stage: (end - begin) / 60 for (_, begin), (stage, end) in pairwise(laps.items())}
    text = page(args, argv, folders, minutes)
    write_together({args.out / "study.md": text})
    print(text)


if __name__ == "__main__":
    run_recipe(main)
