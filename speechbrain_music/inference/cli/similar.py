"""The tracks most similar to one, as a table.

sbmusic similar song.mp3 --in music.npz
sbmusic similar other.mp3 --in music.npz --model results/brn_sum/1234/export --out near.csv

Similarity is the cosine of embeddings whose dimensions are standardised over all files; several
layers weigh the same. The query itself is left out.
"""

from pathlib import Path


def add_arguments(parser):
    """The options of `sbmusic similar`.

    Example
    -------
    >>> from argparse import ArgumentParser
    >>> add_arguments(parser := ArgumentParser())
    >>> parser.parse_args(["song.mp3", "--in", "music.npz"]).top
    10
    """
    parser.add_argument(
        "query",
        metavar="QUERY",
        help="path among the embeddings, its end or name; or an audio file",
    )
    parser.add_argument(
        "--in",
        dest="embeddings",
        metavar="EMBEDDINGS",
        required=True,
        type=Path,
        help="what `sbmusic embed` wrote: .npy, .npz or .parquet, one vector a file",
    )
    parser.add_argument("--model", help="for an audio file: the model that made the embeddings")
    parser.add_argument("--device", help="for that model (default: the best there is)")
    parser.add_argument("--top", type=int, default=10, help="how many tracks (default: 10)")
    parser.add_argument("--out", type=Path, help="also write the table to this .csv")


def run(args):
    """Prints the table.

    Raises UserError for a query that is neither embedded nor a file, and for another model.

    Example
    -------
    >>> import numpy, tempfile
    >>> from argparse import Namespace
    >>> from speechbrain_music.inference.store import Embeddings, write_embeddings
    >>> values = numpy.array([[2, 0], [2, 1], [-4, -1]], "f4")
    >>> three = Embeddings(["a.wav", "b.wav", "c.wav"], numpy.ones(3), values, {"pool": "mean"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "three.npz")
    ...     write_embeddings(path, three)
    ...     run(Namespace(query="a.wav", embeddings=path, top=1, out=None))
    Most similar to a.wav:
      rank  similarity   seconds  path
         1      0.5000       1.0  b.wav
    """
    import numpy as np

    from speechbrain_music.data_prep.files import check_output
    from speechbrain_music.data_prep.manifest import csv_text, printable
    from speechbrain_music.inference.neighbours import find, nearest
    from speechbrain_music.inference.store import read_embeddings
    from speechbrain_music.utils.atomic import write_together
    from speechbrain_music.utils.errors import UserError

    if args.top < 1:
        raise UserError(f"top is {args.top}: it must be 1 or more")
    if args.out:
        check_output(args.out)
    paths, durations, values, settings = read_embeddings(args.embeddings)
    row = find(paths, printable(args.query))
    if row is None:
        values = np.concatenate([values, _embed(args, paths, settings)[None]])
        row = len(paths)
    rows, similarities = nearest(values, row, args.top)
    table = [
        (rank, f"{similarity:.4f}", f"{durations[row]:.1f}", paths[row])
        for rank, (row, similarity) in enumerate(zip(rows, similarities, strict=True), start=1)
    ]
    columns = ("rank", "similarity", "seconds", "path")
    if args.out:
        write_together({args.out: csv_text(table, columns)})
    print(f"Most similar to {paths[row] if row < len(paths) else args.query}:")
    for line in [columns, *table]:
        print("{:>6}  {:>10}  {:>8}  {}".format(*line))


def _embed(args, paths, settings):
    """The embedding of an audio file, by the model and in the way that made the others."""
    from speechbrain_music.dataio.audio import audio_info
    from speechbrain_music.inference.cli.models import load_model
    from speechbrain_music.inference.collection import fingerprint
    from speechbrain_music.inference.neighbours import closest
    from speechbrain_music.inference.store import OPTIONS
    from speechbrain_music.utils.errors import UserError

    if not Path(args.query).exists():
        raise UserError(
            f"{args.query} is neither a file nor among the {len(paths)} in {args.embeddings}: did "
            f"you mean {' or '.join(closest(paths, args.query))}?"
        )
    if args.model is None:
        raise UserError(
            f"{args.query} is not among the embeddings: pass --model {settings['source']}, by "
            "which they were made"
        )
    audio_info(args.query)  # what cannot be read is said before a model is loaded
    encoder = load_model(args.model, args.device)
    if fingerprint(encoder) != settings["model"]:
        raise UserError(
            f"{args.model} is not the model that made {args.embeddings}, which was "
            f"{settings['source']} ({settings['model']}): pass that one, or embed again"
        )
    return encoder.encode_file(args.query, **{name: settings[name] for name in OPTIONS}).values
