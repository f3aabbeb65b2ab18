"""Is pre-training worth it here? Some encoders, all tasks, one table: `make study`.

python recipes/study/study.py [--out results/study] [--hours 3] [--seeds 1 2] [--epochs 30]
    [--judge "--quick True"] [--music FOLDER]

Composes music, pre-trains `brn_sum_tiny` on it with several seeds, side by side where there are
cores, and judges them beside mel statistics and three untrained encoders on the eight tasks'
replicas. With --music, also by retrieval on real recordings. Further options (`--lr 0.001` ...)
go to the pre-training recipe. It continues where it was interrupted.
"""

import argparse
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, run

RECIPES = Path(__file__).parents[1]
YAML = RECIPES.parent / "hparams" / "brn_sum_tiny.yaml"
LONGEST = 30.0  # seconds of a track: many short ones differ more than few long ones
FIGURES = (
    ("cross-entropy (nats)", "cross_entropy", ("unigram", "bigram")),
    ("accuracy", "accuracy", ("commonest", "copy")),
    ("mel error", "mel_error", ("clip_mean", "interpolation")),
)


def pretrain(corpus, folders, epochs, others):
    """Pre-trains one encoder a (seed, folder), as many at a time as there are cores for."""
    at_once = 1 if torch.accelerator.is_available() else min(len(folders), os.cpu_count())
    threads = str(max(1, os.cpu_count() // at_once))
    waiting, running = dict(folders), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            seed, folder = waiting.popitem()
            options = {"data_folder": corpus, "output_folder": folder, "seed": seed}
            options["number_of_epochs"] = epochs
            pairs = [str(part) for k, v in options.items() for part in (f"--{k}", v)]
            command = [sys.executable, str(RECIPES / "pretrain" / "train.py"), str(YAML), *pairs]
            quiet = ["--noprogressbar"] * (at_once > 1)
            running[seed] = subprocess.Popen(
                [*command, *quiet, *others], env=os.environ | {"OMP_NUM_THREADS": threads}
            )
        time.sleep(1)
        for seed, process in list(running.items()):
            if process.poll() is not None:
                del running[seed]
                if process.returncode:
                    for other in running.values():
                        other.terminate()
                    raise UserError(f"pre-training with seed {seed} failed: see above")


def step(command):
    """Runs another recipe."""
    done = subprocess.run([sys.executable, *map(str, command)], check=False)
    if done.returncode:
        raise UserError(f"{shlex.join(map(str, command))} failed: see above")


def page(args, argv, folders, seconds):
    """The text of `study.md`."""
    names = ("speechbrain-music", "torch", "torchaudio", "speechbrain", "numpy", "torchmetrics")
    command = shlex.join(["python", "recipes/study/study.py", *argv])
    lines = [
        "# Study: what pre-training gives",
        "",
        f"Written by `{command}`. Machine: {platform.machine()}, {os.cpu_count()} cores, "
        f"{'GPU' if torch.accelerator.is_available() else 'no GPU'}, Python "
        f"{platform.python_version()}, " + ", ".join(f"{n} {version(n)}" for n in names) + ".",
        "",
        "All music to train on and in the tasks was composed and rendered by a program. **No "
        "figure says anything about recorded music**, and none may stand beside a published one.",
        "",
        f"## Pre-training: {args.hours:g} hours of composed music, seeds "
        f"{', '.join(map(str, folders))}",
        "",
        "| held-out tracks | " + " | ".join(f"seed {seed}" for seed in folders) + " | beside |",
        "|---|" + "---:|" * len(folders) + "---|",
    ]
    last = {}
    for seed, folder in folders.items():
        rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        last[seed] = [r for r in map(json.loads, rows) if r["kind"] == "valid"][-1]
    for title, key, baselines in FIGURES:
        first = next(iter(last.values()))
        beside = ", ".join(f"{b.replace('_', ' ')} {first[f'{key}_{b}']:.3f}" for b in baselines)
        cells = " | ".join(f"{row[key]:.3f}" for row in last.values())
        lines.append(f"| {title} | {cells} | {beside} |")
    steps = next(iter(last.values()))["step"]
    lines += ["", f"{steps} optimiser steps each. {'; '.join(seconds)}.", ""]
    lines += [f"![curves](curves-{seed}.png)" for seed in folders]
    lines += ["", "The tasks: [marble.md](marble.md)."]
    if args.music:
        lines += [" Real recordings: [retrieval.md](retrieval.md)."]
    return "\n".join(lines) + "\n"


def main(argv):
    """Runs the study; see this file's head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/study"))
    parser.add_argument("--hours", type=float, default=3.0, help="of music to pre-train on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--tasks", nargs="*", default=[], help="default: all")
    parser.add_argument("--judge", default="", help="options for the tasks: '--quick True'")
    parser.add_argument("--music", help="a folder of real recordings, for retrieval")
    parser.add_argument("--work", type=Path, default=Path("results/study-work"))
    args, others = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING)
    folders = {seed: args.work / f"brn_sum_tiny-{seed}" for seed in args.seeds}
    seconds, began = [], time.time()

    def note(what):
        nonlocal began
        seconds.append(f"{what} {(time.time() - began) / 60:.0f} min")
        began = time.time()

    corpus = Path(f"data/replica/study_{args.hours:g}h")
    make_corpus(corpus, args.hours, CorpusPlan(longest=LONGEST))
    note("composing")
    pretrain(corpus, folders, args.epochs, others)
    note("pre-training")
    exports = [folder / "export" for folder in folders.values()]
    encoders = ["mel", f"random:{exports[0]}", f"pre-trained={','.join(map(str, exports))}"]
    tasks = ["--tasks", *args.tasks] if args.tasks else []
    judge = [RECIPES / "marble.py", "--out", args.work / "marble", "--encoders", *encoders]
    step([*judge, *tasks, *shlex.split(args.judge)])
    note("judging")
    sources = [args.work / "marble" / f"marble.{end}" for end in ("md", "csv", "json", "png")]
    if args.music:
        where = args.work / "retrieval"
        command = [RECIPES / "retrieval" / "retrieval.py", args.music, "--encoders", *encoders]
        step([*command, "--out", where])
        note("retrieval")
        sources += [where / f"retrieval.{end}" for end in ("md", "csv", "json")]
    args.out.mkdir(parents=True, exist_ok=True)
    for source in sources:
        (args.out / source.name).write_bytes(source.read_bytes())
    for seed, folder in folders.items():
        (args.out / f"curves-{seed}.png").write_bytes((folder / "curves.png").read_bytes())
    write_together({args.out / "study.md": page(args, argv, folders, seconds)})
    print((args.out / "study.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run(main)
