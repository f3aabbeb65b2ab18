"""Data sets of frame tasks: real annotations beside tiny audio, and made-up ones."""

import inspect
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_trees import refused, tables, wav, write

from speechbrain_music.data_prep.__main__ import main
from speechbrain_music.data_prep.frames import artist_folds
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.dataio.annotations import read_beats, read_intervals
from speechbrain_music.utils.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "audio"
REAL = Path(os.environ.get("SBMUSIC_REAL_AUDIO", SHARED)).parent / "annotations"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real annotations are not here")
FRAMES = [name for name, record in DATA_SETS.items() if "has_downbeats" in record.labels]


def prepare(name, *args, **options):
    return DATA_SETS[name].prepare(*args, **options)


def sounds(folder, names):
    """Audio files that share one content; quicker than writing each."""
    wav(first := folder / f"{names[0]}.wav", 0.2)
    for name in names[1:]:
        os.link(first, folder / f"{name}.wav")


def sizes(out):
    return [len(table) for table in tables(out).values()]


def read(name, root, **options):
    """The items as a table: id, wav, split, then the labels by name."""
    items = DATA_SETS[name].read(root, None, **options).items
    labels = pd.DataFrame([item.labels for item in items], columns=DATA_SETS[name].labels)
    return labels.assign(
        **{key: [getattr(i, key) for i in items] for key in ("id", "wav", "split")}
    )


@pytest.fixture
def annotated(tmp_path):
    """A function: links the real annotations into the data folder, and returns it."""

    def link(name, to):
        (tmp_path / "data" / to).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / to).symlink_to(REAL / name)
        return tmp_path / "data"

    return link


@real
def test_ballroom(annotated, out):
    root = annotated("beat_this/ballroom", "ballroom")
    stems = [path.stem for path in sorted((REAL / "beat_this").glob("ballroom/*/*/*.beats"))]
    names = [stem.removeprefix("ballroom_").replace("Veneo", "VENEO") for stem in stems]
    sounds(root / "audio", [*names, *(f"copy{n}" for n in range(13))])
    report = prepare("beats", root, out, fold=2)
    assert report["deviations"] == [] and report["unlisted"]["files"] == 13
    folds = dict(
        line.split("\t") for line in (root / "ballroom/8-folds.split").read_text().splitlines()
    )
    found = tables(out, root)
    assert set(found["test"]["ID"]) == {stem for stem in stems if folds[stem] == "2"}
    assert set(found["valid"]["ID"]) == {stem for stem in stems if folds[stem] == "3"}
    row = found["train"].iloc[0]
    assert row["fold"] == folds[row["ID"]] and row["has_downbeats"] == "1" and row["chords"] == ""
    assert len(read_beats(row["beats"]).times) and os.path.isfile(row["wav"])
    single = read("beats", root, split="single")
    assert Counter(single["split"]) == {"train": 582, "valid": 103}
    os.unlink(root / "audio" / f"{names[7]}.wav")
    with refused("the data set has 684 of 685", "--allow_missing"):
        prepare("beats", root, out)


@real
def test_gtzan_and_another(annotated, out):
    root = annotated("beat_this/gtzan", "gtzan")
    stems = [path.stem for path in sorted((REAL / "beat_this").glob("gtzan/*/*/*.beats"))]
    clips = [stem.removeprefix("gtzan_").replace("_", ".") for stem in stems]
    for genre in {clip.split(".")[0] for clip in clips}:
        sounds(root / "genres" / genre, [clip for clip in clips if clip.startswith(genre)])
    report = prepare("beats", root, out)
    assert report["deviations"] == [] and sizes(out) == [999]
    table = tables(out)["test"]
    without = table[table["has_downbeats"] == "0"]["ID"].tolist()
    assert without == [f"gtzan_jazz_{number:05d}" for number in (3, 9, 10, 14, 18, 20)]
    marble = read("beats", root, split="marble", lists=REAL / "gtzan")
    assert Counter(marble["split"]) == {"train": 443, "valid": 197, "test": 290}
    annotated("beat_this/smc", "smc")
    both = read("beats", root, split="single").groupby("split")["has_downbeats"]
    assert both.count().to_dict() == {"train": 217, "test": 999} and both.max()["train"] == 0


