"""The tasks: one registry for recipes/marble.py, the experiments and the pages."""

from typing import NamedTuple


class TaskEntry(NamedTuple):
    """A task of `recipes/<name>/train.py` and `hparams/<name>.yaml`."""

    name: str
    data_set: str  # of speechbrain_music.data_prep

    @property
    def recipe(self):
        """The recipe's module."""
        return f"recipes.{self.name}.train"

    @property
    def yaml(self):
        """The experiment, relative to the checkout."""
        return f"hparams/{self.name}.yaml"


DATA_SETS = {
    "mtt_tagging": "magnatagatune",
    "giantsteps_key": "giantsteps",
    "gtzan_genre": "gtzan",
    "emomusic_emotion": "emomusic",
    "nsynth_pitch": "nsynth",
    "nsynth_instrument": "nsynth",
    "vocalset_singer": "vocalset",
    "vocalset_technique": "vocalset",
}
TASKS = {name: TaskEntry(name, data_set) for name, data_set in DATA_SETS.items()}


def find_task(name):
    """The entry of a task; a task of the user's own has its name as data set."""
    return TASKS.get(name) or TaskEntry(name, name)
