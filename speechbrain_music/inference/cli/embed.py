"""The command `sbmusic embed`."""

import os
import sys
from codecs import BOM_UTF8

from speechbrain_music.data_prep.files import find_audio, no_audio
from speechbrain_music.evaluation.results import read_layers
from speechbrain_music.inference.embeddings import check_out
from speechbrain_music.inference.encoder import MusicEncoder
from speechbrain_music.inference.store import UNREADABLE, embed_collection
from speechbrain_music.utils.errors import UserError, escaped
from speechbrain_music.utils.memory import keep_freed_memory

LIST = "-"
SHIPPED_NAME = "the shipped encoder"  # as embeddings name their source


def run(args):
    """Embed the files; see `sbmusic embed --help`."""
    paths, unreadable = find_files(args.paths)
    keep_freed_memory()
    check_out(args.out, args.pool, len(paths))  # before a model is downloaded or loaded
    encoder = MusicEncoder.from_export(
        args.model, args.device, classes=args.classes, dtype=args.dtype
    )
    if args.model is None:
        print("by the small encoder of this package: its card is models/shipped/README.md")
    options = {"pool": args.pool, "layers": find_layer(args), "chunk": args.chunk}
    options |= {"overlap": args.overlap, "batch_size": args.batch, "unreadable": unreadable}
    options["overwrite"] = args.overwrite
    unreadable = embed_collection(encoder, args.model or SHIPPED_NAME, paths, args.out, **options)
    good = len(paths) - len(set(unreadable) & set(paths))
    print(f"{args.out}: {good} of {len(paths)} files")
    if unreadable:
        print(
            f"warning: {len(unreadable)} could not be read, see {args.out}{UNREADABLE}",
            file=sys.stderr,
        )


def find_layer(args):
    """The value of `--layer`; best:TASK becomes the layer that stored results name."""
    kind, _, task = str(args.layer).partition(":")
    if kind != "best":
        return args.layer
    encoder = MusicEncoder.from_export(args.model, "cpu", classes=args.classes)  # as evaluated
    if not (found := read_layers(args.results, encoder.fingerprint).get(task)):
        raise UserError(
            f"layer is 'best:{task}', but {args.results} has no results.json of this encoder on "
            f"{task}: run the task's recipe, or set --results, or a number"
        )
    print(escaped(f"layer {found['best']}; {found['path']}: {found['text']}"))
    return int(found["best"])


def find_files(arguments):
    """Return audio files, each once, and a dict of unreadable paths with reasons.

    Arguments are files, folders (searched recursively, sorted), and "-" for files and folders on
    stdin, one per line. Raises a UserError for an argument that does not exist, or without a file.
    """
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
