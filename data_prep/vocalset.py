"""VocalSet: who sings (20 singers), and how (10 techniques).

Expected tree (1.1 has FULL/, 1.2 has data_by_singer/ with the same below):

    VocalSet/FULL/female1/arpeggios/belt/f1_arpeggios_belt_c_a.wav

The singer is the folder's, because some names lack their prefix or have another's; `vibrado` is
vibrato; byte-identical copies, `name(1).wav`, count once.

Splits. singer: the recordings of each singer, ranked by the SHA-1 of their ID, go 48:32:20 to
train, valid and test. technique: f2 f8 m3 m5 m10 test, as the data set's authors have it; of the
other fifteen the six that come first by SHA-1 validate, so that no singer is in two splits.
`--split marble` follows MARBLE's code on version 1.1 instead, where training and validation share
singers, copies count, `vibrado` is left out, and the singer is the name's. Its chunks begin after a
voice detector, ours do not, so recordings little over 2.99 s may differ.
No counts are published for either, so none are asserted; published figures are for other splits.
"""

import filecmp
import re
from collections import defaultdict
from itertools import chain, count
from pathlib import PurePosixPath

import numpy as np

from speechbrain_music.data_prep import data_set, files
from speechbrain_music.data_prep.headers import read_headers
from speechbrain_music.data_prep.manifest import printable

TECHNIQUES = tuple(
    "belt breathy inhaled lip_trill spoken straight trill trillo vibrato vocal_fry".split()
)
OTHERS = tuple("fast_forte fast_piano forte messa pp slow_forte slow_piano".split())
SINGERS = tuple(f"f{i}" for i in range(1, 10)) + tuple(f"m{i}" for i in range(1, 12))
TEST_SINGERS = ("f2", "f8", "m3", "m5", "m10")
PLACES = ("FULL", "data_by_singer", "VocalSet1-2/data_by_singer", "VocalSet11/FULL", "")
_COPY = re.compile(r"\(\d+\)$")  # what a copy's name ends in
CORRECTED = {"vibrado": "vibrato"}
# Recordings of the vibrato folder that MARBLE's code leaves out.
_MARBLE_LEAVES_OUT = re.compile(
    r"(f2_scales_vibrato_a\(1\)|(caro|dona|row)_vibrato|slow_vibrato_arps)"
)
_MARBLE_SEED, _MARBLE_SECONDS = 42617, 132_000 / 44_100


def _listed(data_folder):
    """Of each audio file the path, the stem, and its parts from the singer's folder on."""
    place = files.locate(data_folder, "VocalSet", (("female1",), PLACES))[0]
    for name in files.find_audio(data_folder, place)[0]:
        yield name, PurePosixPath(name).stem, PurePosixPath(name).relative_to(place).parts


def _singer(folder):
    return folder.replace("female", "f").replace("male", "m")


def find_recordings(data_folder):
    """Items of the twenty singers without split, and how their layout deviates.

    Labels are singer and technique (also those of `OTHERS`). The deviations are path -> what was
    corrected, or why the file is left out.
    """
    items, deviations = {}, {}
    copies_last = sorted(_listed(data_folder), key=lambda listed: bool(_COPY.search(listed[1])))
    for name, stem, parts in copies_last:
        singer = _singer(parts[0])
        technique = CORRECTED.get(parts[-2], parts[-2]) if len(parts) == 4 else None
        if singer not in SINGERS or technique not in TECHNIQUES + OTHERS or not name.isprintable():
            deviations[printable(name)] = "left out: not <singer>/<context>/<technique>/<recording>"
            continue
        key = f"{singer}_{re.sub(r'^[fm][0-9]+_', '', ''.join(stem.split()))}"
        if (key, technique) != (stem, parts[-2]):
            deviations[name] = f"taken as {technique}/{key}"
        first = _COPY.sub("", key)
        twin = next((items[taken].wav for taken in (key, first) if taken in items), None)
        if twin and filecmp.cmp(data_folder / twin, data_folder / name, shallow=False):
            deviations[name] = f"left out: the same as {twin}"
            continue
        names = chain([key], (f"{key}_{number}" for number in count(2)))
        key = next(name for name in names if name not in items)
        items[key] = data_set.Item(key, name, None, (singer, technique))
    return list(items.values()), deviations


