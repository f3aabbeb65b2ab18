"""What the answers to a test split are worth: figures, their spread and interval, their classes."""

import numpy as np

from speechbrain_music.metrics.resampling import draw_counts, interval, over_encoders, score
from speechbrain_music.utils.errors import UserError


def resampled_figures(task, logits, answers, resamples=1000, seed=0, encoder_seed=0):
    """A system's figures on bootstrap resamples of the tracks.

    Arguments
    ---------
    task : Task
        Of `metrics.tasks`.
    logits : torch.Tensor
        (E, S, N, C) of E encoders, S probe seeds, N tracks.
    answers : torch.Tensor
        (N, ...) targets.
    resamples, seed : int
        The same give the same resamples of tracks: on them systems can be compared.
    encoder_seed : int
        The same draws the same encoders: tasks that share encoders can be added.

    Returns
    -------
    dict
        Metric -> (R,): means over probe seeds, and over E encoders drawn with replacement.

    Example
    -------
    >>> import torch
    >>> from speechbrain_music.metrics.tasks import SingleLabel
    >>> task, logits = SingleLabel("genre", ["blues", "jazz"]), torch.eye(2).view(1, 1, 2, 2)
    >>> drawn = resampled_figures(task, logits, torch.tensor([0, 0]), resamples=100)["accuracy"]
    >>> drawn.shape, sorted(set(drawn.tolist()))
    ((100,), [0.0, 0.5, 1.0])
    """
    counts = draw_counts(logits.shape[2], resamples, seed)
    probes = [[task.resampled(probe, answers, counts) for probe in system] for system in logits]
    return {
        metric: over_encoders(
            np.array([np.mean([probe[metric] for probe in seeds], axis=0) for seeds in probes]),
            np.random.default_rng(encoder_seed),
        )
        for metric in task.metrics
    }


def summarise(task, logits, answers, train_answers, resamples=1000):
    """The figures of a system on a task.

    Arguments
    ---------
    task, logits, answers, resamples
        As `resampled_figures`.
    train_answers : torch.Tensor
        Targets of the training tracks, for chance.

    Returns
    -------
    dict
        figures: metric -> mean and sd over encoders and probe seeds, low and high (95% bootstrap
        over tracks and encoders), chance. each: (E, S) dicts of figures. score: mean, low, high
        of what the task adds to a score across tasks. by_class: class -> means over encoders and
        seeds. confusion: (C, C) summed over them, or None. absent: classes with no test track.

    Raises
    ------
    UserError
        If these tracks leave a figure undefined.

    Example
    -------
    >>> import torch
    >>> from speechbrain_music.metrics.tasks import SingleLabel
    >>> task, truth = SingleLabel("genre", ["blues", "jazz"]), torch.tensor([0, 1, 1, 1])
    >>> answers = torch.tensor([[[0, 1, 1, 1], [0, 0, 1, 1]]])  # of one encoder's two probes
    >>> found = summarise(task, torch.eye(2)[answers], truth, torch.tensor([0, 0, 1]))
    >>> [found["figures"]["accuracy"][key] for key in ("mean", "chance")], found["confusion"]
    ([0.875, 0.25], [[2, 0], [1, 5]])
    """
    try:
        each = [[task.figures(probe, answers) for probe in probes] for probes in logits]
        chance = task.chance(train_answers, answers)
        drawn = resampled_figures(task, logits, answers, resamples)
        figures = {}
        for metric in task.metrics:
            values = np.array([[probe[metric] for probe in probes] for probes in each])
            low, high = interval(drawn[metric])
            figures[metric] = {
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if values.size > 1 else 0.0,
                "low": low,
                "high": high,
                "chance": chance[metric],
            }
        low, high = interval(score(task, drawn, chance))
    except ValueError as error:
        raise UserError(f"the test split cannot be judged: {error}") from error
    means = {metric: value["mean"] for metric, value in figures.items()}
    tables = [task.by_class(probe, answers) for probes in logits for probe in probes]
    confusions = [task.confusion(probe, answers) for probes in logits for probe in probes]
    return {
        "figures": figures,
        "each": each,
        "score": {"mean": score(task, means, chance), "low": low, "high": high},
        "by_class": {name: _mean([table[name] for table in tables]) for name in tables[0]},
        "confusion": None if confusions[0] is None else sum(confusions).tolist(),
        "absent": task.absent(answers),
    }


def _mean(rows):
    """Means of dicts of numbers; None where any is None."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    return {
        key: None if None in values else float(np.mean(values)) for key, values in columns.items()
    }
