"""Draw docs/system.svg, the picture of the system: python docs/draw_system.py"""

from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.patches import FancyBboxPatch

OUT = Path(__file__).with_name("system.svg")
BLUE, GREEN, ORANGE, GREY = "#dbe7fb", "#dcf1df", "#fde8d0", "#ececec"
BOXES = {  # name: centre x, centre y, width, colour, text
    "audio": (0.9, 2.6, 1.3, GREY, "audio\nmono, 24 kHz"),
    "mel": (2.8, 2.6, 1.7, BLUE, "log-mel\n128 bands, 100 Hz"),
    "mask": (4.9, 2.6, 1.7, BLUE, "mask\n400 ms blocks, 20%"),
    "encoder": (
        7.2,
        2.6,
        2.3,
        GREEN,
        "encoder\nfront-end (25 Hz), 12 blocks\nSummaryMixing or attention",
    ),
    "tokens": (9.9, 3.3, 1.9, BLUE, "token head\n8192 classes"),
    "reconstruction": (9.9, 1.9, 1.9, BLUE, "mel head\n4 x 128 values"),
    "quantizer": (4.9, 4.3, 2.5, GREY, "frozen quantizer\nrandom projection, 8192 x 16"),
    "cross_entropy": (12.4, 3.3, 1.8, ORANGE, "cross-entropy\nmasked tokens"),
    "mse": (12.4, 1.9, 1.8, ORANGE, "mel MSE\nmasked log-mel"),
    "export": (7.2, 0.75, 2.1, GREEN, "export\nembeddings, probes"),
}
HEIGHT = 0.9
ARROWS = [  # points of each polyline; the last has the head
    [("audio", "right"), ("mel", "left")],
    [("mel", "right"), ("mask", "left")],
    [("mask", "right"), ("encoder", "left")],
    [("encoder", "right"), (8.6, 2.6), (8.6, 3.3), ("tokens", "left")],
    [("encoder", "right"), (8.6, 2.6), (8.6, 1.9), ("reconstruction", "left")],
    [("tokens", "right"), ("cross_entropy", "left")],
    [("reconstruction", "right"), ("mse", "left")],
    [("mel", "top"), (2.8, 4.3), ("quantizer", "left")],
    [("quantizer", "right"), (12.4, 4.3), ("cross_entropy", "top")],
    [("mel", "bottom"), (2.8, 0.1), (12.4, 0.1), ("mse", "bottom")],
    [("encoder", "bottom"), ("export", "top")],
]


def point(spec):
    """Coordinates of a point or of the middle of a box's side."""
    if not isinstance(spec[0], str):
        return spec
    x, y, width, *_ = BOXES[spec[0]]
    across, up = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}[spec[1]]
    return x + across * width / 2, y + up * HEIGHT / 2


def draw():
    """The figure: boxes, arrows and two labels on the targets' lines."""
    figure, axes = pyplot.subplots(figsize=(13.6, 5.1))
    axes.set(xlim=(0, 13.6), ylim=(-0.15, 4.95))
    axes.set_axis_off()
    axes.set_position([0, 0, 1, 1])
    for x, y, width, colour, text in BOXES.values():
        corner = (x - width / 2, y - HEIGHT / 2)
        style = {"boxstyle": "round,pad=0,rounding_size=0.1", "facecolor": colour}
        axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, edgecolor="#555555", **style))
        name, _, rest = text.partition("\n")
        lift = 0.02 + 0.08 * rest.count("\n") if rest else 0
        axes.text(x, y + lift, name, ha="center", va="bottom", fontsize=12, weight="bold")
        axes.text(x, y + lift, rest, ha="center", va="top", fontsize=9.5, linespacing=1.35)
    for specs in ARROWS:
        points = [point(spec) for spec in specs]
        xs, ys = zip(*points[:-1], strict=True)
        axes.plot(xs, ys, color="#555555", linewidth=1.3)
        style = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", points[-1], points[-2], arrowprops=style)
    label = {"fontsize": 9.5, "color": "#555555", "va": "bottom"}
    axes.text(6.35, 4.33, "tokens: one per 40 ms", **label)
    axes.text(2.95, 0.13, "target of the reconstruction", **label)
    return figure


if __name__ == "__main__":
    matplotlib.rcParams.update({"svg.hashsalt": "system", "font.family": "DejaVu Sans"})
    draw().savefig(OUT, facecolor="white", metadata={"Date": None})
