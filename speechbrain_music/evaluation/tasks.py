"""The tasks: one registry for recipes/marble.py, the experiments and the pages.

Needs the extra [probe].
"""

from typing import NamedTuple

from speechbrain_music.metrics.tasks import MultiLabel, MusicalKey, Regression, SingleLabel


class TaskEntry(NamedTuple):
    """A task of `recipes/<name>/train.py` and `hparams/<name>.yaml`."""

    name: str
    data_set: str  # of speechbrain_music.data_prep
    kind: type | None  # class of the yaml's `task`; None: only the yaml tells
    metrics: tuple  # keys of the figures in results.json

    @property
    def recipe(self):
        """The recipe's module."""
        return f"recipes.{self.name}.train"

    @property
    def yaml(self):
        """The experiment, relative to the checkout."""
        return f"hparams/{self.name}.yaml"


TASKS = {
    entry.name: entry
    for entry in (
        TaskEntry("mtt_tagging", "magnatagatune", MultiLabel, MultiLabel.metrics),
        TaskEntry("giantsteps_key", "giantsteps", MusicalKey, MusicalKey.metrics),
        TaskEntry("gtzan_genre", "gtzan", SingleLabel, SingleLabel.metrics),
        TaskEntry("emomusic_emotion", "emomusic", Regression, ("r2_arousal", "r2_valence")),
        TaskEntry("nsynth_pitch", "nsynth", SingleLabel, SingleLabel.metrics),
        TaskEntry("nsynth_instrument", "nsynth", SingleLabel, SingleLabel.metrics),
        TaskEntry("vocalset_singer", "vocalset", SingleLabel, SingleLabel.metrics),
        TaskEntry("vocalset_technique", "vocalset", SingleLabel, SingleLabel.metrics),
    )
}


def find_task(name):
    """The entry of a task; a task of the user's own has its name as data set.

    Example
    -------
    >>> find_task("nsynth_pitch").data_set, find_task("chord_quality").data_set
    ('nsynth', 'chord_quality')
    """
    return TASKS.get(name) or TaskEntry(name, name, None, ())
