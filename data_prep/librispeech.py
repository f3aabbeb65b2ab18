"""LibriSpeech: read English to pre-train on, in its own subsets.

Expected tree (at least one of the subsets train-*, and one of dev-*):

    LibriSpeech/train-clean-100/84/121123/84-121123-0000.flac

train-* train, dev-* validate, test-* test; no speaker is in two splits. The published counts are
asserted if all folders are of the seven subsets, not those of Mini LibriSpeech, for example.
"""

from pathlib import PurePath

from speechbrain_music.data_prep import data_set, files

SPLITS = {"train": "train", "dev": "valid", "test": "test"}  # beginning of a subset's name -> split


def read_librispeech(data_folder, out=None):
    """Utterances with speaker and subset."""
    files.locate(data_folder, "LibriSpeech", (("train-*",), ("",)), (("dev-*",), ("",)))
    subsets = [p.name for kind in SPLITS for p in sorted(data_folder.glob(f"{kind}-*/"))]
    items, splits = [], {}  # speaker -> split
    for subset in subsets:
        split = SPLITS[subset.partition("-")[0]]
        names = files.find_audio(data_folder, subset)[0]
        for stem, same in files.group_files(names, lambda path: path.stem).items():
            name = files.only_one(data_folder, same, stem)
            speaker = PurePath(name).parts[1]
            if splits.setdefault(speaker, split) != split:
                raise files.damaged(data_folder / subset, f"has speaker {speaker} of another split")
            items.append(data_set.Item(stem, name, split, (speaker, subset)))
    return data_set.Annotations(items, variant="+".join(subsets))
