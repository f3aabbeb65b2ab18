"""VocalSet: who sings (20 singers), and how (10 techniques).

python -m speechbrain_music.data_prep.vocalset /data/VocalSet --task singer --out manifests/singer
python -m speechbrain_music.data_prep.vocalset /data/VocalSet --task technique --out manifests/tech

Expected tree (1.1 has FULL/, 1.2 has data_by_singer/ with the same below):

    VocalSet/FULL/female1/arpeggios/belt/f1_arpeggios_belt_c_a.wav

The singer is the folder's, for some names lack their prefix or have another's; `vibrado` is
vibrato; what is there twice, byte for byte, as `name(1).wav`, counts once.

Splits. singer: the recordings of each singer, ranked by the SHA-1 of their ID, go 48:32:20 to
train, valid and test. technique: f2 f8 m3 m5 m10 test, as the data set's authors have it; of the
other fifteen the six that come first by SHA-1 validate, so that no singer is in two splits.
`--split marble` follows MARBLE's code instead, where training and validation share singers; its
chunks begin after a voice detector, ours do not, so the very shortest recordings may differ.
No counts are published for either, so none are asserted; a published figure beside a result of
these splits is one of another split.

Source: Wilkins et al. (ISMIR 2018), https://zenodo.org/records/1203819 (1.1), 1442513 (1.2).
Licence: CC BY 4.0.
"""

import filecmp
import hashlib
import re
import sys
from collections import defaultdict
from itertools import chain, count
from pathlib import PurePosixPath

import numpy as np

from speechbrain_music.data_prep import command, disk
from speechbrain_music.data_prep import preparation as prep
from speechbrain_music.data_prep.headers import read_headers
from speechbrain_music.data_prep.manifest import printable

TECHNIQUES = tuple(
    "belt breathy inhaled lip_trill spoken straight trill trillo vibrato vocal_fry".split()
)
OTHERS = tuple("fast_forte fast_piano forte messa pp slow_forte slow_piano".split())
VOWELS = tuple("aeiou")
SINGERS = tuple(f"f{i}" for i in range(1, 10)) + tuple(f"m{i}" for i in range(1, 12))
TEST_SINGERS = ("f2", "f8", "m3", "m5", "m10")
PLACES = ("FULL", "data_by_singer", "VocalSet1-2/data_by_singer", "VocalSet11/FULL", "")
REPAIRED = {"vibrado": "vibrato"}
TASKS, SPLIT_RULES = ("singer", "technique"), ("default", "marble")
VOCALSET = prep.DataSet(
    title="VocalSet",
    source="Wilkins et al. (ISMIR 2018), zenodo.org/records/1203819",
    licence="CC BY 4.0",
    bibtex="""@inproceedings{wilkins2018vocalset,
  title={{VocalSet}: a singing voice dataset},
  author={Wilkins, Julia and Seetharaman, Prem and Wahl, Alison and Pardo, Bryan},
  booktitle={Proc. ISMIR}, pages={468--474}, year={2018}}""",
    labels=("singer", "technique", "vowel"),
    classes=("singer", "technique"),
)
# What MARBLE's code leaves out of the vibrato folder: two duplicates' names and unprefixed ones.
_MARBLE_LEAVES = re.compile(r"(f2_scales_vibrato_a\(1\)|(caro|dona|row)_vibrato|slow_vibrato_arps)")
_MARBLE_SEED, _MARBLE_SECONDS = 42617, 3.0


def _rank(name):
    return hashlib.sha1(name.encode()).digest()


