"""NSynth pitch: which of 128 MIDI pitches a note of 4 s has.

python recipes/nsynth_pitch/train.py hparams/nsynth_pitch.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.nsynth import PITCHES
from speechbrain_music.metrics.tasks import SingleLabel
from speechbrain_music.utils.errors import run_recipe


class PitchBrain(ProbeBrain):
    """One of 128 pitches a note."""

    task = SingleLabel("pitch", map(str, PITCHES))


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        PitchBrain,
        partial(prepare_or_synthesize, "nsynth"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
