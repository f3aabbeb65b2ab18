"""Read VocalSet: recordings with singer and technique, whatever their names lack."""

import filecmp
import re
from collections import defaultdict
from itertools import chain, count
from pathlib import PurePosixPath

from speechbrain_music.data_prep import data_set, files
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


def find_recordings(data_folder):
    """Items of the twenty singers without split, and how their layout deviates.

    Labels are singer and technique (also those of `OTHERS`). The deviations are path -> what was
    corrected, or why the file is left out.
    """
    items, deviations = {}, {}
    place = files.locate(data_folder, "VocalSet", (("female1",), PLACES))[0]
    names = files.find_audio(data_folder, place)[0]
    for name in sorted(names, key=lambda name: bool(_COPY.search(PurePosixPath(name).stem))):
        parts, stem = PurePosixPath(name).relative_to(place).parts, PurePosixPath(name).stem
        singer = parts[0].replace("female", "f").replace("male", "m")
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
        keys = chain([key], (f"{key}_{number}" for number in count(2)))
        key = next(key for key in keys if key not in items)
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


SPLITTERS = {"singer": split_singers, "technique": split_techniques}  # of tasks


def read_vocalset(data_folder, out, task):
    """Recordings with singer and technique, split for a task.

    `layout_deviations` of the report lists what was corrected or left out.
    """
    items, deviations = find_recordings(data_folder)
    extra = {"layout_deviations": deviations, "published": "another split"}
    return data_set.Annotations(SPLITTERS[task](items), {"task": task}, f"{task} default", extra)
