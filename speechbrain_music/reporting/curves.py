"""`curves.png`: the figures of a training run by optimiser step."""

from pathlib import Path

from speechbrain_music.metrics.pretraining import HELD_OUT
from speechbrain_music.reporting.pictures import picture
from speechbrain_music.reporting.run_log import read_rows

# Title -> lines of one panel: (kind of row, key, label).
OPTIMIZER = {
    "learning rate": [("train", "learning_rate", None)],
    "gradient norm before clipping": [("train", "gradient_norm", None)],
}
CODES = [("valid", "codes_used", "codes used"), ("valid", "perplexity", "perplexity")]


def with_baselines(key, baselines=()):
    """Lines of a figure, held-out and in training, and of its baselines (key -> label)."""
    own = [("valid", key, "held-out"), ("train", key, "training")]
    return own + [("valid", *baseline) for baseline in dict(baselines).items()]


PANELS = {f"{title} on masked tokens": with_baselines(*lines) for title, *lines in HELD_OUT}
PANELS |= {**OPTIMIZER, "codebook on held-out tracks": CODES}
# Styles of a panel's lines: held-out, training, baselines.
MODEL, TRAINING = {"linewidth": 1.6}, {"linewidth": 0.9}
BASELINE = {"linestyle": "--", "linewidth": 1}


def draw_curves(folder, title, panels=PANELS):
    """Draws the log of a run's folder into its `curves.png`: six panels, each as in `PANELS`."""
    rows = {kind: read_rows(folder, kind) for kind in ("train", "valid")}
    with picture(Path(folder) / "curves.png", (13, 7)) as figure:
        figure.suptitle(title)
        for axes, (name, lines) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
            for number, (kind, key, label) in enumerate(lines):
                points = [(row["step"], row[key]) for row in rows[kind] if row.get(key) is not None]
                if points:
                    style = BASELINE if number > 1 else MODEL if kind == "valid" else TRAINING
                    marker = "." if len(points) < 40 else None  # one point is no line
                    axes.plot(*zip(*points, strict=True), label=label, marker=marker, **style)
            axes.set_title(name, fontsize=10)
            axes.set_xlabel("optimiser step", fontsize=9)
            axes.grid(alpha=0.3)
            axes.margins(y=0.15)  # room for the legend
            if any(label for *_, label in lines) and axes.lines:
                axes.legend(fontsize=8, framealpha=0.6)
