"""List the tracks most similar to one.

sbmusic similar song.mp3 --in music.npz
sbmusic similar other.mp3 --in music.npz --model results/brn_sum/1234/export --out similar.csv

Similarity is the cosine of embeddings whose dimensions are standardised over all files; several
layers have equal weights. The query itself is left out.
"""

import os
import sys
from difflib import get_close_matches
from pathlib import Path, PurePath

from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.inference.cli.embed import SHIPPED, add_classes, add_dtype, count
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, escaped

MIN_FILES = 3  # two standardised vectors always have the similarity -1


def add_arguments(parser):
    """Add the options of `sbmusic similar`."""
    parser.add_argument(
        "query",
        metavar="QUERY",
        help="path among the embeddings, the end of one, or a name; or an audio file",
    )
    parser.add_argument(
        "--in",
        dest="embeddings",
        metavar="EMBEDDINGS",
        required=True,
        type=Path,
        help="file that `sbmusic embed` wrote: .npy or .npz, one vector per file",
    )
    parser.add_argument("--model", help="for an audio file: the model that made the embeddings")
    parser.add_argument("--device", help="for that model (default: the fastest)")
    parser.add_argument("--top", type=count, default=10, help="number of tracks (default: 10)")
    parser.add_argument("--out", type=Path, help="also write the table to this .csv")
    add_dtype(parser)
    add_classes(parser)


def run(args):
    """Print the table of similar tracks."""
    import numpy as np

    from speechbrain_music.data_prep.files import check_output
    from speechbrain_music.inference.embeddings import read_embeddings

    if args.out:
        if not str(args.out).endswith(".csv"):
            raise UserError(f"out is {args.out}: it must end in .csv")
        if args.out.with_suffix("") == args.embeddings.with_suffix(""):
            raise UserError(f"{args.out} is a file of {args.embeddings}: choose another name")
        check_output(args.out)
    paths, durations, values, settings = read_embeddings(args.embeddings)
    query = find_row(paths, printable(args.query))
    if query is None:
        values = np.concatenate([values, _embed(args, paths, settings)[None]])
        query = len(paths)
    elif args.model:
        print("the query is among the embeddings: --model is not used", file=sys.stderr)
    rows, similarities = rank(values, query, args.top)
    table = [
        (place, f"{similarity:.4f}", f"{durations[row]:.1f}", paths[row])
        for place, (row, similarity) in enumerate(zip(rows, similarities, strict=True), start=1)
    ]
    columns = ("rank", "similarity", "seconds", "path")
    if args.out:
        write_together({args.out: csv_text(table, columns)})
    print(f"Most similar to {escaped(paths[query] if query < len(paths) else args.query)}:")
    for line in [columns, *table]:
        print("{:>6}  {:>10}  {:>8}  {}".format(*map(escaped, line)))


def rank(values, query, top):
    """Return the rows of (N, D) or (N, L, D) most similar to row `query`, and similarities."""
    import numpy as np

    from speechbrain_music.metrics.retrieval import unit_vectors

    if len(values) < MIN_FILES:
        raise UserError(f"{len(values)} files cannot be ranked: embed {MIN_FILES} or more")
    if not np.isfinite(values).all():
        raise UserError("embeddings are not finite: embed the files again")
    layers = values.reshape(len(values), -1, values.shape[-1]).swapaxes(0, 1)
    similarities = np.zeros(len(values))
    for vectors in map(unit_vectors, layers):
        similarities += vectors @ vectors[query] / len(layers)
    order = np.argsort(-similarities, kind="stable")
    rows = order[order != query][:top]
    return rows, similarities[rows]


def find_row(paths, query):
    """Return the row of a path, of the end of a path, or of a file name; None without a match."""
    absolute = list(map(os.path.abspath, paths))
    if os.path.abspath(query) in absolute:
        return absolute.index(os.path.abspath(query))
    if os.path.exists(query):  # another file of the same name
        return None
    parts = PurePath(query).parts
    rows = [
        row
        for row, path in enumerate(map(PurePath, paths))
        if path.parts[-len(parts) :] == parts or path.stem == query
    ]
    if len(rows) > 1:
        shown = ", ".join(paths[row] for row in rows[:3])
        raise UserError(f"{query} matches {len(rows)} paths ({shown} ...): give more of the path")
    return rows[0] if rows else None


def _embed(args, paths, settings):
    """Embed an audio file with the model and the settings of the other embeddings."""
    from speechbrain_music.dataio.audio import audio_info
    from speechbrain_music.inference.embeddings import OPTIONS
    from speechbrain_music.inference.encoder import MusicEncoder

    if not Path(args.query).exists():
        names = {PurePath(path).stem.lower(): path for path in reversed(paths)}
        word = PurePath(args.query).stem.lower()
        close = [name for name in names if word in name]
        close = close or get_close_matches(word, names, cutoff=0.5)
        meant = " or ".join(names[name] for name in close[:3])
        raise UserError(
            f"{args.query} is neither a file nor among the {len(paths)} in {args.embeddings}"
            + (f": did you mean {meant}?" if meant else "")
        )
    if args.model is None and settings["source"] != SHIPPED:
        raise UserError(
            f"{args.query} is not among the embeddings: pass --model {settings['source']}, with "
            "which they were made"
        )
    audio_info(args.query)  # an unreadable file is reported before a model is loaded
    encoder = MusicEncoder.from_export(
        args.model, args.device, classes=args.classes, dtype=args.dtype
    )
    if encoder.fingerprint != settings["model"]:
        raise UserError(
            f"{args.model or SHIPPED} is not the model that made {args.embeddings}: pass "
            f"{settings['source']} ({settings['model']}) with its --dtype, or embed again"
        )
    return encoder.encode_file(args.query, **{name: settings[name] for name in OPTIONS}).values
