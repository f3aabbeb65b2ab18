"""Is pre-training worth it here? Some encoders, all tasks, one table: `make study`.

python recipes/study/study.py [--out results/study] [--hours 2] [--seeds 1 2] [--epochs 35]
    [--protocols mean_std] [--judge "--quick True"] [--music FOLDER]

Composes music, and beside it voices and single notes, pre-trains `brn_sum_tiny` on all with
several seeds, side by side where there are cores, and judges them beside mel statistics and three
untrained encoders on the eight tasks' replicas, under one protocol or several. With --music, also
by retrieval on real recordings. Further options (`--lr 0.001` ...) go to the pre-training recipe.
It continues where it was interrupted, also on another machine: one with a GPU may pre-train, and
any judge what lies in the work folder then.
"""

import argparse
import json
import logging
import shlex
import time
from pathlib import Path

from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.merge import merge
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.trees import make_replica
from speechbrain_music.reporting.marble_table import with_interval
from speechbrain_music.reporting.run_log import HELD_OUT, beside, read_rows
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran
from speechbrain_music.utils.errors import run_recipe
from speechbrain_music.utils.processes import FINISHED, noted_in, side_by_side

RECIPES = Path(__file__).parents[1]
YAML = RECIPES.parent / "hparams" / "brn_sum_tiny.yaml"
# Pitch, key and singers suffer most from minutes of training: see README.md.
MENDED = ["--frontend_bypass", "True", "--reconstruct", "all"]
TASKS = (
    "mtt_tagging giantsteps_key gtzan_genre emomusic_emotion nsynth_pitch nsynth_instrument "
    "vocalset_singer vocalset_technique"
).split()
# How hidden states become features: as MARBLE's, as mel statistics are pooled, uncorrelated, too.
PROTOCOLS = {
    "mean": [],
    "mean_std": ["--pooling", "mean_std"],
    "whitened": ["--pooling", "mean_std", "--standardize", "whiten"],
}
LONGEST = 30.0  # seconds of a track: many short ones differ more than few long ones
# Of what is heard. Voices and notes are by other singers, instruments and programs than the tasks'
# test sets have.
SHARES = {"music": 0.6, "voices": 0.2, "notes": 0.2}
OTHER_SEED = 1000
VOICES, NOTES = 0.075, 0.0025  # scale of VocalSet's and NSynth's replicas for each hour of music


def compose(hours, manifests):
    """Makes what is trained on, or finds it made, and one manifest a split of it.

    Arguments
    ---------
    hours : float
        Of music; voices and notes are about as long together.
    manifests : Path
        Where manifests go.

    Returns
    -------
    list
        Options of the pre-training recipe.
    """
    where = Path(f"data/replica/study_{hours:g}h")
    make_corpus(where / "music", hours, CorpusPlan(longest=LONGEST))
    for name, part, scale in (("voices", "vocalset", VOICES), ("notes", "nsynth", NOTES)):
        make_replica(part, where / name, min(1.0, hours * scale), OTHER_SEED)
    folders = {name: where / name for name in SHARES}
    folders["notes"] /= "nsynth-train"  # the programs of NSynth's test set are not in it
    weights = {}
    for name, folder in folders.items():
        out = manifests / name
        report = prepare_folder(folder, out / "train.csv", out / "valid.csv")
        weights[out] = SHARES[name] / report["splits"]["train"]["hours"]
    root = merge(weights, manifests / "all")["data_folder"]
    options = ["--data_folder", root]
    for split in ("train", "valid"):
        options += [f"--{split}_csv", manifests / "all" / f"{split}.csv"]
    return options


def pretrain(args, folders, options):
    """Pre-trains with each seed that has not been finished, and notes where it was.

    Arguments
    ---------
    args : argparse.Namespace
        Of the command line.
    folders : dict
        Seed -> folder of the run.
    options : list
        For the pre-training recipe.
    """
    asked = {"hours": args.hours, "epochs": args.epochs, "options": shlex.join(options)}
    todo = {s: f for s, f in folders.items() if asked.items() - _finished(f).items()}
    if not todo:
        return
    corpus = compose(args.hours, args.work / "manifests")
    command = [RECIPES / "pretrain" / "train.py", YAML, *corpus, *MENDED]
    command += ["--number_of_epochs", args.epochs, *options]
    runs = [[*command, "--output_folder", todo[seed], "--seed", seed] for seed in todo]
    side_by_side(runs, noted_in(list(todo.values()), **asked, machine=where_it_ran()))


