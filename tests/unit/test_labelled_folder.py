"""A folder with a table of labels: read, or refused."""

import unicodedata

import numpy as np
import pytest
import soundfile

from speechbrain_music.data_prep.__main__ import main
from speechbrain_music.data_prep.fallback import prepare_or_synthesize
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.utils.errors import UserError

LABELLED = DATA_SETS["labelled_folder"]
ROWS = {"a b.wav": "train,slow|solo", "c.flac": "valid,", "d/e.mp3": "test,solo"}


@pytest.fixture
def folder(tmp_path):
    """Three recordings and their table."""
    (tmp_path / "data" / "d").mkdir(parents=True)
    for length, name in enumerate(ROWS, 48000):
        soundfile.write(tmp_path / "data" / name, np.zeros(length), 24000)
    write(tmp_path / "data", [f"{name},{rest}" for name, rest in ROWS.items()])
    return tmp_path / "data"


def write(folder, rows, head="file,split,tags"):
    (folder / "labels.csv").write_text("\n".join([head, *rows]))


def test_a_table_becomes_manifests(folder, tmp_path):
    options = {"data_folder": folder, "out": tmp_path / "out", "replica_scale": 0.3}
    report, tables = prepare_or_synthesize("labelled_folder", labels=["tags"], **options)
    own = prepare_or_synthesize(LABELLED.prepare, labels=["tags"], **options)
    assert own[0] == report
    tags = {split: table["tags"].tolist() for split, table in tables.items()}
    assert tags == {"train": ["slow|solo"], "valid": [""], "test": ["solo"]}
    assert tables["test"]["wav"].tolist() == [f"{folder}/d/e.mp3"]
    assert report["splits"]["train"]["classes"] == {"tags": {"slow": 1, "solo": 1}}
    assert report["deviations"] == [] and report["replica"] is None


@pytest.mark.parametrize(
    "delimiter, encoding", [(";", "latin-1"), ("\t", "utf-16"), (",", "utf-8")]
)
def test_tables_of_other_programs(delimiter, encoding, folder, tmp_path):
    (folder / "a b.wav").rename(folder / unicodedata.normalize("NFD", "é.wav"))
    rows = ["file,split,tags", "é.wav,train,ü", *(f"{n},{ROWS[n]}" for n in [*ROWS][1:])]
    rows += ["d//e.mp3,test,solo", ""]  # once more
    (folder / "labels.csv").write_text("\n".join(rows).replace(",", delimiter), encoding)
    report = LABELLED.prepare(folder, tmp_path / "out", labels=["tags"])
    assert report["splits"]["train"]["classes"] == {"tags": {"ü": 1}}
    assert report["deviations"] == [] and report["repeated"] == ["d/e.mp3"]


def test_a_recording_that_cannot_be_read(folder, tmp_path, capsys):
    line = ["labelled_folder", str(folder), "--labels", "tags", "--out", str(tmp_path / "out")]
    (folder / "a b.wav").write_bytes(b"no sound")
    write(folder, [*(f"{n},{rest}" for n, rest in ROWS.items()), "gone.wav,train,"])
    assert main(line) == 2 and "train has 0 of 2" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.json").exists()
    report = LABELLED.prepare(folder, tmp_path / "out", labels=["tags"], allow_missing=True)
    assert report["deviations"] == ["train has 0 of 2"] and report["skipped"] == 2


@pytest.mark.parametrize(
    "rows, message",
    [
        (["c.flac,train,", "c.flac,test,", "d/e.mp3,valid,"], "two different pieces with the ID c"),
        (["c.flac,train,", "d/e.mp3,test,"], "no recording of valid: add some"),
        (["c.flac,training,"], "split of c.flac in .* is 'training'; choose one of train, v"),
        (
            ["c.flac,train,", "./c.flac,test,", "d/e.mp3,valid,"],
            "two different pieces with the ID c",
        ),
        (["c.flac,train"], r"is cut off at line 2 \(2 cells for 3 columns\); fix the table"),
        (
            ["c.flac,train,folk, world"],
            r"too many cells at line 2 .*: put a cell with ',' in double",
        ),
        ([], "no recording of train, valid, test"),
    ],
)
def test_tables_that_are_refused(rows, message, folder, tmp_path):
    write(folder, rows)
    with pytest.raises(UserError, match=message):
        LABELLED.prepare(folder, tmp_path / "out", labels=["tags"])
    with pytest.raises(UserError, match=r"lacks the column\(s\) mood"):
        LABELLED.prepare(folder, tmp_path / "out", labels=["mood"])
    with pytest.raises(UserError, match="labels has 'start', a column of every table or manifest"):
        LABELLED.prepare(folder, tmp_path / "out", labels=["start"])
    write(folder, [f"{name},{rest}," for name, rest in ROWS.items()], "file,split,tags,tags")
    with pytest.raises(UserError, match="labels.csv has two columns 'tags'; fix the table"):
        LABELLED.prepare(folder, tmp_path / "out", labels=["tags"])
    assert not (tmp_path / "out" / "train.csv").exists()
    for name, fault in (
        ("labelled_folder", "data_folder is not set: pass --data_folder"),
        ("gtzam", "data_set is 'gtzam'; choose one of fma, .*gtzan"),
    ):
        with pytest.raises(UserError, match=fault):
            prepare_or_synthesize(name, None, tmp_path / "out", 0.3)