def test_beats_of_ones_own(tmp_path, out):
    root = tmp_path / "data"
    for n in range(40):
        wav(root / "music" / f"{n}.wav")
        name = f"{'data_' if n == 5 else ''}{n}.beats"
        write(root / "notes" / name, "0.1\n0.5\n" if n else "")
    report = prepare("beats", root, out)
    assert report["without_beats"] == ["notes/0.beats"] and report["deviations"] == []
    folds = {row.ID: row.fold for table in tables(out).values() for row in table.itertuples()}
    assert len(folds) == 39 and len(set(folds.values())) == 8
    for fold in range(8):
        found = read("beats", root, fold=fold).groupby("split")["fold"].unique()
        assert (found["test"], found["valid"]) == ([fold], [(fold + 1) % 8])
    found = read("beats", root, split="single")
    assert {folds.get(key, "0") for key in found["id"][found["split"] == "valid"]} == {"0"}
    with refused("the fold to test on is '8'", "0, 1"):
        prepare("beats", root, out, fold=8)
    with refused("split is 'no'", "folds, single, marble"):
        prepare("beats", root, out, split="no")
    wav(root / "more" / "7.wav")
    with refused("more/7.wav and music/7.wav", "remove all but one"):
        prepare("beats", root, out)
    (root / "more" / "7.wav").unlink()
    write(root / "more" / "7.beats", "")
    with refused("more/7.beats and notes/7.beats", "remove all but one"):
        prepare("beats", root, out)
    (root / "more" / "7.beats").unlink()
    write(root / "8-folds.split", "1\t0\n")
    with refused("8-folds.split has no 0"):
        prepare("beats", root, out)
    (root / "8-folds.split").unlink()
    write(root / "notes" / "9.beats", "0.5\n0.4\n")
    with pytest.raises(UserError, match=r"9.beats, line 2 has the time 0.4 after 0.5"):
        prepare("beats", root, out)


@real
def test_rwc(annotated, out, tmp_path):
    root = annotated("rwc_v2", "annotations")
    stems = [path.stem for path in sorted((REAL / "rwc_v2" / "beats").glob("*/*.csv"))]
    assert len(stems) == 167
    sounds(root / "RWC", stems)
    with refused("the data set has 167 of 328"):
        prepare("rwc", root, out)
    report = prepare("rwc", root, out, allow_missing=True, fold=4)
    assert report["deviations"] == ["the data set has 167 of 328"]
    found = tables(out, root)
    assert set(found["test"]["fold"]) == {"4"} and set(found["valid"]["fold"]) == {"0"}
    table = pd.concat(found.values()).set_index("ID")
    assert len(table) == 167 and table["fold"].value_counts().min() > 20
    assert table.groupby("artist")["fold"].nunique().max() == 1
    assert table["fold"][[f"RWC_J{n:03d}" for n in range(1, 36, 2)]].nunique() == 1
    assert table["artist"]["RWC_C023A"] == "Yuriko Furuichi & Yoshiko Kikuchi"
    assert all(table["chords"].ne("") == table.index.str.startswith("RWC_P"))
    assert all(map(os.path.isfile, found["test"]["beats"]))
    chords = read("rwc", root, task="chords")
    assert len(chords) == 50 and chords["fold"].nunique() == 5 and (chords["beats"] != "").all()


def test_rwc_of_ones_own(tmp_path):
    table = "\ufeffCollID;PieceNo;Title;Artist\nP;3;x;Ann\nP;58A;y (z);Bob\n"
    write(tmp_path / "metadata.csv", table)
    write(tmp_path / "segments/RWC_P058A.txt", "0 intro\n1 verse\n2 end\n")
    found = read("rwc", tmp_path, task="segments", fold=1)
    assert found[["id", "artist", "segments"]].values.tolist() == [
        ["RWC_P058A", "Bob", "$data_root/segments/RWC_P058A.txt"]
    ]
    write(tmp_path / "segments/RWC_P101.lab", "0 1 x\n")
    with refused("No table names the piece of segments/RWC_P101.lab"):
        read("rwc", tmp_path, task="segments")


@real
def test_harmonix(annotated, out):
    root = annotated("harmonix", "dataset")
    stems = [path.stem for path in sorted((REAL / "harmonix/segments").iterdir())]
    sounds(root / "mine", stems[:-1])
    with refused("the data set has 303 of 912", "does not exist"):
        prepare("harmonix", root, out)
    prepare("harmonix", root, out, allow_missing=True, fold=7)
    found = tables(out, root)
    assert set(found["test"]["fold"]) == {"7"} and set(found["valid"]["fold"]) == {"0"}
    table = pd.concat(found.values())
    assert len(table) == 303 and table.groupby("artist")["fold"].nunique().max() == 1
    assert set(table["has_downbeats"]) == {"1"}
    row = table.iloc[0]
    assert len(read_beats(row["beats"]).times) and read_intervals(row["segments"]).labels


