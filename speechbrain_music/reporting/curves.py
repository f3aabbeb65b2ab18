"""`curves.png`: a training run at a glance."""

from speechbrain_music.reporting.pictures import picture

# Held-out figures share a panel with the trivial predictors that they must beat.
PANELS = {
    "cross-entropy (nats)": [
        ("valid", "cross_entropy", "held-out"),
        ("train", "cross_entropy", "training"),
        ("valid", "cross_entropy_unigram", "unigram"),
        ("valid", "cross_entropy_bigram", "bigram from nearest visible"),
    ],
    "accuracy on masked tokens": [
        ("valid", "accuracy", "held-out"),
        ("train", "accuracy", "training"),
        ("valid", "accuracy_most_frequent", "commonest token"),
        ("valid", "accuracy_copy", "copy of nearest visible"),
    ],
    "mel error on masked tokens": [
        ("valid", "mel_mse", "held-out"),
        ("train", "mel_mse", "training"),
        ("valid", "mel_mse_item_mean", "clip's mean"),
        ("valid", "mel_mse_interpolation", "interpolation"),
    ],
    "learning rate": [("train", "learning_rate", None)],
    "gradient norm before clipping": [("train", "gradient_norm", None)],
    "codebook on held-out tracks": [
        ("valid", "codes_used", "codes used"),
        ("valid", "perplexity", "perplexity"),
    ],
}
BASELINE = {"linestyle": "--", "linewidth": 1}


def draw_curves(log, path, title, panels=PANELS):
    """Draws all rows of a `RunLog` into a PNG.

    Arguments
    ---------
    log : RunLog
        With rows of kinds train and valid.
    path : path
        Of the picture.
    title : str
        Above it.
    panels : dict
        Title -> lines of one of six panels: (kind of row, figure, label).

    Example
    -------
    >>> import os
    >>> from tempfile import TemporaryDirectory
    >>> from types import SimpleNamespace
    >>> log = SimpleNamespace(rows=lambda kind: [{"step": 10, "accuracy": 0.5}])
    >>> with TemporaryDirectory() as folder:
    ...     draw_curves(log, f"{folder}/curves.png", "a run of one row")
    ...     os.listdir(folder)
    ['curves.png']
    """
    rows = {kind: log.rows(kind) for kind in ("train", "valid")}
    with picture(path, (13, 7)) as figure:
        figure.suptitle(title)
        for axes, (name, lines) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
            for number, (kind, key, label) in enumerate(lines):
                points = [(row["step"], row[key]) for row in rows[kind] if row.get(key) is not None]
                if points:
                    style = (
                        BASELINE if number > 1 else {"linewidth": 1.6 if kind == "valid" else 0.9}
                    )
                    marker = "." if kind == "valid" and number < 2 and len(points) < 40 else None
                    axes.plot(*zip(*points, strict=True), label=label, marker=marker, **style)
            axes.set_title(name, fontsize=10)
            axes.set_xlabel("optimiser step", fontsize=9)
            axes.grid(alpha=0.3)
            axes.margins(y=0.15)  # room for the legend
            if any(label for *_, label in lines) and axes.lines:
                axes.legend(fontsize=8, framealpha=0.6)
