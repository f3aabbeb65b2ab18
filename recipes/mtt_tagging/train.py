"""MagnaTagATune tagging: which of fifty tags a clip of 29 s has.

python recipes/mtt_tagging/train.py hparams/mtt_tagging.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.magnatagatune import TAGS
from speechbrain_music.metrics.tasks import MultiLabel
from speechbrain_music.utils.errors import run_recipe


class TaggingBrain(ProbeBrain):
    """Any of fifty tags a clip."""

    task = MultiLabel("tags", TAGS)


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        TaggingBrain,
        partial(prepare_or_synthesize, "magnatagatune"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