def test_guitarset(tmp_path, out):
    root = tmp_path / "data"
    for player in range(6):
        key = f"0{player}_BN1-129-Eb_comp"
        chord = {"time": 0, "duration": 1, "value": "C:maj"}
        beat = {"time": 0, "duration": 0, "value": {"position": 2}}
        kinds = {"beat_position": beat, "chord": chord}
        text = json.dumps({"annotations": [{"namespace": k, "data": [kinds[k]]} for k in kinds]})
        write(root / "annotation" / f"{key}.jams", text)
        for kind in ("mic", "mix", "hex"):
            wav(root / f"audio_{kind}" / f"{key}_{kind}.wav")
    with refused("the data set has 6 of 360"):
        prepare("guitarset", root, out)
    for player in range(6):
        found = read("guitarset", root, player=player).set_index("split")
        assert found["artist"]["test"] == f"0{player}" and len(found.loc["train"]) == 4
        assert found["artist"]["valid"] == f"0{(player + 1) % 6}"
    prepare("guitarset", root, out, allow_missing=True)
    [row] = tables(out, root)["test"].to_dict("records")
    assert row["beats"] == row["chords"] and read_intervals(row["chords"]).labels == ["C:maj"]
    assert row["wav"].endswith("00_BN1-129-Eb_comp_mic.wav") and row["has_downbeats"] == "0"


def test_chords1217(tmp_path, out):
    """1,217 songs in the published folds; those that validate by Jiang et al.'s rule."""
    root, names = tmp_path / "data", [f"TR{n:04d}" for n in range(1217)]
    tests = [names[fold::5] for fold in range(5)]
    trains = [[name for name in names if name not in test] for test in map(set, tests)]
    for fold, lists in enumerate(zip(trains, tests, strict=True)):
        for side, part in zip(("train", "test"), lists, strict=True):
            write(root / f"data/{side}{fold:02d}.csv", "\n".join(part))
    for name in names:
        write(root / f"chordlab/{name}.lab", "0.0\t0.2\tC:maj\n")
    (root / "audio").mkdir()
    sounds(root / "audio", names)
    prepare("chords1217", root, out)
    assert sizes(out) == [730, 243, 244]
    np.random.seed(20190326)  # once, for the lists of all folds
    for fold, train in enumerate(trains):
        quarter = [train[place] for place in np.random.permutation(len(train))][
            -(len(train) // 4) :
        ]
        found = read("chords1217", root, fold=str(fold)).groupby("split")["id"].agg(set)
        assert found["valid"] == set(quarter) and found["test"] == set(tests[fold])
        assert found["train"] == set(train) - set(quarter)
    (root / "chordlab/TR0003.lab").rename(root / "chordlab/other.lab")
    with refused("No table names the piece of chordlab/other.lab"):
        prepare("chords1217", root, out)
    (root / "chordlab/other.lab").unlink()
    with refused("the data set has 1216 of 1217"):
        prepare("chords1217", root, out)
    with refused("the fold to test on is '5'; choose one of 0, 1, 2, 3, 4"):
        prepare("chords1217", root, out, fold=5)
    write(root / "data/train04.csv", "\n".join(trains[4][1:]))
    with refused("train04.csv does not have the songs of the other folds"):
        prepare("chords1217", root, out)
    (root / "data/test02.csv").unlink()
    with refused("test02.csv does not exist"):
        prepare("chords1217", root, out)


def test_folds_of_artists():
    artists = {"1": "Ann Trio", "2": "ann & Bob", "3": "BOB feat. Cid", "4": "Dee", "5": "Eve's"}
    assert artist_folds(artists, 3) == {"1": 0, "2": 0, "3": 0, "4": 1, "5": 2}
    works = {"4": "Jive", "5": "Jive", "1": "Abyss"}
    assert artist_folds(artists, 2, works) == {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1}
    chain = {"1": "Ann", "2": "Bob", "3": "Bob & Ann"}  # joined late
    assert set(artist_folds(chain, 3).values()) == {0}


@pytest.mark.parametrize("name", FRAMES)
def test_records_and_wrong_folders(name, tmp_path, out, capsys):
    record = DATA_SETS[name]
    own = list(inspect.signature(record.read).parameters)[2:]
    assert [*own, "allow_missing"] == sorted(record.options, key=[*own, "allow_missing"].index)
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "Expected tree" in shown and record.bibtex[:30] in shown
    write(tmp_path / "cover.jpg", "x")
    with refused(tmp_path, f"is not {record.title if name != 'beats' else 'a folder of beats'}"):
        prepare(name, tmp_path, out)
    assert not out.exists()
