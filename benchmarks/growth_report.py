"""Growth as a table and as a picture, of what `growth.measure` found and nothing else."""

from matplotlib.ticker import FormatStrFormatter

from benchmarks.cells import FORWARD, MEASURED, STEP, TRAINING
from benchmarks.timing import three_digits
from speechbrain_music.reporting.pictures import picture

COLOURS = {"summary": "tab:blue", "attention": "tab:red", "rope": "tab:orange"}
LINES = {TRAINING: "-", FORWARD: "--"}
PANELS = (  # a second of audio's figure, its unit, its title
    ("seconds", 1e3, "ms of computing a second of audio", "time"),
    ("bytes", 2**-20, "MiB of extra memory a second of audio", "memory"),
)


def per_second(cell):
    """A measured cell's figures for one second of its audio.

    Example
    -------
    >>> per_second({"seconds": 10, "call_seconds": {"median": 1.0}, "extra_bytes": 2**20 * 20})
    {'seconds': 0.1, 'bytes': 2097152.0}
    """
    return {
        "seconds": cell["call_seconds"]["median"] / cell["seconds"],
        "bytes": cell["extra_bytes"] / cell["seconds"],
    }


def tables(growth):
    """Markdown: time and memory a second of audio by mixing and length, then of a training step.

    Arguments
    ---------
    growth : dict
        With cells, as `growth.measure` gives them.

    Example
    -------
    >>> cell = {"what": "rope", "work": FORWARD, "seconds": 10, "outcome": "does not fit"}
    >>> print(tables({"cells": [cell]}))
    | ms of computing a second of audio | 10 s |
    |---|---:|
    | rope, forward | does not fit |
    <BLANKLINE>
    | MiB of extra memory a second of audio | 10 s |
    |---|---:|
    | rope, forward | does not fit |
    <BLANKLINE>
    """
    text = []
    for key, factor, title, _ in PANELS:
        lengths = sorted({cell["seconds"] for cell in growth["cells"]})
        text += [f"| {title} | " + " | ".join(f"{length} s" for length in lengths) + " |"]
        text += ["|---|" + "---:|" * len(lengths)]
        for (what, work), cells in _lines(growth).items():
            row = [_figure(cells.get(length), key, factor) for length in lengths]
            text += [f"| {what}, {work} | " + " | ".join(row) + " |"]
        text += [""]
    return "\n".join(text)


def _lines(growth):
    lines = {}
    for cell in growth["cells"]:
        lines.setdefault((cell["what"], cell["work"]), {})[cell["seconds"]] = cell
    return lines


def _figure(cell, key, factor):
    if cell is None:
        return ""
    if cell["outcome"] != MEASURED:
        return cell["outcome"]
    return three_digits(factor * per_second(cell)[key])


def draw(growth, path):
    """Draws time and memory a second of audio over its length into a PNG.

    A line that ends early ends with a cross and the reason.

    Arguments
    ---------
    growth : dict
        As growth.json has it: cells, encoder.
    path : path
        Of the picture.

    Example
    -------
    >>> cell = {"what": "rope", "work": FORWARD, "seconds": 10, "outcome": "does not fit"}
    >>> folder = getfixture("tmp_path")
    >>> draw({"cells": [cell], "encoder": {"num_layers": 2}}, folder / "growth.png")
    >>> [file.name for file in folder.iterdir()]
    ['growth.png']
    """
    lengths = sorted({cell["seconds"] for cell in growth["cells"] if cell["work"] != STEP})
    with picture(path, (12, 5.6)) as figure:
        panels = figure.subplots(1, 2)
        for axes, (key, factor, title, short) in zip(panels, PANELS, strict=True):
            axes.set_xscale("log")
            axes.set_yscale("log")
            for (what, work), cells in _lines(growth).items():
                if work != STEP:
                    _draw_line(axes, what, work, cells, key, factor)
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.set_xticks([], minor=True)
            axes.set_xlim(lengths[0] * 0.8, lengths[-1] * 2)
            for pick in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                pick(FormatStrFormatter("%g"))
            axes.tick_params(axis="y", which="minor", labelsize=7)
            axes.set_xlabel("length of the item (s of audio)")
            axes.set_ylabel(title)
            axes.set_title(f"{short} a second of audio: flat means linear growth", fontsize=10)
            axes.grid(alpha=0.3, which="both")
        if panels[0].lines:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
        layers = growth["encoder"]["num_layers"]
        figure.suptitle(f"Branchformer encoder of {layers} blocks, one item, by mixing")


def _draw_line(axes, what, work, cells, key, factor):
    points = [
        (length, factor * per_second(cell)[key])
        for length, cell in sorted(cells.items())
        if cell["outcome"] == MEASURED
    ]
    if not points:
        return
    colour = COLOURS[what]
    label = f"{what}, {work}"
    axes.plot(*zip(*points, strict=True), LINES[work], color=colour, marker=".", label=label)
    lost = [cell for _, cell in sorted(cells.items()) if cell["outcome"] != MEASURED]
    if lost:
        axes.plot(*points[-1], marker="x", ms=11, mew=2, color=colour)
        reason = f"  {lost[0]['seconds']} s: {lost[0]['outcome']}"
        axes.text(*points[-1], reason, color=colour, fontsize=8, va="bottom")
