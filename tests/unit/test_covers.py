"""Cover songs: real lists, tables, folders, splits by works, and audio that is missing."""

import os
from collections import Counter
from pathlib import Path

import pytest
from small_trees import refused, tables, wav, write

from speechbrain_music.data_prep import covers
from speechbrain_music.data_prep.__main__ import main
from speechbrain_music.data_prep.data_set import sha1
from speechbrain_music.data_prep.registry import DATA_SETS

SHARED = Path(__file__).parents[3] / "shared" / "data" / "audio"
REAL = Path(os.environ.get("SBMUSIC_REAL_AUDIO", SHARED)).parent / "annotations" / "covers"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real lists are not here")
COVERS = DATA_SETS["covers"]
SPLITS = ("train", "valid", "test")


def prepare(root, out, **options):
    return COVERS.prepare(root, out, **options)


def works_of(out):
    """Split -> its works."""
    return {split: set(table["work"]) for split, table in tables(out).items()}


def sounds(folder, names):
    for name in names:
        wav(folder / f"{name}.wav", 0.1)


def write_table(root, columns, rows, name="covers.csv", separator=","):
    lines = [columns, *(separator.join(row) for row in rows)]
    write(root / name, "\n".join([*lines, ""]))
    return root / name


@pytest.fixture
def root(tmp_path):
    """A folder with a table of eight works, three tracks each, and the audio of two of each."""
    rows = [(f"w{n // 3}", f"t.{n}", f"a{n % 3}", ("", "key", "live")[n % 3]) for n in range(24)]
    write_table(tmp_path / "data", "work;track;artist;change", rows, separator=";")
    sounds(tmp_path / "data" / "some" / "where", [f"t_{n}" for n in range(24) if n % 3])
    return tmp_path / "data"


@real
@pytest.mark.parametrize(
    "name, rows, works, variant",
    [
        ("covers80_annotations.csv", 164, 80, "covers80"),
        ("da-tacos_benchmark_subset.csv", 15000, 3000, "da_tacos"),
    ],
)
def test_real_lists(name, rows, works, variant, tmp_path, out):
    root = tmp_path / "data"
    root.mkdir()
    (root / name).symlink_to(REAL / name)
    versions, lists, found = covers.list_versions(root)
    assert lists == {name: {"rows": rows, "works": works}} and found == variant
    assert COVERS.counts[found] == {"the data set": len(versions)} == {"the data set": rows}
    assert len({version.id for version in versions}) == rows
    tracks = Counter(version.labels[0] for version in versions)
    sizes = {"covers80": {2: 77, 3: 2, 4: 1}, "da_tacos": {1: 2000, 13: 1000}}[variant]
    assert Counter(tracks.values()) == sizes
    with refused(root, "train has 0 work(s) with two or more tracks", "each split needs 2"):
        prepare(root, out)
    chosen = {}
    for fold in (0, 1):
        splits = covers._split_works(versions, fold)
        assert Counter(splits.values()) == {
            "test": works // 2, "valid": works // 10, "train": works * 2 // 5
        }  # fmt: skip
        chosen |= {(split, fold): {w for w in splits if splits[w] == split} for split in SPLITS}
    assert chosen["test", 0].isdisjoint(chosen["test", 1])
    # Audio of a handful: two tracks of two works of each split.
    for split in SPLITS:
        several = [work for work in sorted(chosen[split, 0]) if tracks[work] > 1][:2]
        for work in several:
            sounds(root, [v.id for v in versions if v.labels[0] == work][:2])
    report = prepare(root, out)
    assert report["deviations"] == [f"the data set has 12 of {rows}"]
    assert list(report["reasons"].values()) == [rows - 12] == [report["skipped"]]
    assert (out / "skipped.csv").read_text().count("\n") == 1 + rows - 12
    assert [split["files"] for split in report["splits"].values()] == [4, 4, 4]


def test_tables_and_audio_that_is_missing(root, out):
    report = prepare(root, out)
    assert report["lists"] == {"covers.csv": {"rows": 24, "works": 8}}
    assert list(report["reasons"].values()) == [8] and "does not exist" in str(report["reasons"])
    assert report["deviations"] == []
    order = [f"w{n}" for n in range(8)]
    order.sort(key=sha1)
    first = {"test": set(order[:4]), "valid": set(order[4:6]), "train": set(order[6:])}
    assert works_of(out) == first
    assert report["works"]["test"] == {"works": 4, "with_several_tracks": 4}
    row = tables(out, root)["train"].iloc[0]
    number = int(row["ID"].removeprefix("t."))
    assert row["wav"] == str(root / f"some/where/t_{number}.wav")
    assert (row["artist"], row["change"]) == (f"a{number % 3}", ("", "key", "live")[number % 3])
    assert report["splits"]["test"]["classes"] == {"change": {"key": 4, "live": 4}}
    prepare(root, out, fold=1)
    swapped = {"test": set(order[4:]), "valid": set(order[:2]), "train": set(order[2:4])}
    assert works_of(out) == swapped
    with refused("fold is '2'; choose one of 0, 1"):
        prepare(root, out, fold=2)
    sounds(root, ["t.5"])
    with refused("some/where/t_5.wav", "t.5.wav", "remove all but one"):
        prepare(root, out)


