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


def _entries(*rows):
    return {name: TaskEntry(name, data_set, folder) for name, data_set, folder in rows}


TASKS = _entries(  # the paper's eight tasks, on whole clips
    ("mtt_tagging", "magnatagatune", "tagging"),
    ("giantsteps_key", "giantsteps", "giantsteps_key"),
    ("gtzan_genre", "gtzan", "gtzan_genre"),
    ("emomusic_emotion", "emomusic", "emomusic_emotion"),
    ("nsynth_pitch", "nsynth", "nsynth"),
    ("nsynth_instrument", "nsynth", "nsynth"),
    ("vocalset_singer", "vocalset", "vocalset"),
    ("vocalset_technique", "vocalset", "vocalset"),
)
MTG_TASKS = _entries(  # MARBLE's other tasks of this kind
    ("mtg_genre", "mtg_tagging", "tagging"),
    ("mtg_instrument", "mtg_tagging", "tagging"),
    ("mtg_mood", "mtg_tagging", "tagging"),
    ("mtg_top50", "mtg_tagging", "tagging"),
)
FRAME_TASKS = _entries(  # by the frame, on whole tracks
    ("gtzan_beats", "beats", "beats"),
    ("rwc_chords", "rwc", "chords"),
    ("guitarset_chords", "guitarset", "chords"),
    ("harmonix_structure", "harmonix", "structure"),
    ("rwc_structure", "rwc", "structure"),
)
VERSION_TASKS = _entries(("covers", "covers", "covers"))  # of retrieval
ALL_TASKS = TASKS | MTG_TASKS | FRAME_TASKS | VERSION_TASKS


def find_task(name):
    """The entry of a task; a task of the user's own has its name as folder and data set."""
    return ALL_TASKS.get(name) or TaskEntry(name, name, name)
