"""Manifests: the same bytes for the same rows, and every fault named."""

import pytest

from speechbrain_music.data_prep.manifest import manifest_text, read_manifest
from speechbrain_music.utils.errors import UserError

HEAD = "ID,duration,wav,start,stop"
GOOD = "a,1.5,$data_root/a.wav,0,36000"


def row(key, **extra):
    return {"ID": key, "duration": 1.5, "wav": f"x/{key}.wav", "start": 0, "stop": 36000} | extra


@pytest.fixture
def read(tmp_path):
    def read(*lines, end="\n", encoding="utf-8"):
        path = tmp_path / "m.csv"
        path.write_bytes((end.join(lines) + end).encode(encoding))
        return read_manifest(path, "/music")

    return read


def test_same_rows_same_bytes_sorted_by_id(tmp_path):
    rows = [row(key, genre='é,"q"', weight=2) for key in ("b", "a", "B", "10", "9")]
    text = manifest_text(rows, ["genre", "weight"])
    assert text == manifest_text(iter(rows[::-1]), ["genre", "weight"]) and "\r" not in text
    (tmp_path / "1.csv").write_text(text, encoding="utf-8")
    table = read_manifest(tmp_path / "1.csv", "/music")
    assert table["ID"].tolist() == ["10", "9", "B", "a", "b"]
    assert table["genre"].tolist() == ['é,"q"'] * 5
    assert table["weight"].tolist() == [2.0] * 5
    assert table["wav"][3] == "/music/x/a.wav"
    assert table["start"].dtype == table["stop"].dtype == "int64"


def test_text_stays_text(read):
    names = ["007", "NA", "null", "1e5", "True", "日本"]
    table = read(HEAD + ",key", *(f"{n},1,$data_root/{n},0,500,{n}" for n in names))
    assert table["ID"].tolist() == table["key"].tolist() == names
    assert table["weight"].tolist() == [1.0] * 6
    table = read(HEAD + ",title", GOOD + ',"one\r\ntwo, ""three"""', end="\r\n")
    assert table["title"].tolist() == ['one\r\ntwo, "three"']
    assert read(HEAD, GOOD, encoding="utf-8-sig")["ID"].tolist() == ["a"]
    table = read(HEAD, GOOD, "b,1,/abs/b.wav,0,500", "c,1,$data_root/A$AP/$data_root/c.wav,0,500")
    assert table["wav"].tolist() == ["/music/a.wav", "/abs/b.wav", "/music/A$AP/$data_root/c.wav"]


@pytest.mark.parametrize(
    "lines, message",
    [
        (["ID,duration,wav", "a,1,b"], "lacks the column.s. start, stop; a manifest has ID, dur"),
        ([HEAD], "has no rows"),
        ([""], "is not a readable manifest"),
        ([HEAD, GOOD + ',"open'], "is not a readable manifest"),
        ([HEAD, GOOD, GOOD], "an ID that is not unique at ID 'a'"),
        ([HEAD, GOOD, "b,long,x.wav,0,5"], "a duration that is not a positive number at ID 'b'"),
        ([HEAD, "b,-1,x.wav,0,5"], "a duration that is not a positive number at ID 'b'"),
        ([HEAD, "b,nan,x.wav,0,5"], "a duration that is not a positive number"),
        ([HEAD, "b,inf,x.wav,0,5"], "a duration that is not a positive number"),
        ([HEAD, "b,1,x.wav,-1,5"], "a start that is not a whole number >= 0 at ID 'b'"),
        ([HEAD, "b,1,x.wav,0.5,5"], "a start that is not a whole number >= 0"),
        ([HEAD, "b,1,x.wav,5,5"], "a stop that is not a whole number > start"),
        ([HEAD, "b,1,x.wav,0,inf"], "a stop that is not a whole number > start"),
        ([HEAD, "b,1,,0,9"], "no path at ID 'b'"),
        ([HEAD, f"b,1,x.wav,0,{2**64}"], "a stop over 8796093022208 samples at ID 'b'"),
        ([HEAD, "b,1e9,x.wav,0,24000"], "a duration that does not fit its start and stop"),
        ([HEAD, "b,1e-9,x.wav,0,24000"], "a duration that does not fit its start and stop"),
        ([HEAD + ",weight", GOOD + ",0"], "a weight that is not 1e-09 to 1e.09 at ID 'a'"),
        ([HEAD + ",weight", GOOD + ",1e308"], "a weight that is not 1e-09 to 1e.09"),
    ],
)
def test_faults_are_named_in_one_line(read, lines, message):
    with pytest.raises(UserError, match=message) as caught:
        read(*lines)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="none.csv is not a readable manifest .*No such file"):
        read_manifest("none.csv", "/music")


def test_invalid_rows_are_refused():
    relative = "must be a path relative to the data folder"
    for message, *rows in (
        ("Two rows have the ID 'a'", row("a"), row("a")),
        (relative, row("a", wav="/abs/a.wav")),
        (relative, row("a", wav="$data_root/a.wav")),
    ):
        with pytest.raises(UserError, match=message):
            manifest_text(rows)