def _finished(folder):
    path = folder / FINISHED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def page(args, argv, folders, seconds):
    """The text of `study.md`."""
    command = shlex.join(["python", "recipes/study/study.py", *argv])
    machines = {_finished(folder)["machine"] for folder in folders.values()}
    lines = [
        "# Study: what pre-training gives",
        "",
        f"Written by `{command}`. Pre-trained on: {'; '.join(sorted(machines))}. Judged on: "
        f"{where_it_ran()}.",
        "",
        "All music to train on and in the tasks was composed and rendered by a program. **No "
        "figure says anything about recorded music**, and none may stand beside a published one.",
        "",
        f"## Pre-training: {args.hours:g} hours of composed music, voices and notes, seeds "
        f"{', '.join(map(str, folders))}",
        "",
        "| held-out tracks | " + " | ".join(f"seed {seed}" for seed in folders) + " | beside |",
        "|---|" + "---:|" * len(folders) + "---|",
    ]
    last = [read_rows(folder, "valid")[-1] for folder in folders.values()]
    for title, key, baselines in HELD_OUT:
        cells = " | ".join(f"{row[key]:.3f}" for row in last)
        lines.append(f"| {title} | {cells} | {beside(last[0], key, baselines)} |")
    lines += ["", f"{last[0]['step']} optimiser steps each.", ""]
    lines += [f"![curves of seed {seed}](curves-{seed}.png)" for seed in folders]
    lines += ["", "## The eight tasks", ""]
    for name in args.protocols:
        options = " ".join(PROTOCOLS[name]) or "MARBLE's pooling, dimensions standardised"
        stored = json.loads((args.work / name / "marble.json").read_text(encoding="utf-8"))
        cells = ", ".join(f"{e} {with_interval(v)}" for e, v in stored["overall"].items())
        lines += [f"- [{name}]({name}.md) (`{options}`): {cells}"]
        for pair in stored["pairs"]:
            d = pair["all tasks"]
            lines += [
                f"  - {pair['first']} - {pair['second']}: {d['difference']:+.3f} "
                f"({d['low']:+.3f} to {d['high']:+.3f})"
            ]
    lines += [
        "",
        f"The last start of the command: {', '.join(seconds)}. It did not do again what earlier "
        "starts had done.",
    ]
    if args.music:
        lines += ["", "Real recordings: [retrieval.md](retrieval.md)."]
    return "\n".join(lines) + "\n"


def main(argv):
    """Runs the study; see this file's head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/study"))
    parser.add_argument("--hours", type=float, default=2.0, help="of music to pre-train on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=35)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--protocols", nargs="+", default=["mean_std"], choices=PROTOCOLS)
    parser.add_argument("--judge", default="--quick True", help="options for the tasks, or ''")
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

    pretrain(args, folders, others)
    note("composing and pre-training")
    exports = [folder / "export" for folder in folders.values()]
    encoders = ["mel", f"random:{exports[0]}", f"pre-trained={','.join(map(str, exports))}"]
    sources = {}
    for name in args.protocols:
        judge = [RECIPES / "marble.py", "--out", args.work / name, "--encoders", *encoders]
        judge += ["--features", args.work / "features", *PROTOCOLS[name], *shlex.split(args.judge)]
        half = -(-len(args.tasks) // 2)
        parts = [part for part in (args.tasks[:half], args.tasks[half:]) if part]
        side_by_side([[*judge, "--no_table", "--tasks", *part] for part in parts])
        side_by_side([[*judge, "--tasks", *args.tasks]])
        note(f"judging ({name})")
        for end in ("md", "csv", "json", "png"):
            sources[f"{name}.{end}"] = args.work / name / f"marble.{end}"
    if args.music:
        where = args.work / "retrieval"
        command = [RECIPES / "retrieval" / "retrieval.py", args.music, "--encoders", *encoders]
        side_by_side([[*command, "--out", where]])
        note("retrieval")
        for end in ("md", "csv", "json"):
            sources[f"retrieval.{end}"] = where / f"retrieval.{end}"
    sources |= {f"curves-{seed}.png": folder / "curves.png" for seed, folder in folders.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        text = source.read_bytes()
        if name.endswith(".md"):  # each protocol's picture has its name here
            text = text.replace(b"(marble.png)", f"({source.parent.name}.png)".encode())
        (args.out / name).write_bytes(text)
    write_together({args.out / "study.md": page(args, argv, folders, seconds)})
    print((args.out / "study.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    run_recipe(main)
