"""A mixture to train on: composed music, voices and single notes, and recordings if there are."""

from pathlib import Path

from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.merge import merge
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.trees import make_replica

FOLDER = "data/replica/study_{:g}h"
LONGEST = 30.0  # seconds of a track: many short tracks are more varied than few long ones
# Shares of the training audio. Singers, instruments and programs of the test sets are not in it.
SHARES = {"music": 0.6, "voices": 0.2, "notes": 0.2}
RECORDINGS = 1.0  # as much audio of them as of all others
OTHER_SEED = 1000
VOICES, NOTES = 0.075, 0.0025  # scale of VocalSet's and NSynth's replicas per hour of music


def prepare_mixture(hours, manifests, soundtracks=None):
    """Composes so many hours and writes manifests of everything; returns options of a recipe.

    `soundtracks` is a folder of recordings to add (see `data_prep.soundtracks`), of which the
    training albums are drawn; the others are in `manifests`/recordings/test.csv.
    """
    folder = Path(FOLDER.format(hours))
    make_corpus(folder / "music", hours, CorpusPlan(longest=LONGEST))
    for name, part, scale in (("voices", "vocalset", VOICES), ("notes", "nsynth", NOTES)):
        make_replica(part, folder / name, min(1.0, hours * scale), OTHER_SEED)
    folders = {name: folder / name for name in SHARES}
    folders["notes"] /= "nsynth-train"  # without the programs of NSynth's test set
    weights = {}
    for name, part in folders.items():
        out = manifests / name
        report = prepare_folder(part, out)
        weights[out] = SHARES[name] / report["splits"]["train"]["hours"]
    if soundtracks:
        report = DATA_SETS["soundtracks"].prepare(soundtracks, manifests / "recordings")
        weights[manifests / "recordings"] = RECORDINGS / report["splits"]["train"]["hours"]
    merged = manifests / "all"
    root = merge(weights, merged)["data_folder"]
    return {"data_folder": root} | {f"{s}_csv": merged / f"{s}.csv" for s in ("train", "valid")}
