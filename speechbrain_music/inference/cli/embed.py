"""Embed audio files, folders, or a list of paths on stdin.

sbmusic embed song.mp3 --out song.npy    # by the small encoder that this package ships
sbmusic embed /my/music --model results/brn_sum/1234/export --out music.npz
find /my/music -name "*.flac" | sbmusic embed - --model USER/NAME --out flac.npz
sbmusic embed /my/music --model USER/NAME --pool none --out embeddings

The suffix of --out chooses the format; it is written whole or not at all:
  .npy      the matrix (files, D), with a .csv (path and duration of each row) and a .json
            (settings); of one file with --pool none its (T, D), 25 rows per second
  .npz      embeddings, paths, durations, settings; of one file with --pool none embeddings,
            times, settings
  a folder  with --pool none: one .npy per file, index.csv and settings.json
Several layers add an axis before D: (files, L, D), (L, T, D).

After an interruption run the same command again: finished files are kept in OUT.partial and
reused. So are rows of an OUT that is there, of files with the same size and modification time: to
add files, give all. If OUT has other settings, or files that are not given, --overwrite is needed.
Unreadable files are skipped and listed with reasons in OUT.unreadable.csv; the exit code
is 0 if at least one file could be read, else 2.
"""

import argparse
import os
import sys
from codecs import BOM_UTF8
from pathlib import Path

from speechbrain_music.utils.errors import UserError

LIST = "-"
SHIPPED = "the shipped encoder"  # as embeddings name their source


def _checked(convert, is_right, wanted):
    """Return a type of argparse whose error is a sentence."""

    def read(text):
        try:
            if is_right(value := convert(text)):
                return value
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"{text!r:.50} is not {wanted}")

    return read


def _layers(text):
    numbers = text if text == "all" else [int(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


layers = _checked(_layers, lambda _: True, "a layer: give a number, several as 0,6,12, or all")
count = _checked(int, lambda n: n > 0, "a whole number above 0")
seconds = _checked(
    float, lambda s: s >= 0 and abs(25 * s - round(25 * s)) < 1e-6, "a multiple of 0.04 s"
)


def add_arguments(parser):
    """Add the options of `sbmusic embed`."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="audio file, folder, or - for a list on stdin"
    )
    parser.add_argument("--model", help="folder of an export, or its hub id (default: shipped)")
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
        help="per file: mean, mean and standard deviation, or none for 25 vectors per second",
    )
    parser.add_argument(
        "--chunk",
        type=lambda text: None if text == "none" else seconds(text),
        default=30.0,
        help="context in seconds, or none for whole files (default: 30)",
    )
    parser.add_argument(
        "--overlap", type=seconds, default=0.0, help="seconds that chunks share (default: 0)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace OUT although its settings differ or it holds files that are not given",
    )
    parser.add_argument("--batch", type=count, default=8, help="chunks per batch (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: the fastest)")
    add_dtype(parser)
    add_classes(parser)


def add_dtype(parser):
    """Add the option --dtype of commands that compute embeddings."""
    choices = ("float32", "bfloat16", "float16")
    parser.add_argument("--dtype", choices=choices, default="float32", help="of the arithmetic")


def add_classes(parser):
    """Add the option --classes of commands that load an export."""
    parser.add_argument(
        "--classes",
        nargs="+",
        default=(),
        metavar="CLASS",
        help="classes of your own that the export uses, as my_package.MyMixer; their code runs",
    )


def run(args):
    """Embed the files; see `sbmusic embed --help`."""
    paths, unreadable = find_files(args.paths)

    from speechbrain_music.inference.embeddings import check_out
    from speechbrain_music.inference.encoder import MusicEncoder
    from speechbrain_music.inference.store import UNREADABLE, embed_collection
    from speechbrain_music.utils.memory import keep_freed_memory

    keep_freed_memory()
    check_out(args.out, args.pool, len(paths))  # before a model is downloaded or loaded
    encoder = MusicEncoder.from_export(
        args.model, args.device, classes=args.classes, dtype=args.dtype
    )
    if args.model is None:
        print("by the small encoder of this package: its card is models/shipped/README.md")
    options = {"pool": args.pool, "layers": args.layer, "chunk": args.chunk}
    options |= {"overlap": args.overlap, "batch_size": args.batch, "unreadable": unreadable}
    options["overwrite"] = args.overwrite
    unreadable = embed_collection(encoder, args.model or SHIPPED, paths, args.out, **options)
    good = len(paths) - len(set(unreadable) & set(paths))
    print(f"{args.out}: {good} of {len(paths)} files")
    if unreadable:
        print(
            f"warning: {len(unreadable)} could not be read, see {args.out}{UNREADABLE}",
            file=sys.stderr,
        )


def find_files(arguments):
    """Return audio files, each once, and a dict of unreadable paths with reasons.

    Arguments are files, folders (searched recursively, sorted), and "-" for files and folders on
    stdin, one per line. Raises a UserError for an argument that does not exist, or without a file.
    """
    from speechbrain_music.data_prep.files import find_audio, no_audio

    found, unreadable = {}, {}
    for argument in arguments:
        is_list, listed = argument == LIST, [argument]
        if is_list:
            text = sys.stdin.buffer.read().removeprefix(BOM_UTF8)
            listed = filter(None, (os.fsdecode(x).rstrip("\r") for x in text.split(b"\n")))
        for path in listed:
            paths = [path]
            if os.path.isdir(path):
                names, skipped, others = find_audio(path)
                paths = [os.path.join(path, name) for name in names]
                unreadable |= {os.path.join(path, name): reason for name, reason in skipped}
                if not names and not skipped:
                    unreadable[path] = str(no_audio(path, others))
            elif not is_list and not os.path.exists(path):
                raise UserError(f"{path} does not exist: give audio files, folders, or - for stdin")
            for path in paths:
                found.setdefault(os.path.abspath(path), path)
    if not found:
        reasons = (f"{path}: {reason}" for path, reason in unreadable.items())
        raise UserError(f"there is nothing to read: {next(reasons, 'the list is empty')}")
    return list(found.values()), unreadable
