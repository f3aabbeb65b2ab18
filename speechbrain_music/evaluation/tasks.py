"""The tasks: one registry for recipes/marble.py, the experiments and the pages."""

from typing import NamedTuple


class TaskEntry(NamedTuple):
    """A task of `recipes/<folder>/train.py` and `hparams/<name>.yaml`."""

    name: str
    data_set: str  # of speechbrain_music.data_prep
    folder: str

    @property
    def recipe(self):
        """The recipe's module."""
        return f"recipes.{self.folder}.train"

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
FRAME_DATA_SETS = {
    "gtzan_beats": "beats",
    "rwc_chords": "rwc",
    "guitarset_chords": "guitarset",
    "harmonix_structure": "harmonix",
    "rwc_structure": "rwc",
}
# The paper's eight tasks on whole clips; a data set of several has one recipe for them.
_USED = list(DATA_SETS.values())
TASKS = {n: TaskEntry(n, d, d if _USED.count(d) > 1 else n) for n, d in DATA_SETS.items()}
FRAME_TASKS = {  # by the frame, on whole tracks
    name: TaskEntry(name, data_set, name.rpartition("_")[2])
    for name, data_set in FRAME_DATA_SETS.items()
}
VERSION_TASKS = {"covers": TaskEntry("covers", "covers", "covers")}  # of retrieval
ALL_TASKS = TASKS | FRAME_TASKS | VERSION_TASKS


def find_task(name):
    """The entry of a task; a task of the user's own has its name as folder and data set."""
    return ALL_TASKS.get(name) or TaskEntry(name, name, name)