def test_splits_of_a_table(root, out):
    rows = [  # two works per split
        (SPLITS[n % 3], f"work {n}", f"t_{3 * n + track}") for n in range(6) for track in (1, 2)
    ]
    path = write_table(root, "split,work_id,track_id", rows)
    report = prepare(root, out)
    assert report["skipped"] == 0 and report["settings"] == {"fold": 0}
    assert works_of(out) == {
        split: {work for part, work, _ in rows if part == split} for split in SPLITS
    }
    assert set(tables(out)["test"]["artist"]) == {""}
    with refused("fold is 1, but the list has splits"):
        prepare(root, out, fold=1)
    # The same row twice is reported; a track of two works is refused.
    write_table(root, "split,work_id,track_id", [*rows, rows[0]])
    assert prepare(root, out)["repeated"] == [rows[0][2]]
    for rows_, *fragments in (
        ([*rows, ("train", rows[-1][1], "x")], f"work {rows[-1][1]} is in", "into one split"),
        ([*rows, ("train", "other", rows[0][2])], "two different pieces with the ID"),
        ([*rows, ("dev", "other", "x")], path, "split of x in", "is 'dev'; choose one of train, v"),
        ([*rows, ("train", "", "x")], path, "a row without a work or a track"),
    ):
        write_table(root, "split,work_id,track_id", rows_)
        with refused(*fragments):
            prepare(root, out)
    write_table(root, "split,song,track_id", rows)
    with refused("lacks the column(s) work_id", "work_id (or work)"):
        prepare(root, out)
    write_table(root, "work,track", [], "more.csv")
    with refused("covers.csv and more.csv: keep one"):
        prepare(root, out)


def test_lists_of_shs100k(tmp_path, out):
    root, video = tmp_path / "data", "http://www.youtube.com/watch?v=A-b_{:07d}"
    lines = [
        f'{work}\t{number}\tTitle, "{work}\t{"É" * number}\t{video.format(10 * work + number)}\t1'
        for work in range(8)
        for number in range(3)
    ]
    write(root / "list", "\r\n".join([*lines, ""]))
    sides = {"TRAIN": (0, 1), "VAL": (2, 3), "TEST": (4, 5, 6)}
    for name, works in sides.items():
        text = "".join(f"{work}\t{number}\n" for work in works for number in range(2))
        write(root / f"SHS100K-{name}", text)
    sounds(root / "audio", [f"{w}_{n}" for w in range(3) for n in range(3)])
    sounds(root / "audio", [f"A-b_{10 * w + n:07d}" for w in range(3, 8) for n in range(2)])
    report = prepare(root, out)
    rows = {"list": (24, 8), "SHS100K-TRAIN": (4, 2), "SHS100K-VAL": (4, 2), "SHS100K-TEST": (6, 3)}
    assert report["lists"] == {k: {"rows": n, "works": w} for k, (n, w) in rows.items()}
    assert works_of(out) == {"train": {"0", "1"}, "valid": {"2", "3"}, "test": {"4", "5", "6"}}
    table = tables(out)["test"].set_index("ID")
    assert table["wav"]["5_1"] == "/audio/A-b_0000051.wav" and table["artist"]["5_1"] == "É"
    assert report["unlisted"]["files"] == 5 and report["skipped"] == 0
    # Which of the two lists of tests is there decides what is compared.
    text = "".join(f"4\t{number}\n" for number in range(2981)) + "5\t0\n5\t1\n"
    write(root / "SHS100K-TEST", text)
    report = prepare(root, out)
    assert report["counts"] == COVERS.counts["shs100k"]
    assert report["deviations"] == [
        "train has 4 of 101968", "valid has 4 of 3918", "test has 4 of 2983"
    ]  # fmt: skip
    write(root / "SHS100K-TEST", text + "".join(f"6\t{number}\n" for number in range(7562)))
    assert prepare(root, out)["deviations"] == ["test has 6 of 10545"]
    write(root / "SHS100K-VAL", "2\t0\n2 1\n")
    with refused("SHS100K-VAL is cut off at line 2 (1 cells for 2 columns)"):
        prepare(root, out)
    for name in sides:
        (root / f"SHS100K-{name}").unlink()
    assert sum(map(len, works_of(prepare(root, out) and out).values())) == 8


def test_folders_stand_for_works(tmp_path, out):
    root = tmp_path / "data"
    for work in range(8):
        sounds(root / f"work {work}" / "cd", ["01", "02"])
    sounds(root, ["loose"])
    report = prepare(root, out)
    assert report["lists"] == {"folders": {"rows": 16, "works": 8}}
    assert report["unlisted"] == {"files": 1, "examples": ["loose.wav"]}
    found = {row.ID: row.work for table in tables(out).values() for row in table.itertuples()}
    assert found == {f"work {w}/cd/0{n}": f"work {w}" for w in range(8) for n in (1, 2)}
    with refused("is not enough", "train has 0 work(s)", "it holds 2 audio files", "add audio"):
        prepare(root / "work 0", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_record_and_help(capsys):
    assert set(COVERS.options) == {"fold"} and not COVERS.assert_counts
    assert COVERS.bibtex.count("@inproceedings") == 3
    with pytest.raises(SystemExit) as left:
        main(["covers", "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "Expected tree" in shown and "--fold" in shown
