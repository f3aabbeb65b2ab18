"""Atomically written pictures."""

from contextlib import contextmanager

from matplotlib.figure import Figure

from speechbrain_music.utils.atomic import atomic_file


@contextmanager
def picture(path, size=(8, 6)):
    """Yields a matplotlib Figure of (width, height) inches and saves it as a PNG at the end."""
    figure = Figure(figsize=size, layout="constrained")
    yield figure
    with atomic_file(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def draw_layers(figure, title, curves, ylabel, legend=None, chosen=(), chance=None):
    """Draws validation figures by layer: `curves` has a row per layer and a column per line.

    chosen: (layer, figure) of points to mark; chance: the height of a dashed line.
    """
    places = range(len(curves))
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(places, values, marker=".", label=name)
    if chosen:
        points = [(curves.index.get_loc(layer), value) for layer, value in chosen]
        axes.plot(*zip(*points, strict=True), "k*", markersize=12, label="chosen")
    if chance is not None:
        axes.axhline(chance, color="gray", linestyle="--", label="chance (test)")
    axes.set_xticks(places, curves.index)
    axes.set_title(title)
    mix = ", all a learned mix" if "all" in curves.index else ""
    axes.set_xlabel(f"layer (0 is the front-end{mix})")
    axes.set_ylabel(ylabel)
    axes.legend(title=legend, fontsize=8)
    axes.grid(alpha=0.3)
