"""VocalSet: corrected names, dropped copies, and splits."""

import os
import shutil

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
