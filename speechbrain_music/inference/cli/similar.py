"""The command `sbmusic similar`."""

import os
import sys
from difflib import get_close_matches
from pathlib import Path, PurePath

import numpy as np

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.data_prep.manifest import csv_text, printable
from speechbrain_music.dataio.audio import audio_info
from speechbrain_music.inference.cli.embed import SHIPPED_NAME
from speechbrain_music.inference.embeddings import OPTIONS, read_embeddings
from speechbrain_music.inference.encoder import MusicEncoder
from speechbrain_music.metrics.retrieval import layer_vectors
from speechbrain_music.reporting.pairs_page import pairs_page
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, escaped

MIN_FILES = 3  # two standardised vectors always have the similarity -1
AT_A_TIME = 256  # rows whose pairs are compared


def run(args):
    """Print the table of similar tracks."""
    if (args.query is None) != args.pairs or (args.page and not args.pairs):
        raise UserError("pass either QUERY, or --pairs, perhaps with --page")
    for path, ending in ((args.out, ".csv"), (args.page, ".html")):
        if path:
            if path.suffix != ending:
                raise UserError(f"{path} must end in {ending}")
            if path.with_suffix("") == args.embeddings.with_suffix(""):
                raise UserError(f"{path} is a file of {args.embeddings}: choose another name")
            check_output(path)
    paths, durations, values, settings = read_embeddings(args.embeddings)
    if args.pairs:
        title = f"Most similar pairs of the {len(paths)} files in {args.embeddings}"
        closest = closest_pairs(unit_layers(values, args.features), args.top)
        pairs = [(s, paths[i], paths[j]) for s, i, j in closest]
        columns = ("rank", "similarity", "path", "path2")
        table = [(place, f"{s:.4f}", *both) for place, (s, *both) in enumerate(pairs, start=1)]
        shape = "{:>6}  {:>10}  {}  {}"
    else:
        query = find_row(paths, printable(args.query))
        if query is None:
            query, values = len(paths), np.vstack([values, _embed(args, paths, settings)[None]])
        elif args.model:
            print("the query is among the embeddings: --model is not used", file=sys.stderr)
        title = f"Most similar to {paths[query] if query < len(paths) else args.query}"
        ranked = rank(unit_layers(values, args.features), query, args.top)
        columns = ("rank", "similarity", "seconds", "path")
        table = [
            (place, f"{similarity:.4f}", f"{durations[row]:.1f}", paths[row])
            for place, (row, similarity) in enumerate(ranked, start=1)
        ]
        shape = "{:>6}  {:>10}  {:>8}  {}"
    if args.out:
        write_together({args.out: csv_text(table, columns)})
    print(f"{escaped(title)} ({values.shape[-1]} dimensions, {args.features}):")
    for line in [columns, *table]:
        print(shape.format(*map(escaped, line)))
    if args.page:
        write_together({args.page: pairs_page(title, pairs)})
        print(f"wrote {escaped(args.page)}")


def unit_layers(values, features):
    """Layers of (N, D) or (N, L, D) embeddings, each (N, D) of length 1; see `layer_vectors`."""
    if len(values) < MIN_FILES:
        raise UserError(f"{len(values)} files cannot be ranked: embed {MIN_FILES} or more")
    if not np.isfinite(values).all():
        raise UserError("embeddings are not finite: embed the files again")
    return layer_vectors(values.reshape(len(values), -1, values.shape[-1]), features)


def rank(layers, query, top):
    """(row, similarity) of the embeddings most similar to row `query`; layers: `unit_layers`."""
    # For one vector einsum is twice as fast as the product of matrices.
    similarities = np.mean([np.einsum("nd,d->n", v, v[query]) for v in layers], axis=0)
    similarities[query] = -np.inf
    top = min(top, len(similarities) - 1)
    rows = np.flatnonzero(similarities >= np.partition(similarities, -top)[-top])
    order = rows[np.argsort(-similarities[rows], kind="stable")]
    return [(row, similarities[row]) for row in order[:top]]


def closest_pairs(layers, top):
    """(similarity, row, row) of the most similar pairs of embeddings; layers: `unit_layers`."""
    found = []
    for begin in range(0, len(layers[0]), AT_A_TIME):
        similar = np.mean([v[begin : begin + AT_A_TIME] @ v[begin:].T for v in layers], axis=0)
        similar[np.tril_indices(len(similar))] = -np.inf  # each pair once
        best = np.argpartition(-similar, min(top, similar.size) - 1, axis=None)[:top]
        rows, columns = np.unravel_index(best, similar.shape)
        found += zip(similar[rows, columns], begin + rows, begin + columns, strict=True)
        found = sorted(found, key=lambda pair: (-pair[0], *pair[1:]))[:top]
    return [pair for pair in found if np.isfinite(pair[0])]


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
    if args.model is None and settings["source"] != SHIPPED_NAME:
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
            f"{args.model or SHIPPED_NAME} is not the model that made {args.embeddings}: pass "
            f"{settings['source']} ({settings['model']}) with its --dtype, or embed again"
        )
    return encoder.encode_file(args.query, **{name: settings[name] for name in OPTIONS}).values
