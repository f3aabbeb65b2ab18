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

import os
import sys
from codecs import BOM_UTF8

from speechbrain_music.utils.errors import UserError

LIST = "-"
SHIPPED = "the shipped encoder"  # as embeddings name their source


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
