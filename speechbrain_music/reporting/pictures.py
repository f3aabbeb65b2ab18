"""Atomically written pictures."""

from contextlib import contextmanager

from matplotlib.figure import Figure

from speechbrain_music.utils.atomic import atomic_file


@contextmanager
def picture(path, size):
    """Yields a matplotlib Figure of (width, height) inches and saves it as a PNG at the end."""
    figure = Figure(figsize=size, layout="constrained")
    yield figure
    with atomic_file(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
