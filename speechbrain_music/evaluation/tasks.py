"""The tasks: one registry for recipes/marble.py, the experiments and the pages."""

from pathlib import Path
from typing import NamedTuple

import yaml

from speechbrain_music.utils.errors import UserError


class TaskEntry(NamedTuple):
    """A task of `recipes/<folder>/train.py` and `hparams/<name>.yaml`."""

    name: str
    folder: str
    data_set: str  # of speechbrain_music.data_prep

    @property
    def recipe(self):
        """The recipe's module."""
        return f"recipes.{self.folder}.train"

    @property
    def yaml(self):
        """The experiment, relative to the checkout."""
        return f"hparams/{self.name}.yaml"


with open(Path(__file__).with_suffix(".yaml"), encoding="utf-8") as _file:
    TASKS, MTG_TASKS, FRAME_TASKS, VERSION_TASKS = (
        {name: TaskEntry(name, **entry) for name, entry in part.items()}
        for part in yaml.safe_load(_file).values()
    )
ALL_TASKS = TASKS | MTG_TASKS | FRAME_TASKS | VERSION_TASKS


def find_task(name):
    """The entry of a task; a task of the user's own has its name as folder and data set."""
    return ALL_TASKS.get(name) or TaskEntry(name, name, name)


def existing_tasks(names, root):
    """The entries of tasks that the checkout `root` has; a UserError if one is not there."""
    for task in (entries := [find_task(name) for name in names]):
        if not (root / task.yaml).exists() or not (root / "recipes" / task.folder).is_dir():
            known = ", ".join([*ALL_TASKS, "labels"])
            raise UserError(f"there is no task {task.name!r}: choose from {known}")
    return entries
