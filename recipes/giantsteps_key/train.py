"""GiantSteps key: in which of 24 keys a track of electronic dance music is.

python recipes/giantsteps_key/train.py hparams/giantsteps_key.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.giantsteps import KEYS
from speechbrain_music.metrics.tasks import MusicalKey
from speechbrain_music.utils.errors import run_recipe


class KeyBrain(ProbeBrain):
    """One of 24 keys a track, answered over its clips of 30 s."""

    task = MusicalKey("key", KEYS)


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        KeyBrain,
        partial(prepare_or_synthesize, "giantsteps"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