def read_vocalset(data_folder):
    """All recordings of the twenty singers, named as they should be.

    Arguments
    ---------
    data_folder : Path
        The data set's folder.

    Returns
    -------
    items : list of Item
        Without split; with singer, technique (also those of `OTHERS`) and vowel ("" if none).
    odd : dict
        Path -> what was repaired, or why it is left out.

    Raises
    ------
    PreparationError
        If no singer's folder is there.

    Example
    -------
    >>> path = getfixture("tmp_path") / "female1" / "scales" / "vibrado" / "scales_c_a.wav"
    >>> path.parent.mkdir(parents=True)
    >>> path.touch()
    >>> read_vocalset(path.parents[3])[1]
    {'female1/scales/vibrado/scales_c_a.wav': 'taken as vibrato/f1_scales_c_a'}
    """
    place = disk.locate(data_folder, "VocalSet", "female1", PLACES)
    items, odd = {}, {}
    copied = re.compile(r"\(\d+\)$")  # what a copy's name ends in
    names = disk.find_audio(data_folder, place)[0]
    for name in sorted(names, key=lambda name: bool(copied.search(PurePosixPath(name).stem))):
        parts = PurePosixPath(name).relative_to(place).parts
        singer = parts[0].replace("female", "f").replace("male", "m")
        technique = REPAIRED.get(parts[-2], parts[-2]) if len(parts) == 4 else None
        if singer not in SINGERS or technique not in TECHNIQUES + OTHERS or not name.isprintable():
            odd[printable(name)] = "left out: not <singer>/<context>/<technique>/<recording>"
            continue
        stem = re.sub(r"\s+", "", PurePosixPath(name).stem)
        key = f"{singer}_{re.sub(r'^[fm][0-9]+_', '', stem)}"
        if (key, technique) != (PurePosixPath(name).stem, parts[-2]):
            odd[name] = f"taken as {technique}/{key}"
        first = copied.sub("", key)
        twin = next((items[taken].wav for taken in (key, first) if taken in items), None)
        if twin and filecmp.cmp(data_folder / twin, data_folder / name, shallow=False):
            odd[name] = f"left out: the same as {twin}"
            continue
        names = chain([key], (f"{key}_{number}" for number in count(2)))
        key = next(name for name in names if name not in items)
        last = first.rpartition("_")[2]
        items[key] = prep.Item(key, name, None, (singer, technique, last if last in VOWELS else ""))
    return list(items.values()), odd


def split_singers(items):
    """Items with a split for the singer task, 48:32:20 within each singer.

    Example
    -------
    >>> items = [prep.Item(f"f1_{i}", f"{i}.wav", None, ("f1", "belt", "a")) for i in range(25)]
    >>> [sum(item.split == s for item in split_singers(items)) for s in ("train", "valid", "test")]
    [12, 8, 5]
    """
    of = defaultdict(list)
    for item in items:
        of[item.labels[0]].append(item)
    split = []
    for recordings in of.values():
        recordings.sort(key=lambda item: _rank(item.id))
        test, valid = round(0.2 * len(recordings)), round(0.32 * len(recordings))
        for place, item in enumerate(recordings):
            name = "test" if place < test else "valid" if place < test + valid else "train"
            split.append(item._replace(split=name))
    return split


def split_techniques(items):
    """Items of the ten techniques with a split for the technique task, by singers.

    Example
    -------
    >>> items = [prep.Item(name, "", None, (name, "belt", "a")) for name in SINGERS]
    >>> tuple(i.id for i in split_techniques(items) if i.split == "test") == TEST_SINGERS
    True
    """
    others = sorted((s for s in SINGERS if s not in TEST_SINGERS), key=_rank)
    splits = dict.fromkeys(TEST_SINGERS, "test") | dict.fromkeys(others, "train")
    splits |= dict.fromkeys(others[:6], "valid")
    return [
        item._replace(split=splits[item.labels[0]])
        for item in items
        if item.labels[1] in TECHNIQUES
    ]


