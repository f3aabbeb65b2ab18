"""Embeddings of audio files, folders, or a list on stdin.

sbmusic embed song.mp3 --model results/brn_sum/1234/export --out song.npy
sbmusic embed /my/music --model results/brn_sum/1234/export --out music.npz
find /my/music -name "*.flac" | sbmusic embed - --model USER/NAME --out music.parquet
sbmusic embed /my/music --model USER/NAME --pool none --out frames

What --out ends in says what is written, whole or not at all:
  .npy      the matrix (files, D), beside it .csv (path and duration of each row) and .json (how
            they were made); of one file with --pool none its (T, D), 25 rows a second
  .npz      embeddings, paths, durations, settings; of one file with --pool none also times
  .parquet  columns path, duration, embedding (needs pyarrow)
  a folder  with --pool none: an .npy for each file, index.csv and settings.json
Several layers make an axis before D: (files, L, D), (L, T, D).

Killed or interrupted, the same command goes on with the files that are not done: until all are,
they are kept in OUT.partial. Files that cannot be read are left out, with the reasons in
OUT.unreadable.csv; the exit code is 0 if at least one could be read, else 2.
"""

import argparse
import os
import sys
from pathlib import Path


def add_arguments(parser):
    """The options of `sbmusic embed`.

    Example
    -------
    >>> parser = argparse.ArgumentParser()
    >>> add_arguments(parser)
    >>> args = parser.parse_args("a.wav b.wav --model me/mine --out ab.npz".split())
    >>> args.layer, args.pool, args.chunk  # unless told otherwise
    (-1, 'mean', 30.0)
    """
    parser.add_argument("paths", nargs="+", metavar="PATH", help="audio file, folder, or - (list)")
    parser.add_argument(
        "--model", required=True, help="folder of an export, or its name on the hub"
    )
    parser.add_argument("--out", required=True, type=Path, help="file or folder to write")
    parser.add_argument(
        "--layer",
        type=layers,
        default=-1,
        help="hidden state: a number, several as --layer=0,6,-1, or all (default: -1, the last)",
    )
    parser.add_argument(
        "--pool",
        choices=("mean", "mean_std", "none"),
        default="mean",
        help="over a file: mean, mean and deviation, or none for 25 vectors a second",
    )
    parser.add_argument(
        "--chunk", type=seconds, default=30.0, help="seconds heard at once, or none (default: 30)"
    )
    parser.add_argument(
        "--overlap", type=float, default=0.0, help="seconds that chunks share (default: 0)"
    )
    parser.add_argument("--batch", type=int, default=8, help="chunks computed at once (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: the best there is)")


def layers(text):
    """The value of --layer: an int, a list of ints, or "all".

    Raises ArgumentTypeError for another text.

    Example
    -------
    >>> layers("6"), layers("0,6,-1"), layers("all")
    (6, [0, 6, -1], 'all')
    """
    if text == "all":
        return text
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        message = f"{text!r} is no layer: give a number, several as 0,6,12, or all"
        raise argparse.ArgumentTypeError(message) from None
    return numbers if len(numbers) > 1 else numbers[0]


def seconds(text):
    """The value of --chunk: a float, or None for none.

    Example
    -------
    >>> seconds("2.4"), seconds("none")
    (2.4, None)
    """
    return None if text == "none" else float(text)


def run(args):
    """Embeds; see this file's head.

    Example
    -------
    >>> run(argparse.Namespace(paths=["gone.wav"]))
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: gone.wav does not exist: give audio files, folders, \
or - for stdin
    """
    from speechbrain_music.inference.cli.inputs import gather
    from speechbrain_music.inference.cli.models import load_model
    from speechbrain_music.inference.collection import UNREADABLE, choose_writer, embed_collection
    from speechbrain_music.utils.memory import keep_freed_memory

    keep_freed_memory()
    paths, faults = gather(args.paths, _lines())
    choose_writer(args.out, args.pool, len(paths))  # before a model is loaded, or fetched
    encoder = load_model(args.model, args.device)
    faults = embed_collection(
        encoder,
        args.model,
        paths,
        args.out,
        args.layer,
        args.pool,
        faults,
        chunk=args.chunk,
        overlap=args.overlap,
        batch_size=args.batch,
    )
    good = len(paths) - len(set(faults) & set(paths))
    print(f"{args.out}: {good} of {len(paths)} files")
    if faults:
        print(
            f"warning: {len(faults)} could not be read, see {args.out}{UNREADABLE}",
            file=sys.stderr,
        )


def _lines():
    """Of stdin, which need not be there unless it is asked for."""
    yield from map(os.fsdecode, sys.stdin.buffer)
