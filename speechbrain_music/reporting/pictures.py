"""Pictures on disk, whole or not at all."""

from contextlib import contextmanager

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from speechbrain_music.utils.atomic import atomic_file


@contextmanager
def picture(path, size):
    """Yields a matplotlib Figure of (width, height) inches, which becomes a PNG at the end.

    Example
    -------
    >>> with picture(getfixture("tmp_path") / "line.png", (3, 2)) as figure:
    ...     _ = figure.subplots().plot([0, 1])
    >>> [path.name for path in getfixture("tmp_path").iterdir()]
    ['line.png']
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with atomic_file(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
