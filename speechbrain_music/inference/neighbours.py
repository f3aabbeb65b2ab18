"""Which of many files are most similar to one."""

import os
from difflib import get_close_matches
from pathlib import PurePath

import numpy as np

from speechbrain_music.metrics.retrieval import unit_vectors
from speechbrain_music.utils.errors import UserError

LEAST = 3  # two standardised files are always each other's opposite


def nearest(values, query, top):
    """The files most similar to one, by the cosine of standardised embeddings.

    Arguments
    ---------
    values : np.ndarray
        (N, D), or (N, L, D) of several layers, which weigh the same.
    query : int
        A row, which is left out.
    top : int
        How many are wanted.

    Returns
    -------
    rows : np.ndarray
        (min(top, N - 1),) int, the most similar first.
    similarities : np.ndarray
        As many, in [-1, 1].

    Raises
    ------
    UserError
        If there are fewer than three files.

    Example
    -------
    >>> rows, similarities = nearest(np.array([[0, 0], [5, 4], [0, 1], [4, 5]]), query=1, top=2)
    >>> rows.tolist(), similarities.round(2).tolist()
    ([3, 0], [0.89, -0.94])
    """
    if len(values) < LEAST:
        raise UserError(f"{len(values)} files cannot be ranked: embed {LEAST} or more")
    layers = values[:, None] if values.ndim == 2 else values
    similarities = np.zeros(len(values))
    for place in range(layers.shape[1]):
        vectors = unit_vectors(layers[:, place])
        similarities += vectors @ vectors[query] / layers.shape[1]
    order = np.argsort(-similarities, kind="stable")
    rows = order[order != query][:top]
    return rows, similarities[rows]


def find(paths, query):
    """The row of a file: by its path, by the same place, by how its path ends, or by its name.

    Returns None if there is none; raises UserError if several end so.

    Example
    -------
    >>> paths = ["cd 1/a.wav", "cd 2/a.wav", "cd 2/b.wav"]
    >>> find(paths, "cd 2/a.wav"), find(paths, "b.wav"), find(paths, "b"), find(paths, "c.wav")
    (1, 2, 2, None)
    """
    if query in paths:
        return paths.index(query)
    places = [os.path.abspath(path) for path in paths]
    if os.path.abspath(query) in places:
        return places.index(os.path.abspath(query))
    if os.path.exists(query):  # another file that has the same name
        return None
    parts = PurePath(query).parts
    rows = [
        row
        for row, path in enumerate(map(PurePath, paths))
        if path.parts[-len(parts) :] == parts or path.stem == query
    ]
    if len(rows) > 1:
        shown = ", ".join(paths[row] for row in rows[:3])
        raise UserError(f"{query} is the end of {len(rows)} paths ({shown} ...): give more of it")
    return rows[0] if rows else None


def closest(paths, query):
    """At most three paths whose names are near to what was given, else the first ones.

    Example
    -------
    >>> closest(["cd 1/a.wav", "cd 2/trumpet.wav"], "trumpt")
    ['cd 2/trumpet.wav']
    """
    names = {PurePath(path).stem.lower(): path for path in reversed(paths)}
    word = PurePath(query).stem.lower()
    holding = [name for name in names if word in name]
    near = holding or get_close_matches(word, names, cutoff=0.5)
    return [names[name] for name in near[:3]] or paths[:3]
