"""The tasks: one registry for recipes/marble.py, the experiments and the pages."""

from typing import NamedTuple


class TaskEntry(NamedTuple):
    """A task: its recipe, its yaml and its data set."""

    name: str
    data_set: str  # of speechbrain_music.data_prep

    @property
    def folder(self):
        """The recipe's folder, of the task's name; frame tasks of one kind share one."""
        kind = self.name.rpartition("_")[2]
        return kind if kind in FRAME_TASKS else self.name

    @property
    def recipe(self):
        """The recipe's module."""
        return f"recipes.{self.folder}.train"

    @property
    def yaml(self):
        """The experiment, relative to the checkout."""
        return f"hparams/{self.name}.yaml"


FRAME_TASKS = ("beats", "chords", "structure")
DATA_SETS = {
    "mtt_tagging": "magnatagatune",
    "giantsteps_key": "giantsteps",
    "gtzan_genre": "gtzan",
    "emomusic_emotion": "emomusic",
    "nsynth_pitch": "nsynth",
    "nsynth_instrument": "nsynth",
    "vocalset_singer": "vocalset",
    "vocalset_technique": "vocalset",
    "gtzan_beats": "beats",
    "rwc_chords": "rwc",
    "guitarset_chords": "guitarset",
    "harmonix_structure": "harmonix",
    "rwc_structure": "rwc",
}
TASKS = {name: TaskEntry(name, data_set) for name, data_set in DATA_SETS.items()}


def find_task(name):
    """The entry of a task; a task of the user's own has its name as data set."""
    return TASKS.get(name) or TaskEntry(name, name)
