"""NSynth instrument: which of eleven families a note of 4 s is played by.

python recipes/nsynth_instrument/train.py hparams/nsynth_instrument.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.nsynth import FAMILIES
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.utils.errors import run_recipe


class InstrumentBrain(ProbeBrain):
    """One of eleven families of instruments a note."""

    task = SingleLabel("family", FAMILIES)


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        InstrumentBrain,
        partial(prepare_or_synthesize, "nsynth"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
