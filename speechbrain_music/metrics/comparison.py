"""Paired comparison of systems on the same resamples, corrected for many tests."""

from itertools import combinations

import numpy as np

from speechbrain_music.metrics.resampling import holm, interval, paired_p

LEVEL = 0.05


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
