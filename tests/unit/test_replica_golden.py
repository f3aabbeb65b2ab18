"""What a seed gives stays the same for one `GENERATOR`; a changed output needs a new number.

After an intended change raise `GENERATOR` in data_prep/replica/__init__.py and renew the golden:

python tests/unit/test_replica_golden.py
"""

import hashlib
import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest

from speechbrain_music.data_prep.replica import GENERATOR, layouts
from speechbrain_music.data_prep.replica.compose import compose
from speechbrain_music.data_prep.replica.corpus import CorpusPlan
from speechbrain_music.data_prep.replica.draws import keyed
from speechbrain_music.data_prep.replica.genres import GENRES
from speechbrain_music.data_prep.replica.layouts.nsynth import (
    FAMILIES,
    VELOCITIES,
    make_note,
    playable,
)
from speechbrain_music.data_prep.replica.synth import load_bank
from speechbrain_music.data_prep.replica.voice import TECHNIQUES, make_singer, sing

GOLDEN = Path(__file__).parents[1] / "golden/replica.json"
TOLERANCE = 0.05  # dB; what libraries of another machine may change


def digest(value):
    """Hash of JSON values, with floats to 3 decimals: the same on every machine."""

    def rounded(value):
        if isinstance(value, float):
            return f"{value:.3f}"
        if isinstance(value, dict):
            return {str(key): rounded(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(part) for part in value]
        return value

    return hashlib.sha256(json.dumps(rounded(value)).encode()).hexdigest()[:16]


def statistics(wave):
    """Level of each quarter of a wave and of four bands of its spectrum, in dB."""
    quarters = [np.mean(part**2) for part in np.array_split(wave.astype(float), 4)]
    power = np.abs(np.fft.rfft(wave.astype(float))) ** 2 / len(wave) ** 2
    bands = [part.sum() for part in np.split(power, [len(power) // n for n in (32, 8, 2)])]
    return [round(float(level), 2) for level in 10 * np.log10([*quarters, *bands])]


def scores():
    """Name -> hash of annotations and notes of tracks, and of each layout's tables and keys."""
    plan, bank, found = CorpusPlan(per_artist=1), load_bank(), {}
    for index, genre in enumerate(GENRES):
        artist = plan.artist(index)
        pieces = [compose(artist, 15.0 + 30 * n, keyed(n, index), bank, n or None) for n in (0, 1)]
        found[genre] = digest([vars(artist), *(piece.truth() for piece in pieces)])
    for name in sorted({module.name for module in pkgutil.iter_modules(layouts.__path__)}):
        tree = layout(name).plan(0.0001, seed=0)
        found[f"layout {name}"] = digest([tree.counts, tree.texts, tree.sounds, tree.folders])
    return found


def waves():
    """Name -> statistics of rendered tracks, notes and songs, and of a piece of some layouts."""
    plan = CorpusPlan(shortest=4.0, longest=6.0)
    found = {f"track {index}": plan.track(index)[0] for index in (0, 3, 6)}
    rng, bank = np.random.default_rng(0), load_bank()
    programs = playable(bank, str(rng.choice(list(FAMILIES))))
    program = int(rng.choice(list(programs)))
    pitch, velocity = rng.choice(programs[program]), rng.choice(VELOCITIES)
    found["note"] = make_note(rng, bank, program, pitch, velocity)
    for technique in TECHNIQUES:
        rng = np.random.default_rng(0)
        found[technique] = sing(make_singer("s", rng), technique, [(55, 0.4), (59, 0.3)], "e", rng)
    for name in ("nsynth", "vocalset", "gtzan", "magnatagatune", "librispeech"):
        tree = layout(name).plan(0.0001, seed=0)
        found[f"layout {name}"] = tree.render(*tree.sounds[0][1])
    return {name: statistics(wave) for name, wave in found.items()}


def layout(name):
    return importlib.import_module(f"speechbrain_music.data_prep.replica.layouts.{name}")


@pytest.fixture(scope="module")
def golden():
    golden = json.loads(GOLDEN.read_text())
    assert golden["generator"] == GENERATOR, "a new generator: renew the golden as this file says"
    return golden


def test_scores_and_tables_are_those_of_this_generator(golden):
    changed = {name for name, value in scores().items() if golden["scores"].get(name) != value}
    assert not changed, "the output changed: raise GENERATOR and renew the golden"


def test_audio_is_that_of_this_generator(golden):
    found = waves()
    assert found.keys() == golden["waves"].keys()
    changed = {
        name
        for name, levels in found.items()
        if np.abs(np.subtract(levels, golden["waves"][name])).max() > TOLERANCE
    }
    assert not changed, "the output changed: raise GENERATOR and renew the golden"


if __name__ == "__main__":
    layouts.__path__.append(str(GOLDEN.parents[1] / "layouts"))  # as conftest.py does
    golden = {"generator": GENERATOR, "scores": scores(), "waves": waves()}
    lines = json.dumps(golden).replace("], ", "],\n").replace('", "', '",\n"')
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(lines + "\n", encoding="utf-8")
