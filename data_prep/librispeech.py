"""Read LibriSpeech: the utterances of the subsets that are there."""

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
        for stem, name in files.by_stem(data_folder, subset).items():
            speaker = PurePath(name).parts[1]
            if splits.setdefault(speaker, split) != split:
                raise files.damaged(data_folder / subset, f"has speaker {speaker} of another split")
            items.append(data_set.Item(stem, name, split, (speaker, subset)))
    return data_set.Annotations(items, variant="+".join(subsets))
