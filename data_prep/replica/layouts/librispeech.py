"""LibriSpeech: `train-clean-100/1/100/1-100-0000.flac`, 16 kHz: random phones, three subsets."""

from speechbrain_music.data_prep.replica.draws import FIRST, PIECE, STYLE, keyed
from speechbrain_music.data_prep.replica.trees import Tree, published
from speechbrain_music.data_prep.replica.voice import make_singer, speak

SUBSETS = ("train-clean-100", "dev-clean", "test-clean")
PER_SPEAKER = 5  # utterances, in one chapter; fewer than the original's, for more speakers
SHORTEST, LONGEST = 4.0, 21.0  # seconds; the mean is about that of train-clean-100


def plan(scale, seed):
    """The tree at a share of the published counts; two utterances per subset or more."""
    counts = {name: published("librispeech", scale, 2, name) for name in SUBSETS}
    sounds = []
    for part, (subset, split) in enumerate(counts.items()):
        for index in range(sum(split.values())):
            speaker = index // PER_SPEAKER * len(SUBSETS) + part + 1
            name = f"{speaker}-{speaker}00-{index % PER_SPEAKER:04d}"
            sounds.append((f"{subset}/{speaker}/{speaker}00/{name}.flac", (seed, speaker, index)))
    return Tree(counts, {}, sounds, render, 16000)


def render(seed, speaker, index):
    """An utterance of 4 to 21 s."""
    rng = keyed(seed, PIECE, speaker, index, FIRST)
    voice = make_singer(str(speaker), keyed(seed, STYLE, speaker))
    return speak(voice, rng.uniform(SHORTEST, LONGEST), rng)
