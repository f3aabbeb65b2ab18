"""GTZAN genre: which of ten genres a clip of 30 s is.

python recipes/gtzan_genre/train.py hparams/gtzan_genre.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.gtzan import GENRES
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.utils.errors import run_recipe


class GenreBrain(ProbeBrain):
    """One of ten genres a clip."""

    task = SingleLabel("genre", GENRES)


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        GenreBrain,
        partial(prepare_or_synthesize, "gtzan"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
