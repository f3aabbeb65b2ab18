"""A mixture to train on: composed music, voices and single notes, and recordings if there are."""

from pathlib import Path

from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.merge import merge
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.trees import make_replica

FOLDER = "data/replica/study_{:g}h"
LONGEST = 30.0  # seconds of a track: many short tracks are more varied than few long ones
# Percent of the training audio. Singers, instruments and programs of the test sets are not in it.
SHARES = {"music": 60, "voices": 20, "notes": 20}
RECORDINGS = 100  # as much audio of them as of all others
OTHER_SEED = 1000
VOICES, NOTES = 0.075, 0.0025  # scale of VocalSet's and NSynth's replicas per hour of music
SPEECH = 0.01  # scale of LibriSpeech's replica per hour of speech


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
    corpora = {}
    for name, part in folders.items():
        prepare_folder(part, manifests / name)
        corpora[manifests / name] = SHARES[name]
    if soundtracks:
        DATA_SETS["soundtracks"].prepare(soundtracks, manifests / "recordings")
        corpora[manifests / "recordings"] = RECORDINGS
    return merged_data(corpora, manifests / "all")


def prepare_speech(hours, manifests):
    """Makes about so many hours of speech; returns the folder of its manifests."""
    folder = Path(FOLDER.format(hours)) / "speech"
    make_replica("librispeech", folder, min(1.0, hours * SPEECH), OTHER_SEED)
    DATA_SETS["librispeech"].prepare(folder, manifests / "speech")
    return manifests / "speech"


def merged_data(corpora, out):
    """Merges prepared corpora (folder -> percent of the audio); returns options of a recipe."""
    texts = [f"{folder}={share}%" for folder, share in corpora.items() if share]
    root = merge(texts, out)["data_folder"]
    return {"data_folder": root} | {f"{s}_csv": out / f"{s}.csv" for s in ("train", "valid")}