def split_singers(items):
    """Items with a split for the singer task, 48:32:20 within each singer."""
    of = defaultdict(list)
    for item in items:
        of[item.labels[0]].append(item)
    split = []
    for recordings in of.values():
        recordings.sort(key=lambda item: data_set.sha1(item.id))
        test, valid = round(0.2 * len(recordings)), round(0.32 * len(recordings))
        for place, item in enumerate(recordings):
            name = "test" if place < test else "valid" if place < test + valid else "train"
            split.append(item._replace(split=name))
    return split


def split_techniques(items):
    """Items of the ten techniques with a split for the technique task, by singers."""
    others = sorted((s for s in SINGERS if s not in TEST_SINGERS), key=data_set.sha1)
    splits = dict.fromkeys(TEST_SINGERS, "test") | dict.fromkeys(others, "train")
    splits |= dict.fromkeys(others[:6], "valid")
    return [
        item._replace(split=splits[item.labels[0]])
        for item in items
        if item.labels[1] in TECHNIQUES
    ]


def list_as_marble(data_folder):
    """Items as MARBLE's code lists them, by technique and name, and what it leaves out.

    It puts the files of a technique into one folder, where a later singer's file replaces an
    earlier one of its name, adds missing prefixes, and takes the singer from the prefix. Copies
    count as recordings; `vibrado` is not a technique.
    """
    kept, deviations = {}, {}
    for path, stem, parts in sorted(_listed(data_folder)):
        deviations[printable(path)] = "left out, as by MARBLE's code"
        if len(parts) != 4 or parts[2] not in TECHNIQUES + OTHERS or not path.isprintable():
            continue
        if parts[2] != "vibrato" or not _MARBLE_LEAVES_OUT.fullmatch(stem):
            kept[parts[2], stem] = path, parts[0]
    items = []
    for (technique, stem), (path, folder) in kept.items():
        if not re.match("[fm][0-9]+_", stem):
            stem = f"{_singer(folder)}_{stem}"
        singer = stem.split("_")[0]
        if singer in SINGERS:
            key = f"{technique}/{stem}"
            items.append(data_set.Item(key, path, None, (singer, technique)))
            del deviations[path]
    return sorted(items, key=lambda item: (item.labels[1], f"{item.id}.wav")), deviations


def split_as_marble(items, seconds, task):
    """Items of `list_as_marble` with the split that MARBLE's code draws; `seconds` is ID -> length.

    Recordings are numbered within their technique; all with the same number stay together. A
    permutation of the numbers holds out 40% of the technique task's training singers, then one
    20% of all and a last one 40% of the rest for the singer task, all from one random state.
    Recordings of up to 132,000 samples have no chunk in MARBLE and are left out.
    """
    numbers = defaultdict(count)
    number = {item.id: next(numbers[item.labels[1]]) for item in items}
    chunked = [item for item in items if seconds[item.id] > _MARBLE_SECONDS]
    rng = np.random.RandomState(_MARBLE_SEED)

    def drawn(candidates, share):
        numbers = np.unique([number[item.id] for item in candidates])
        held_out = rng.permutation(len(numbers))[: int(np.ceil(share * len(numbers)))]
        return {int(n) for n in numbers[held_out]}

    sung = [item for item in chunked if item.labels[1] in TECHNIQUES]
    trained = [item for item in sung if item.labels[0] not in TEST_SINGERS]
    valid = drawn(trained, 0.4)
    if task == "technique":
        tested = [item._replace(split="test") for item in sung if item.labels[0] in TEST_SINGERS]
        return tested + [
            item._replace(split="valid" if number[item.id] in valid else "train")
            for item in trained
        ]
    test = drawn(chunked, 0.2)
    valid = drawn([item for item in chunked if number[item.id] not in test], 0.4)
    splits = dict.fromkeys(valid, "valid") | dict.fromkeys(test, "test")
    return [item._replace(split=splits.get(number[item.id], "train")) for item in chunked]


def read_vocalset(data_folder, out, task, split="default"):
    """Recordings with singer and technique, split for a task.

    `layout_deviations` of the report lists what was corrected or left out.
    """
    items, deviations = (list_as_marble if split == "marble" else find_recordings)(data_folder)
    if split == "marble":
        log = read_headers(data_folder, [i.wav for i in items], out / "headers.jsonl")
        seconds = {item.id: getattr(log[item.wav], "seconds", 0.0) for item in items}
        items = split_as_marble(items, seconds, task)
    else:
        items = {"singer": split_singers, "technique": split_techniques}[task](items)
    return data_set.Annotations(
        items,
        settings={"task": task, "split": split},
        variant=f"{task} {split}",
        extra={"layout_deviations": deviations, "published": "another split"},
    )