def split_as_marble(items, seconds, task):
    """Items with the split that MARBLE's code draws.

    Recordings are numbered within their technique, all that have the same number stay together;
    of the numbers a permutation holds out 40% of the technique task's training singers, then one
    20% of all and a last one 40% of the rest for the singer task, all from one random state.

    Arguments
    ---------
    items : list of Item
        From `read_vocalset`.
    seconds : dict
        ID -> duration; what is not longer than 3 s has no chunk there and no number's turn.
    task : str
        `singer` or `technique`.

    Returns
    -------
    list of Item

    Example
    -------
    >>> items = [prep.Item(f"f1_{i}", "", None, ("f1", "belt", "a")) for i in range(9)]
    >>> seconds = {item.id: 3.0 + (item.id > "f1_0") for item in items}
    >>> [item.split for item in split_as_marble(items, seconds, "technique")].count("valid")
    4
    """
    by_technique = defaultdict(list)
    for item in items:
        if not _MARBLE_LEAVES.fullmatch(PurePosixPath(item.wav).stem):
            by_technique[item.labels[1]].append(item)
    number = {}
    for recordings in by_technique.values():
        recordings.sort(key=lambda item: item.id)
        number |= {item.id: place for place, item in enumerate(recordings)}
    chunked = [item for item in items if item.id in number and seconds[item.id] > _MARBLE_SECONDS]
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
    rest = [item for item in chunked if number[item.id] not in test]
    valid = drawn(rest, 0.4)
    return [
        item._replace(
            split="test"
            if number[item.id] in test
            else "valid"
            if number[item.id] in valid
            else "train"
        )
        for item in chunked
    ]


@disk.as_user_error
def prepare_vocalset(data_folder, out, task="singer", split="default", allow_missing=False):
    """Writes VocalSet's manifests for a task: columns `singer`, `technique` and `vowel`.

    Arguments
    ---------
    data_folder, out : str | Path
        Where the data are and where the manifests go.
    task : str
        `singer` (all techniques) or `technique` (the ten of `TECHNIQUES`).
    split : str
        `default`, or `marble` for the one of MARBLE's code.
    allow_missing : bool
        Whether a replica may have other counts than it was made with. None are published.

    Returns
    -------
    dict
        The report; `odd` tells what was repaired or left out.

    Raises
    ------
    PreparationError
        If task or split has another name, and as `read_vocalset` and `prepare_items`.

    Example
    -------
    >>> from speechbrain_music.data_prep.replica.trees import make_replica
    >>> folder = getfixture("tmp_path") / "VocalSet"
    >>> _ = make_replica("vocalset", folder, scale=0.02, annotations_only=True)
    >>> items, odd = read_vocalset(folder)
    >>> sorted({item.labels[0] for item in items}) == sorted(SINGERS)
    True
    """
    for name, value, allowed in (("task", task, TASKS), ("split", split, SPLIT_RULES)):
        if value not in allowed:
            raise disk.PreparationError(f"{name} is {value!r}; choose one of {', '.join(allowed)}.")
    root = disk.existing_folder(data_folder)
    items, odd = read_vocalset(root)
    if split == "marble":
        log = read_headers(root, [item.wav for item in items], f"{out}/headers.jsonl", bar=None)
        seconds = {item.id: getattr(log[item.wav], "seconds", 0.0) for item in items}
        items = split_as_marble(items, seconds, task)
    else:
        items = {"singer": split_singers, "technique": split_techniques}[task](items)
    return prep.prepare_items(
        VOCALSET,
        root,
        out,
        items,
        settings={"task": task, "split": split},
        variant=f"{task} {split}",
        allow_missing=allow_missing,
        facts={"odd": odd, "published": "another split"},
    )


def main(argv=None):
    """The command line: 0 if all went well, 2 after a one-line error.

    Example
    -------
    >>> main(["/data/VocalSet", "--out", "manifests"])  # --task is not given
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    parser = command.make_parser("vocalset", __doc__, allow_missing=True)
    parser.add_argument("--task", required=True, help="singer or technique")
    parser.add_argument("--split", default="default", help="default or marble")
    return command.answer(prepare_vocalset, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
