"""The command line of data preparation and the records of the data sets."""

import inspect

import pytest
from small_trees import TEXTS, assert_whole, notes, prepare, refused

from speechbrain_music.data_prep.__main__ import main
from speechbrain_music.data_prep.registry import DATA_SETS

OWN = ("labelled_folder", "folder")
FRAMES = ("beats", "rwc", "chords1217", "guitarset", "harmonix")  # test_data_prep_frames.py


@pytest.mark.parametrize("name", TEXTS)
def test_help_and_report_of_a_record(name, tree, out, capsys):
    record = DATA_SETS[name]
    assert set(TEXTS) == {*DATA_SETS} - {"soundtracks", "covers", *OWN, *FRAMES}
    assert record.licence and record.reference and "@" in record.bibtex
    own = list(inspect.signature(record.read).parameters)[2:]
    common = {"allow_missing", "valid_share", "seed"}
    assert set(own) <= set(record.options) <= {*own, *common} and not common & set(own)
    with pytest.raises(TypeError, match="unexpected keyword argument 'alow_missing'"):
        record.prepare(tree(name), out, alow_missing=True)
    for option, allowed in record.options.items():
        if not isinstance(allowed, str):
            with refused(f"{option} is 'x'; choose one of {', '.join(allowed)}"):
                record.prepare(tree(name), out, **{option: "x"})
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "Expected tree" in shown
    lines = record.description.split("\n")
    options = ["--out", *(f"--{option}" for option in record.options)]
    for text in (record.licence, record.home_page, *lines, *options):
        assert text in shown
    report = prepare(name, tree(name), out)
    assert set(report["splits"]) <= {"train", "valid", "test"}
    for key in ("reference", "home_page", "licence", "bibtex"):
        assert report[key] == getattr(record, key)


def test_help_and_invalid_names(capsys):
    for argv, code, words in (
        (["--help"], 0, [*DATA_SETS, "merge"]),
        (["gtzam", "x"], 2, ["invalid choice: 'gtzam'", "gtzan"]),
        (["vocalset", "x", "--out", "y"], 2, ["required: --task"]),
    ):
        with pytest.raises(SystemExit) as left:
            main(argv)
        shown = "".join(capsys.readouterr())
        assert left.value.code == code and all(word in shown for word in words)


def test_errors_are_one_line(tree, out, capsys):
    root = tree("nsynth", {"nsynth-valid/examples.json": notes("valid")[:-30]})
    for wrong, message in [(root.parent, f"did you mean {root}?"), (root, "damaged or cut off")]:
        assert main(["nsynth", str(wrong), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not out.exists()
    assert main(["nsynth", str(tree("nsynth")), "--out", str(out), "--allow_missing"]) == 0
    assert_whole("nsynth", out)
