"""VocalSet technique: which of ten techniques a recording is sung in.

python recipes/vocalset_technique/train.py hparams/vocalset_technique.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.vocalset import TECHNIQUES
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.utils.errors import run_recipe


class TechniqueBrain(ProbeBrain):
    """One of ten techniques a recording, answered over its chunks of 3 s."""

    task = SingleLabel("technique", TECHNIQUES)


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        TechniqueBrain,
        partial(prepare_or_synthesize, "vocalset", task="technique"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
