"""VocalSet: corrected names, dropped copies, and splits."""

import os
import shutil

import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit
from small_trees import assert_whole, prepare, splits_of, wav

from speechbrain_music.data_prep import vocalset
from speechbrain_music.data_prep.data_set import SPLITS, Item


def recordings(count):
    """Items of all singers and techniques, `count` of each."""
    return [
        Item(f"{singer}_{take}_{technique}", f"{take}.wav", None, (singer, technique, ""))
        for take in range(count)
        for singer in vocalset.SINGERS
        for technique in vocalset.TECHNIQUES + vocalset.OTHERS
    ]


def test_singers_are_in_all_splits_or_in_one():
    items = vocalset.split_singers(recordings(3))
    assert sorted(item.id for item in items) == sorted(item.id for item in recordings(3))
    for singer in vocalset.SINGERS:  # seven other techniques are sung too: 51 recordings
        assert splits_of([i for i in items if i.labels[0] == singer]) == [25, 16, 10]
    items = vocalset.split_techniques(recordings(1))
    singers = [{item.labels[0] for item in items if item.split == split} for split in SPLITS]
    assert list(map(len, singers)) == [9, 6, 5] and len(set.union(*singers)) == 20
    assert singers[2] == {"f2", "f8", "m3", "m5", "m10"}
    assert {item.labels[1] for item in items} == set(vocalset.TECHNIQUES)


def test_names_are_corrected_and_copies_dropped(tmp_path):
    found = {
        "female2/x/belt/f2_belt_a.wav": "f2_belt_a belt",
        "female2/x/trill/f2_x_i.wav": "f2_x_i trill",
        "female2/x/trill/f2_x_i(1).wav": "f2_x_i(1) trill",
        "female2/x/belt/f2_belt_a(1).wav": None,
        "female1/notes/f1_notes.wav": None,
        "female4/x/straight/arpeggios_straight_a.wav": "f4_arpeggios_straight_a straight",
        "male8/x/vibrato/m9_vibrato_e.wav": "m8_vibrato_e vibrato",
        "female2/x/vibrado/f2_arpeggios.wav": "f2_arpeggios vibrato",
        "female5/x/belt/f5_x_a.wav": "f5_x_a belt",
        "female5/x/belt/m9_x_a.wav": "f5_x_a_2 belt",  # another recording of that name
    }
    for index, name in enumerate(found):
        wav(tmp_path / "FULL" / name, 1 + index)
    belt = tmp_path / "FULL" / "female2/x/belt"
    shutil.copyfile(belt / "f2_belt_a.wav", belt / "f2_belt_a(1).wav")
    items, deviations = vocalset.find_recordings(tmp_path)
    names = {i.wav.removeprefix("FULL/"): " ".join([i.id, *i.labels[1:]]) for i in items}
    assert names == {name: taken for name, taken in found.items() if taken}
    assert set(deviations) == {f"FULL/{name}" for name in list(found)[3:] if "f5_" not in name}


def test_stray_files_are_left_out_and_reported(tree, out):
    root = tree("vocalset")
    strays = ["x.wav", "female12/scales/belt/f12_a.wav", "male1/scales/yodel/m1_a.wav"]
    for name in strays:
        wav(root / "FULL" / name)
    with open(os.fsencode(root) + b"/FULL/male1/\xe9.wav", "wb"):
        pass
    report = prepare("vocalset", root, out)
    assert_whole("vocalset", out)
    assert set(report["layout_deviations"]) == {
        f"FULL/{name}" for name in [*strays, "male1/\\xe9.wav"]
    }


def test_recordings_as_marble_lists_them(tmp_path):
    found = {  # path: ID and singer, None if it is left out
        "female1/x/belt/f1_a_i.wav": ("belt/f1_a_i", "f1"),
        "female1/x/belt/f1_a_i(1).wav": ("belt/f1_a_i(1)", "f1"),
        "female2/x/vibrado/f2_a.wav": None,
        "female2/x/vibrato/f2_scales_vibrato_a(1).wav": None,
        "female2/x/vibrato/caro_vibrato.wav": None,
        "female4/x/straight/scales_a.wav": ("straight/f4_scales_a", "f4"),
        "male8/x/vibrato/m9_caro_vibrato.wav": None,  # male9's has its name
        "male8/x/vibrato/m9_a.wav": ("vibrato/m9_a", "m9"),
        "male9/x/vibrato/m9_caro_vibrato.wav": ("vibrato/m9_caro_vibrato", "m9"),
    }
    for name in found:
        wav(tmp_path / "FULL" / name, 0.1)
    items, deviations = vocalset.list_as_marble(tmp_path)
    taken = {item.wav.removeprefix("FULL/"): (item.id, item.labels[0]) for item in items}
    assert taken == {name: what for name, what in found.items() if what}
    assert set(deviations) == {f"FULL/{name}" for name, what in found.items() if not what}
    # sorted(os.listdir()) of a technique's folder
    assert [item.id for item in items][:2] == ["belt/f1_a_i(1)", "belt/f1_a_i"]


@pytest.mark.parametrize("task", ["singer", "technique"])
def test_marbles_split(task):
    items = sorted(recordings(4), key=lambda item: (item.labels[1], item.id))  # 80 a technique
    short, long = 132_000 / 44_100, 132_001 / 44_100
    seconds = {item.id: short if index % 11 == 0 else long for index, item in enumerate(items)}
    number = {item.id: index % 80 for index, item in enumerate(items)}
    rows = [item for item in items if seconds[item.id] == long]
    sung = [item for item in rows if item.labels[1] in vocalset.TECHNIQUES]
    test = [item for item in sung if item.labels[0] in ("f2", "f8", "m3", "m5", "m10")]
    np.random.seed(42617)

    def drawn(candidates, share):
        groups = [number[item.id] for item in candidates]
        sides = next(GroupShuffleSplit(1, test_size=share).split(groups, groups=groups))
        return [[candidates[index] for index in side] for side in sides]

    train, valid = drawn([item for item in sung if item not in test], 0.4)
    if task == "singer":
        rest, test = drawn(rows, 0.2)
        train, valid = drawn(rest, 0.4)
    found = vocalset.split_as_marble(items, seconds, task)
    parts = zip(SPLITS, (train, valid, test), strict=True)
    expected = {item.id: split for split, part in parts for item in part}
    assert {item.id: item.split for item in found} == expected and len(found) == len(expected)
