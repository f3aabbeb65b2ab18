"""Pre-train a small encoder in minutes and evaluate it: `make demo`.

python experiments/demo.py [--out results/demo] [--hours 1] [--epochs 5] [--soundtracks FOLDER]
    [--tasks gtzan_genre] [--evaluate "--quick True --pooling mean_std"]

Composes music, or fetches soundtracks, pre-trains `brn_sum_tiny` on it, and compares it with mel
statistics and untrained encoders on the replica of a task by recipes/marble.py. The report is
`report.md`. Finished work is reused. Further options (`--lr 0.001` ...) go to the pre-training.
"""

import argparse
import json
import logging
import shlex
import time
from contextlib import contextmanager
from pathlib import Path

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.output import read_json
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.soundtracks import prepare_soundtracks
from speechbrain_music.evaluation.frame_probe import format_frame_probe
from speechbrain_music.metrics.pretraining import HELD_OUT, format_baselines
from speechbrain_music.reporting.marble_table import PICTURE
from speechbrain_music.reporting.run_log import read_rows
from speechbrain_music.reporting.tables import markdown_page, markdown_table
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran
from speechbrain_music.utils.errors import run_recipe
from speechbrain_music.utils.processes import run_recipes

ROOT = Path(__file__).parents[1]
LONGEST = 30.0  # seconds of a track: many short tracks are more varied than few long ones
EVALUATE = "--quick True --pooling mean_std"
NEXT = "python recipes/pretrain/train.py hparams/brn_sum.yaml --data_folder /my/music"


@contextmanager
def stage(path, name):
    """Prints the name of a block and adds its time, which may be an earlier start's, to a file."""
    print(f"-- {name}", flush=True)
    begin = time.perf_counter()
    yield
    seconds = read_json(path)
    seconds[name] = seconds.get(name, 0) + time.perf_counter() - begin
    write_together({path: json.dumps(seconds) + "\n"})


def report(marble, rows, metadata, seconds):
    """The text of `report.md`, with the page of recipes/marble.py in it."""
    last = rows[-1]
    held_out = [
        [title, f"{last[key]:.3f}", format_baselines(last, baselines)]
        for title, key, baselines in HELD_OUT
    ]
    gain = last["cross_entropy_unigram"] - last["cross_entropy"]
    spent = seconds | {"all": sum(seconds.values())}
    minutes = [[name, f"{value / 60:.1f}"] for name, value in spent.items()]
    return markdown_page(
        "# Demo: a small encoder, pre-trained in minutes",
        f"Written by `{metadata['command']}`. Machine: {metadata['machine']}.",
        f"{last['step']} optimiser steps of `brn_sum_tiny` on {metadata['hours']:.2f} hours of "
        f"{metadata['music']}, one seed. A program composed and rendered the music of the task: "
        "**no figure of the evaluation says anything about recorded music**, or can be compared "
        "with a published one.",
        "## Pre-training, on held-out tracks",
        markdown_table(["on masked tokens", "model", "baselines"], held_out, " r"),
        f"The cross-entropy is {gain:.2f} nats below the unigram's.",
        f"```\n{format_frame_probe(last)}\n```" if format_frame_probe(last) else "",
        f"![curves]({metadata['curves']})",
        marble.replace("#", "##").replace("(marble.png)", f"({metadata['scores']})").strip(),
        "The demo shows that all steps work on this machine. It does not show what the method can "
        "do: the encoder is tiny and trained for minutes, with one seed, and the test split of a "
        "replica resolves large differences only.",
        "## Time, of all starts",
        markdown_table(["stage", "minutes"], minutes, " r"),
    )


def main(argv):
    """Runs the demo; see the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/demo"))
    parser.add_argument("--music", type=Path, default=Path("data/replica/demo"))
    parser.add_argument("--soundtracks", type=Path, help="a folder for recordings to train on")
    parser.add_argument("--hours", type=float, default=1.0, help="of music to pre-train on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=["gtzan_genre"])
    parser.add_argument("--evaluate", default=EVALUATE, help="options of the task recipes")
    args, others = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING)
    seconds = args.out / "seconds.json"

    run, marble = args.out / "brn_sum_tiny", args.out / "marble"
    train = [ROOT / "recipes/pretrain/train.py", ROOT / "hparams/brn_sum_tiny.yaml"]
    if args.soundtracks:
        music, manifests = args.soundtracks, args.out / "manifests"
        with stage(seconds, "fetching soundtracks to pre-train on"):
            prepare_soundtracks(music, manifests)
        train += ["--train_csv", manifests / "train.csv", "--valid_csv", manifests / "valid.csv"]
        tracks, what = read_manifest(manifests / "train.csv", music), "soundtracks"
    else:
        music = args.music / f"corpus_{args.hours:g}h"
        with stage(seconds, "composing music to pre-train on"):
            plan = CorpusPlan(longest=LONGEST)
            tracks = read_manifest(make_corpus(music, args.hours, plan), music)
        what = f"composed music (generator {tracks['generator'][0]})"
    with stage(seconds, "pre-training"):
        train += ["--data_folder", music, "--output_folder", run, "--number_of_epochs", args.epochs]
        run_recipes([[*train, *others]])
    with stage(seconds, "evaluation"):
        export = run / "export"
        command = [ROOT / "recipes/marble.py", "--out", marble, *shlex.split(args.evaluate)]
        command += ["--encoders", f"pre-trained={export}", f"untrained=random:{export}", "mel"]
        run_recipes([[*command, "--tasks", *args.tasks]])

    metadata = {
        "command": shlex.join(["python", "experiments/demo.py", *argv]),
        "machine": where_it_ran(),
        "hours": tracks["duration"].sum() / 3600,
        "music": what,
        "curves": (run / "curves.png").relative_to(args.out),
        "scores": (marble / PICTURE).relative_to(args.out),
    }
    table = (marble / "marble.md").read_text(encoding="utf-8")
    text = report(table, read_rows(run, "valid"), metadata, read_json(seconds))
    write_together({args.out / "report.md": text})
    print(f"{text}\nThe report is {args.out / 'report.md'}. Next, on music of your own:\n  {NEXT}")


if __name__ == "__main__":
    run_recipe(main)
