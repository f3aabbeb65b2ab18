"""Bootstrap over tracks and encoders, paired comparisons, and the score across tasks."""

from itertools import combinations

import numpy as np

LEVEL = 0.05  # of significance
POOLED = 20  # seed of the draws of a spread that several systems share


def draw_counts(tracks, resamples=1000, seed=0):
    """How often each of N tracks is in each of R resamples: (R, N) int32, each row sums to N.

    A resample draws N tracks with replacement. Figures that are compared share one seed.
    """
    if tracks < 1 or resamples < 1:
        raise ValueError(f"{tracks} tracks and {resamples} resamples: both must be 1 or more")
    rng = np.random.default_rng(seed)
    return rng.multinomial(tracks, np.full(tracks, 1 / tracks), size=resamples).astype(np.int32)


def interval(values):
    """The 95% percentile interval, as a dict with low and high, of resampled values (R,).

    Raises ValueError if all are nan.
    """
    bounds = np.percentile(_defined(values), [2.5, 97.5]).tolist()
    return dict(zip(("low", "high"), bounds, strict=True))


def score(task, figures, chance):
    """A task's part of the score across tasks: 0 at chance, 1 at best.

    The mean of (metric - chance) / (1 - chance) over its scored metrics; a figure under the task's
    floor counts as the floor. figures and chance: metric -> float; figures may be (R,) arrays of
    resampled values, as is then the result. Raises ValueError if a chance is 1.
    """
    levels = [chance[metric] for metric in task.scored]
    if max(levels) >= 1:
        raise ValueError(f"chance is {max(levels)}; it must be below 1 for anything to be better")
    parts = [
        (np.maximum(figures[metric], task.floor) - level) / (1 - level)
        for metric, level in zip(task.scored, levels, strict=True)
    ]
    mean = np.mean(parts, axis=0)
    return mean if mean.ndim else float(mean)


def paired_p(differences):
    """Two-sided bootstrap p-value of a difference, from its resampled values (R,), nan left out.

    Twice the smaller share of values on one side of 0, counting one more value on each side: no
    number of resamples shows p = 0. Raises ValueError if all are nan.
    """
    values = _defined(differences)
    tail = min((values <= 0).sum(), (values >= 0).sum())
    return min(1.0, float(2 * (tail + 1) / (len(values) + 1)))


def holm(p_values):
    """Holm's adjustment for several tests: dict name -> p to dict name -> adjusted p."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.get)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def compare(scores):
    """Differences between any two systems, task by task and overall.

    scores: system -> task -> (value, (R,) resampled values), on the same resamples for all systems.
    Returns a dict for each pair: first, second, and for each task that both have, and "all tasks"
    (the mean of them): difference (first - second), low, high (95% interval), p, of tasks after
    Holm's correction over them, and differs: p is under 0.05.
    """

    def described(value, drawn, p):
        return {"difference": value, **interval(drawn), "p": p, "differs": p < LEVEL}

    pairs = []
    for first, second in combinations(scores, 2):
        shared = [task for task in scores[first] if task in scores[second]]
        if not shared:
            continue
        one, two = scores[first], scores[second]
        value = {task: one[task][0] - two[task][0] for task in shared}
        # Rounded: a resample without a track on which they differ has no difference.
        drawn = {task: np.round(one[task][1] - two[task][1], 12) for task in shared}
        corrected = holm({task: paired_p(drawn[task]) for task in shared})
        tasks = {task: described(value[task], drawn[task], corrected[task]) for task in shared}
        overall = np.mean(list(drawn.values()), axis=0)
        whole = described(float(np.mean(list(value.values()))), overall, paired_p(overall))
        pairs.append({"first": first, "second": second, "tasks": tasks, "all tasks": whole})
    return pairs


def recentred(values, value):
    """Resampled values (R,) moved so that their mean is the figure `value`; nan stays.

    A resample holds tracks twice, which raises figures such as average precision: the percentiles
    of its values lie too high by that bias. A bias within four standard errors of the mean is none:
    figures of unbiased metrics stay as they are, so that equal systems stay equal.
    """
    defined = _defined(values)
    bias = np.mean(defined) - value
    return np.asarray(values) - bias * (abs(bias) > 4 * np.std(defined) / len(defined) ** 0.5)


def over_encoders(values, rng, others=()):
    """Resampled figures of a system of which several encoders were trained (seeds).

    `values` (E, R) are each encoder's figures on the same resamples of tracks. The result (R,) is
    their mean plus an error of the mean over encoders: Student's t with E - 1 degrees of freedom
    times s / sqrt(E), as E encoders hardly show their own spread s. Encoders drawn with replacement
    would have (E - 1) / E of its variance. The error is linear in `values`: with equal states of
    `rng` the results of several tasks can be added.

    `others` are the `values` of systems whose encoders are assumed to spread alike: s is pooled
    over all, with as many degrees of freedom as they have together. Results of systems that are
    pooled, each with an `rng` of its own, can be subtracted.
    """
    groups = [np.asarray(group, dtype=float) for group in (values, *others)]
    mean, encoders = groups[0].mean(axis=0), len(groups[0])
    if encoders == 1:
        return mean
    residuals = np.concatenate([group - group.mean(axis=0) for group in groups])
    degrees = len(residuals) - len(groups)
    spread = np.random.default_rng(POOLED) if others else rng  # pooled: the same s for all
    weights = rng.standard_normal(residuals.shape)
    weights /= np.sqrt(encoders * spread.chisquare(degrees, residuals.shape[1]))
    return mean + (weights * residuals).sum(axis=0)


def _defined(values):
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("all resampled values are nan: the figure is not defined in any resample")
    return values
