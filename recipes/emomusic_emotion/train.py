"""EmoMusic emotion: how arousing and how pleasant a clip of 45 s is.

python recipes/emomusic_emotion/train.py hparams/emomusic_emotion.yaml --encoder EXPORT

--data_folder names the data set's folder; without it a replica is made, once, and used. Any
top-level key of the yaml is an option. README.md has the protocol.
"""

from functools import partial
from pathlib import Path

from speechbrain_music.brains.evaluation import evaluate
from speechbrain_music.brains.probe import ProbeBrain
from speechbrain_music.data_prep.emomusic import EMOTIONS
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.metrics.tasks import Regression
from speechbrain_music.utils.errors import run_recipe


class EmotionBrain(ProbeBrain):
    """Arousal and valence of a clip, answered over its windows of 5 s."""

    task = Regression([f"{name}_z" for name in EMOTIONS])


def main(argv):
    """Judges an encoder on this task; see this file's head for the arguments."""
    return evaluate(
        argv,
        EmotionBrain,
        partial(prepare_or_synthesize, "emomusic"),
        published=Path(__file__).with_name("published.csv"),
    )


if __name__ == "__main__":
    run_recipe(main)
