"""The data sets: what is read, refused, counted, split, and cached."""

import csv
import hashlib
import inspect
import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
from sklearn.model_selection import GroupShuffleSplit

from speechbrain_music.data_prep import emomusic, files, fma, giantsteps, gtzan, merge, vocalset
from speechbrain_music.data_prep.cli import main
from speechbrain_music.data_prep.data_set import SPLITS, Item, hold_out
from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.headers import audio, read_headers
from speechbrain_music.data_prep.magnatagatune import TAGS
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS

ODD = 'it\'s a, b [c] (1): $x; "d".mp3.mp3'
KEYS, MTG = "giantsteps-key-dataset/annotations/key", "giantsteps-mtg-key-dataset"


def mtt(*rows):
    text, tags = io.StringIO(), sorted(TAGS)
    table = csv.writer(text, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow(["clip_id", *tags, "mp3_path"])
    table.writerows([key, *(int(tag in own) for tag in tags), path] for key, own, path in rows)
    return text.getvalue()


def notes(split):
    note = {"note": 9, "pitch": 60, "instrument_family_str": "bass", "instrument_str": "bass_1"}
    return json.dumps({f"{split}-{n}": note | {"velocity": 25} for n in (1, 2)}, indent=4)


# A small tree of each data set: annotation files; audio; what becomes of it (ID: label by split).
TEXTS = {
    "emomusic": {
        "annotations/songs_info.csv": "song_id,file_name,Artist,Song title,Mediaeval 2013 set\n"
        '2,2.mp3,"\tSo, ""So""\t","\tOne, two\t",development\n'
        "3,3.mp3,\tMö-O  2\t,\tx\t,development\n5,5.mp3,AC/DC,x,development\n"
        "6,6.mp3,\tSo so\t,\tx\t,evaluation\n7,7.mp3,Zu,x,evaluation\n",
        "annotations/static_annotations.csv": "song_id,mean_arousal,std_arousal,mean_valence\n"
        "2,3.0,1,4.5\n3,5.2,1,6.25\n5,7.9,1,2.0\n6,1.5,1,8.5\n7,9.0,1,1.0\n",
    },
    "fma": {
        "fma_metadata/tracks.csv": ",artist,artist,set,set,track,track\n"
        ",bio,id,split,subset,genre_top,title\ntrack_id,,,,,,\n"
        '2,"<p>Says\n""always"",\r\nand means it.</p>",1,training,small,Hip-Hop,a\n'
        '3,,2,validation,small,,"b\nc"\n1005,",",3,test,medium,Rock,d\n'
    },
    "giantsteps": {
        f"{KEYS}/1.LOFI.key": "Eb minor\t\n",
        f"{MTG}/annotations/annotations.txt": "ID\tMANUAL KEY\tC\n"
        "5\tA# minor\t2\n6\tE major\t2\n7\tE major\t1\n8\tC minor / D minor\t2\n9\t-\t2\n",
        f"{MTG}/annotations/beatport_metadata.txt": "ID\tARTIST\tSONG TITLE\tMIX\n"
        '5\tAnn, Cid\t"Heroes\t12" Mix\n6\tBob\tx\ty\n7\tAnn\tx\ty\n8\tAnn\tx\ty\n9\tAnn\tx\ty\n',
    },
    "gtzan": {
        "train_filtered.txt": "blues/blues.0.au\njazz\\jazz.00054.wav\n",
        **{"valid_filtered.txt": "rock/rock.1.wav\n", "test_filtered.txt": "pop/pop.2.wav\n"},
    },
    "magnatagatune": {
        "annotations_final.csv": mtt(
            ("2", ["classical", "guitar", "no vocals"], f"0/{ODD}"),
            ("35644", ["guitar"], "6/damaged.mp3"),
            ("6", ["choral"], "c/c.mp3"),
            ("10", [], "f/f.mp3"),
        )
    },
    "mtg_jamendo": {
        "data/raw_30s.tsv": "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\r\n"
        "track_1\tartist_1\talbum_1\t14/214.mp3\t30.0\tgenre---rock\tmood---sad\r\n"
        'track_2\tartist_2\talbum_2\t15/215.mp3\t30.0\tgenre---12" pop\r\n',
    },
    "music4all": {
        "id_information.csv": "id\tartist\tsong\talbum_name\n"
        'a\t"The ""Who"", etc."\ta: b\tx\nb\tA 12" B\t"two\nlines"\tx\nc\tC, D\t[x]\tyzzy\n'
    },
    "nsynth": {f"nsynth-{split}/examples.json": notes(split) for split in SPLITS},
    "vocalset": {},
}
SOUNDS = {
    "emomusic": [f"clips_45seconds/{number}.mp3" for number in (2, 3, 5, 6, 7)],
    "fma": [f"fma_large/{name}.mp3" for name in ("000/000002", "000/000003", "001/001005")],
    "giantsteps": [*(f"{MTG}/audio/{n}.LOFI.mp3" for n in (5, 6, 7, 8)), "audio/1.LOFI.wav"],
    "gtzan": "genres/blues/blues.0.wav genres/jazz/jazz.00054.wav genres/rock/rock.1.wav "
    "genres/pop/pop.2.au".split(),
    "magnatagatune": ["mp3/c/c.mp3", f"mp3/0/{ODD}", "mp3/6/damaged.mp3", "mp3/f/f.mp3"],
    "mtg_jamendo": ["audio/14/214.mp3", "audio/15/215.low.mp3"],
    "music4all": [f"audios/{letter}.mp3" for letter in "abc"],
    "nsynth": [f"nsynth-{split}/audio/{split}-{n}.wav" for split in SPLITS for n in (1, 2)],
    "vocalset": "FULL/female1/scales/belt/f1_scales_belt_a.wav FULL/male4/x/trill/m4_trill.wav "
    "FULL/female2/x/forte/f2_forte_a.wav FULL/female2/x/trill/f2_trill.wav".split(),
}
PIECES = {
    "emomusic": [{"2": 'So, "So"', "5": "AC/DC"}, {"3": "Mö-O  2"}, {"6": "So so", "7": "Zu"}],
    "fma": [{"000002": "1"}, {"000003": "2"}, {"001005": "3"}],
    "giantsteps": [{"5-0": "Bb minor"}, {"6-0": "E major"}, {"1-0": "Eb minor"}],
    "gtzan": [{"blues.0": "blues", "jazz.00054": "jazz"}, {"rock.1": "rock"}, {"pop.2": "pop"}],
    "magnatagatune": [{"2": "guitar|classical|no vocals"}, {"6": "choral"}, {"10": ""}],
    "mtg_jamendo": {"track_1": "artist_1", "track_2": "artist_2"},  # held out by chance
    "music4all": {"a": 'The "Who", etc.', "b": 'A 12" B', "c": "C, D"},
    "nsynth": [{f"{split}-{n}": "60" for n in (1, 2)} for split in SPLITS],
    "vocalset": [{"f1_scales_belt_a": "f1"}, {"m4_trill": "m4"}, {"f2_trill": "f2"}],
}
FILES = [(name, path) for name, texts in TEXTS.items() for path in texts]
TABLES = [(name, path) for name, path in FILES if not path.endswith((".json", ".key"))]
ANNOTATIONS = Path(__file__).parents[3] / "shared" / "data" / "annotations"
real = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the real annotations are not here")
by_name = pytest.mark.parametrize("name", TEXTS)


def wav(path, seconds=1.0, rate=1000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    silence = np.zeros((int(seconds * rate), channels))
    soundfile.write(path, silence, rate, format="AU" if path.suffix == ".au" else "WAV")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


@pytest.fixture
def tree(tmp_path):
    """A function: data set, texts that are others -> the folder of a small tree."""

    def tree(name, texts=(), folder="data"):
        for path, text in (TEXTS[name] | dict(texts)).items():
            write(tmp_path / folder / path, text)
        for path in SOUNDS[name]:
            wav(tmp_path / folder / path, 30.5 if name == "giantsteps" else 1.0)
        return tmp_path / folder

    return tree


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def prepare(name, root, out, **options):
    defaults = {"allow_missing": True, "task": "technique"}
    known = DATA_SETS[name].options
    defaults = {key: value for key, value in defaults.items() if key in known}
    return DATA_SETS[name].prepare(root, out, **defaults | options)


def tables(out, root="/"):
    """Split -> manifest, those without rows aside."""
    paths = [out / f"{split}.csv" for split in SPLITS if (out / f"{split}.csv").exists()]
    return {p.stem: read_manifest(p, root) for p in paths if p.read_text().count("\n") > 1}


def pieces(out):
    return [dict(zip(t["ID"], t.iloc[:, 5], strict=True)) for t in tables(out).values()]


def assert_whole(name, out):
    found = pieces(out)
    assert found == PIECES[name] or found[0] | found[1] == PIECES[name]


def splits_of(items):
    return [[item.split for item in items].count(split) for split in SPLITS]


@contextmanager
def refused(*fragments):
    with pytest.raises(files.PreparationError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message and all(str(part) in message for part in fragments), message


@pytest.fixture
def opened(monkeypatch):
    """What reads headers, and counts."""
    monkeypatch.setattr(audio, "audio_info", Mock(wraps=audio.audio_info))
    return audio.audio_info


@by_name
def test_small_trees_are_prepared_whole_and_only_once(name, tree, out, opened):
    root = tree(name)
    report = prepare(name, root, out)
    assert_whole(name, out)
    assert report == json.loads((out / "report.json").read_text()) and report["skipped"] == 0
    for split, table in tables(out, root).items():
        assert len(table) == report["splits"][split]["rows"]
        assert all(map(os.path.isfile, table["wav"]))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}
    count = opened.call_count
    assert prepare(name, root, out) == report and count == opened.call_count > 0
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}


CHANGES = [(*case, "CRLF") for case in FILES] + [(*case, "byte order mark") for case in TABLES]


@pytest.mark.parametrize("name, path, change", CHANGES)
def test_line_ends_and_byte_order_marks_change_nothing(name, path, change, tree, out):
    text = TEXTS[name][path].replace("\r\n", "\n")
    text = text.replace("\n", "\r\n") if change == "CRLF" else "\ufeff" + text
    prepare(name, tree(name, {path: text}), out)
    assert_whole(name, out)


def test_tags_have_no_line_end_and_the_table_may_be_missing(tree, out):
    root = tree("mtg_jamendo")
    path = root / "data" / "raw_30s.tsv"
    rows = files.read_table(path, ["TAGS"], "\t", csv.QUOTE_NONE)
    assert [row["TAGS"] for row in rows] == ["genre---rock", 'genre---12" pop']
    path.unlink()
    prepare("mtg_jamendo", root, out)
    assert {key for split in pieces(out) for key in split} == {"audio/14/214", "audio/15/215"}


@pytest.mark.parametrize("name, path", [c for c in FILES if c[1][-3:] not in ("key", "tsv")])
def test_a_missing_annotation_file_is_named(name, path, tree, out):
    root = tree(name)
    (root / path).unlink()
    with refused(os.path.basename(path)):
        prepare(name, root, out, **{"lists": root} if name == "gtzan" else {})
    assert not out.exists()


CUT = object()  # the file ends after the old text
ANNOTATION_FAULTS = [
    ("emomusic", "songs_info.csv", "Artist", "Band", "lacks", "Artist"),
    ("emomusic", "songs_info.csv", "\n7,", "\n8,", "song '8'", "static_annotations.csv must"),
    ("emomusic", "songs_info.csv", "evaluation", "Evaluation", "'Evaluation'"),
    ("emomusic", "static_annotations.csv", "5.2", "nan", "'nan', which is not 1 to 9"),
    ("emomusic", "static_annotations.csv", "5.2", "99", "'99', which is not 1 to 9"),
    ("magnatagatune", "annotations_final.csv", '"c/c.mp3"', '""', "the path ''"),
    ("nsynth", "examples.json", "25\n    }\n}", "25\n", "damaged or cut off"),
    ("emomusic", "songs_info.csv", "\n7,", "\nx,", "'x'"),
    ("fma", "tracks.csv", "genre_top", "genre", "lacks", "track genre_top"),
    ("fma", "tracks.csv", "training", "trainin", "damaged at the track '2'"),
    ("fma", "tracks.csv", "test,me", CUT, "is cut off at line 9"),
    ("fma", "tracks.csv", "always", CUT, "is cut off at line 5"),
    ("giantsteps", "1.LOFI.key", "Eb", "H", "'H minor'"),
    ("giantsteps", "annotations.txt", "\tC\n", "\tD\n", "lacks", " C;"),
    ("giantsteps", "beatport_metadata.txt", "ARTIST", "BY", "lacks", "ARTIST"),
    ("giantsteps", "beatport_metadata.txt", "\n6\t", "\n66\t", "has no track 6"),
    ("gtzan", "test_filtered.txt", "pop/", "folk/", "folk/", "reggae"),
    ("gtzan", "test_filtered.txt", "pop/", "", "'pop.2.wav'"),
    ("magnatagatune", "annotations_final.csv", '"choral"', '"choir "', "lacks", "choral"),
    ("magnatagatune", "annotations_final.csv", "c/c.mp3", "g/c.mp3", "'g/c.mp3'", "0 to f"),
    ("magnatagatune", "annotations_final.csv", '"10"\t"0"', CUT, "is cut off at line 5"),
    ("mtg_jamendo", "raw_30s.tsv", "ARTIST_ID", "ARTIST", "lacks", "ARTIST_ID"),
    ("mtg_jamendo", "raw_30s.tsv", "15/215", CUT, "is cut off at line 3"),
    ("music4all", "id_information.csv", "artist", "by", "lacks", "artist"),
    ("music4all", "id_information.csv", "[x]", CUT, "is cut off at line 5; download it again"),
    ("nsynth", "examples.json", '"pitch": 60', '"pitch": 128', "train-1", "128", "0 to 127"),
    ("nsynth", "examples.json", '"pitch": 60', '"pitch": -1', "train-1", "pitch -1"),
    ("nsynth", "examples.json", '"bass"', '"kazoo"', "'kazoo'", "synth_lead"),
    ("nsynth", "examples.json", "velocity", "speed", "damaged", "velocity"),
]


@pytest.mark.parametrize("fault", ANNOTATION_FAULTS, ids=lambda fault: str(fault[:3]))
def test_faults_of_annotations_are_named(fault, tree, out):
    name, file, old, new, *fragments = fault
    path, text = next(item for item in TEXTS[name].items() if item[0].endswith(file))
    before, after = text.split(old, 1)
    with refused(file, *fragments):
        prepare(name, tree(name, {path: before + (old if new is CUT else new + after)}), out)
    assert not out.exists()


def test_a_lone_quotation_mark_loses_no_rows_in_silence(tree, out):
    [(path, text)] = TEXTS["music4all"].items()
    lone = 'd\tD\t"Heroes\tx\ne\tE\ty\tx\nf\tF\t"Q"\tx\n'
    with refused("an unclosed quotation mark"):
        prepare("music4all", tree("music4all", {path: text + lone}), out)


def test_an_id_stands_for_one_piece(tree, out, tmp_path):
    [(path, text)] = TEXTS["music4all"].items()
    report = prepare("music4all", tree("music4all", {path: f"{text}c\tC, D\tx\ty\n"}), out)
    assert report["repeated"] == ["c"]
    assert_whole("music4all", out)
    with refused("two different pieces with the ID c"):
        prepare("music4all", tree("music4all", {path: f"{text}c\tC\tx\ty\n"}), tmp_path / "new")


@pytest.mark.parametrize(
    "make, fate",
    [
        (lambda path: write(path, ""), "is empty"),
        (lambda path: wav(path, 0), "holds no samples"),
        (lambda path: write(path, "do re mi " * 99), "is not readable as audio"),
        (lambda path: wav(path, 0.7), "shorter than 0.8 s"),
        (lambda path: None, "does not exist"),
        (lambda path: wav(path, 1.25, 8000), 10000),
        (lambda path: wav(path, 1.25, 1000, channels=6), 1250),
    ],
)
def test_audio_of_all_kinds(make, fate, tree, out):
    root, path = tree("music4all"), "audios/b.mp3"
    (root / path).unlink()
    make(root / path)
    report = prepare("music4all", root, out)
    rows = {row.ID: row for t in tables(out).values() for row in t.itertuples()}
    if isinstance(fate, str):
        assert set(rows) == {"a", "c"} and report["skipped"] == 1
        assert report["examples"][path].startswith(fate)
        assert f"{path},{fate}" in (out / "skipped.csv").read_text()
    else:
        assert (rows["b"].duration, rows["b"].start, rows["b"].stop) == (1.25, 0, fate)


def test_counts_are_asserted(tree, out, tmp_path, monkeypatch):
    counts = {"published": {"train": 2, "valid": 1, "test": 1}}
    monkeypatch.setattr(gtzan, "GTZAN", replace(gtzan.GTZAN, counts=counts))
    root = tree("gtzan")
    write(root / "genres" / "jazz" / "jazz.00054.wav", "x" * 99)  # as in most copies
    wav(root / "genres" / "metal" / "metal.00009.wav")
    report = prepare("gtzan", root, out, allow_missing=False)
    assert report["deviations"] == [] and report["splits"]["train"]["files"] == 1
    assert report["unlisted"] == {"files": 1, "examples": ["genres/metal/metal.00009.wav"]}
    assert list(report["examples"]) == ["genres/jazz/jazz.00054.wav"]
    (root / "genres" / "pop" / "pop.2.au").unlink()
    with refused("test has 0 of 1", "--allow_missing", "(first: genres/"):
        prepare("gtzan", root, tmp_path / "new", allow_missing=False)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["headers.jsonl"]
    report = prepare("gtzan", root, out)
    assert report["deviations"] == ["test has 0 of 1"]
    assert report["examples"]["genres/pop/pop.2.wav"].startswith("does not exist")
    assert pieces(out) == [{"blues.0": "blues"}, {"rock.1": "rock"}]


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("emomusic", "clips_45seconds", "clips_45sec"),
        ("giantsteps", MTG, f"{MTG}-master"),
        ("gtzan", "genres", "genres_original"),
        ("gtzan", "genres", "Data/genres_original"),
        ("gtzan", "genres", "."),
        ("magnatagatune", "mp3", "."),
        ("mtg_jamendo", "audio", "raw_30s/audio-low"),
        ("nsynth", ".", "nsynth-data"),
        ("vocalset", "FULL", "data_by_singer"),
    ],
)
def test_releases_lay_files_elsewhere(name, old, new, tree, out):
    root = tree(name)
    for path in list((root / old).iterdir()):
        (root / new).mkdir(parents=True, exist_ok=True)
        path.rename(root / new / path.name)
    if old != ".":
        (root / old).rmdir()
    prepare(name, root, out)
    assert_whole(name, out)


def test_lists_are_fetched_once_and_checked(tree, out, monkeypatch):
    root, texts, answers = tree("gtzan"), TEXTS["gtzan"], []
    for path, data in ((path, text.encode()) for path, text in texts.items()):
        (root / path).unlink()
        answers += [OSError("no route"), io.BytesIO(b"rock/rock.9.wav\n"), io.BytesIO(data)]
        monkeypatch.setitem(gtzan.SHA256, path.split("_")[0], hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(gtzan.urllib.request, "urlopen", fetched := Mock(side_effect=answers))
    for path in texts:
        for why in ("no route", "sha256"):
            with refused(path, "--lists", why):
                prepare("gtzan", root, out)
            assert not (out / "lists" / path).exists()
    for _ in range(2):
        assert prepare("gtzan", root, out)["official_lists"] is True
        assert_whole("gtzan", out)
    assert fetched.call_count == 9


@real
def test_real_lists(tree):
    root = tree("gtzan")
    items, official = gtzan.read_gtzan(root, ANNOTATIONS / "gtzan")
    assert official and splits_of(items) == [443, 197, 290]
    assert ("jazz.00054", "genres/jazz/jazz.00054.wav", "train", ("jazz",)) in items
    assert not gtzan.read_gtzan(root)[1]


def test_the_fifty_tags(tree, out):
    assert len(TAGS) == len(set(TAGS)) == 50 and TAGS[-1] == "choral"
    assert TAGS[:5] == ("guitar", "classical", "slow", "techno", "strings")
    prepare("magnatagatune", tree("magnatagatune"), out, tagged_only=True)
    assert pieces(out) == PIECES["magnatagatune"][:2]


@real
def test_real_notes(tree, out):
    [path] = (ANNOTATIONS / "nsynth").iterdir()
    truth = json.loads(path.read_text())
    root = tree("nsynth", {"nsynth-test/examples.json": path.read_text()})
    for name in truth:
        wav(root / "nsynth-test" / "audio" / f"{name}.wav", 0.1)
    prepare("nsynth", root, out)
    columns = tables(out)["test"][["ID", "pitch", "family", "instrument"]].values.tolist()
    keys = ("pitch", "instrument_family_str", "instrument_str")
    assert columns == sorted([name, *(str(truth[name][key]) for key in keys)] for name in truth)
    assert len(columns) == 23 and all(row[1] == str(int(row[0].split("-")[1])) for row in columns)


def test_artists_are_split_by_their_plain_names():
    assert emomusic.plain_name("Motörhead & The  2 Friends") == "motrhead the friends"
    assert emomusic.artist_split("Motörhead & The  2 Friends") == "valid"  # sha1sum: 8 modulo 10
    assert emomusic.artist_split("\tSo, 'So' ") == "train"  # "so so": 7


def test_emotions_are_standardised_by_the_development_set(tree, out):
    scale = prepare("emomusic", tree("emomusic"), out)["scale"]
    assert scale["arousal"]["mean"] == pytest.approx((3.0 + 5.2 + 7.9) / 3)
    for emotion in scale:
        columns = [emotion, f"{emotion}_z"]
        train, valid, test = (t[columns].astype(float).values for t in tables(out).values())
        for values, standard in (table.T for table in (train, valid, test)):
            back = scale[emotion]["mean"] + scale[emotion]["std"] * standard
            assert np.allclose(back, values, atol=1e-4)
        developed = np.concatenate([train, valid])[:, 1]
        assert np.allclose([developed.mean(), developed.std()], [0, 1], atol=1e-5)


def test_no_tested_artist_is_trained_on_if_so_wished(tree, out):
    prepare("emomusic", tree("emomusic"), out, split="artist_disjoint")
    assert pieces(out) == [{"5": "AC/DC"}, *PIECES["emomusic"][1:]]


@pytest.mark.parametrize(
    "key", "C B# c/Db C# db/D d/Eb D# d#/E Fb e/F E#/Gb F# gb/G g/Ab G#/A a/Bb A#/B Cb b".split("/")
)
def test_a_key_has_one_name(key):
    for mode in ("major", "minor"):
        for tonic in key.split():
            assert giantsteps.one_of_24(f" {tonic} {mode.title()}\t") == f"{key.split()[0]} {mode}"
    for text in ("", "-", key, f"{key} dorian", f"{tonic} minor / D minor", "H minor"):
        assert giantsteps.one_of_24(text) is None


def test_artists_are_split_by_their_names_and_their_company():
    names = ["Ann", "Bob", "Cid", "DJ Björk", "MIA", "Lou"]
    numbers = [int(hashlib.sha1(name.lower().encode()).hexdigest(), 16) % 116 for name in names]
    expected = {n: "valid" if k >= 100 else "train" for n, k in zip(names, numbers, strict=True)}
    assert [name for name in names if expected[name] == "valid"] == ["Bob", "MIA"]
    assert giantsteps.artist_splits([[name] for name in names]) == expected
    chain = [["Lou", "Cid"], ["Cid", "Ann"], ["Ann", "Bob"], ["DJ Björk"]]
    two_steps = {"Bob": "valid", "Ann": "valid", "Cid": "valid", "Lou": "train"}
    assert giantsteps.artist_splits(chain) == two_steps | {"DJ Björk": "train"}
    assert giantsteps.artist_splits(chain[::-1])["Lou"] == "valid"  # reached in one sweep


def test_tracks_are_cut_into_clips_that_know_them(tree, out):
    root = tree("giantsteps")
    wav(root / MTG / "audio" / "5.LOFI.mp3", 65)
    wav(root / MTG / "audio" / "6.LOFI.mp3", 29.9)
    report = prepare("giantsteps", root, out)
    table = tables(out)["train"]
    assert table["ID"].tolist() == ["5-0", "5-1"] and set(table["track"]) == {"5"}
    assert table[["start", "stop"]].values.tolist() == [[0, 30000], [30000, 60000]]
    assert set(table["duration"]) == {30.0} and set(table["artist"]) == {"Ann, Cid"}
    assert [report["splits"]["train"][key] for key in ("files", "rows")] == [1, 2]
    assert report["left_out"] == {"confidence under 2": 1, "no key or several": 2}
    assert report["examples"] == {f"{MTG}/audio/6.LOFI.mp3": "shorter than 30 s"}


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


def test_names_are_repaired_and_copies_dropped(tmp_path):
    found = {
        "female2/x/belt/f2_belt_a.wav": "f2_belt_a belt a",
        "female2/x/trill/f2_x_i.wav": "f2_x_i trill i",
        "female2/x/trill/f2_x_i(1).wav": "f2_x_i(1) trill i",
        "female2/x/belt/f2_belt_a(1).wav": None,
        "female1/notes/f1_notes.wav": None,
        "female4/x/straight/arpeggios_straight_a.wav": "f4_arpeggios_straight_a straight a",
        "male8/x/vibrato/m9_vibrato_e.wav": "m8_vibrato_e vibrato e",
        "female2/x/vibrado/f2_arpeggios.wav": "f2_arpeggios vibrato ",
    }
    for index, name in enumerate(found):
        wav(tmp_path / "FULL" / name, 1 + index * ("/belt/" not in name))
    items, deviations = vocalset.read_vocalset(tmp_path)
    names = {i.wav.removeprefix("FULL/"): " ".join([i.id, *i.labels[1:]]) for i in items}
    assert names == {name: taken for name, taken in found.items() if taken}
    assert set(deviations) == {f"FULL/{name}" for name in list(found)[3:]}


def test_stray_files_are_left_out_and_told(tree, out):
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


def test_two_takes_of_one_name_are_two_recordings(tmp_path):
    for index, name in enumerate(("f1_x_a", "m9_x_a", "x_a")):
        wav(tmp_path / "FULL" / "female1" / "scales" / "belt" / f"{name}.wav", 1 + index)
    items, _ = vocalset.read_vocalset(tmp_path)
    assert [item.id for item in items] == ["f1_x_a", "f1_x_a_2", "f1_x_a_3"]


@pytest.mark.parametrize("task", ["singer", "technique"])
def test_marbles_split(task):
    items = recordings(4)
    seconds = {item.id: 2.9 if index % 11 == 0 else 4.0 for index, item in enumerate(items)}
    dropped = Item("f3_caro", "vibrato/caro_vibrato.wav", None, ("f3", "vibrato", ""))
    listed = sorted(items, key=lambda item: (item.labels[1], item.id))  # 80 of each technique
    number = {item.id: index % 80 for index, item in enumerate(listed)}
    rows = [item for item in items if seconds[item.id] > 3]
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
    found = vocalset.split_as_marble([dropped, *items[::-1]], seconds | {"f3_caro": 4.0}, task)
    parts = zip(SPLITS, (train, valid, test), strict=True)
    expected = {item.id: split for split, part in parts for item in part}
    assert {item.id: item.split for item in found} == expected and len(found) == len(expected)


def test_a_subset_holds_the_smaller_ones(tree):
    root = tree("fma")
    assert [item.id for item in fma.read_fma(root, "small")] == ["000002", "000003"]
    assert len(fma.read_fma(root, "large")) == 3 and fma.largest_subset(root) == "large"
    assert fma.read_fma(root, "small")[0].wav == "fma_large/000/000002.mp3"
    assert {item.split for item in fma.read_fma(root, "full", "artist")} == {None}


@real
def test_real_tracks(tree):
    path = "fma_metadata/tracks.csv"
    with open(ANNOTATIONS / "fma" / "tracks.csv", newline="", encoding="utf-8") as file:
        lines = file.readlines()
    with refused(f"tracks.csv is cut off at line {len(lines)};"):
        fma.read_fma(tree("fma", {path: "".join(lines)}), "full")
    rows = csv.reader(lines)
    ends = [rows.line_num for _ in rows]
    root = tree("fma", {path: "".join(lines[: ends[-2]])})
    assert splits_of(fma.read_fma(root, "small")) == [45, 4, 9]
    assert splits_of(fma.read_fma(root, "medium")) == [45 + 82, 4 + 5, 9 + 49]
    assert splits_of(fma.read_fma(root, "large")) == [45 + 82 + 436, 4 + 5 + 39, 9 + 49 + 13]


@by_name
def test_wrong_folders(name, tree, out, tmp_path):
    root = tree(name, folder="deep/er/data")
    inside = root.joinpath(*SOUNDS[name][0].split("/")[:-1][:2])
    write(tmp_path / "elsewhere" / "cover.jpg", "x")
    for wrong, *fragments in [
        (root.parent, "the parent of", f"did you mean {root}?"),
        (root.parents[1], "the parent of", f"did you mean {root}?"),
        (inside, "a part of it", f"did you mean {root}"),
        (tmp_path / "elsewhere", f"is not {DATA_SETS[name].title}", "--help"),
        (root.with_name("date"), "There is no folder", f"did you mean {root}?"),
        (root / SOUNDS[name][0], "is a file; pass the folder that holds it"),
    ]:
        with refused(wrong, *fragments):
            prepare(name, wrong, out)
    assert not out.exists()
    with refused("cover.jpg/out", "cannot be written; choose another folder"):
        prepare(name, root, tmp_path / "elsewhere" / "cover.jpg" / "out")


def test_a_command_says_an_error_in_one_line(tree, out, capsys):
    root = tree("nsynth", {"nsynth-valid/examples.json": notes("valid")[:-30]})
    for wrong, message in [(root.parent, f"did you mean {root}?"), (root, "damaged or cut off")]:
        assert main(["nsynth", str(wrong), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not out.exists()
    assert main(["nsynth", str(tree("nsynth")), "--out", str(out), "--allow_missing"]) == 0
    assert_whole("nsynth", out)


def test_a_disk_that_fails_while_reading(tree, out, monkeypatch):
    root, error = tree("emomusic"), OSError(5, "Input/output error", "static_annotations.csv")
    monkeypatch.setattr(files, "open", Mock(side_effect=error), raising=False)
    with refused("static_annotations.csv cannot be read", "Input/output error"):
        prepare("emomusic", root, out)


def test_a_full_disk_leaves_nothing_behind(tree, out, monkeypatch):
    full = [None, None, OSError(28, "No space left on device")]  # at the third of five files
    monkeypatch.setattr(os, "fsync", Mock(side_effect=full))
    with refused("No space left on device"):
        prepare("nsynth", tree("nsynth"), out)
    assert [path.name for path in out.iterdir()] == ["headers.jsonl"]


@pytest.mark.parametrize(
    "change, read",
    [
        (lambda f: (f / "log").write_bytes((f / "log").read_bytes()[:-9]), "4.wav"),
        (lambda f: (wav(f / "1.wav", 2), os.utime(f / "1.wav", (9, 9))), "1.wav"),
        (lambda f: os.utime(f / "2.wav", ns=(9, 9)), "2.wav"),
        (lambda f: write(f / "3.wav", "do re mi " * 99), "3.wav"),
    ],
)
def test_headers_are_read_again_where_something_changed(change, read, tmp_path, opened):
    names = [f"{index}.wav" for index in range(5)]
    for name in names:
        wav(tmp_path / name)
        os.utime(tmp_path / name, (9, 9))

    def scan():
        opened.reset_mock()
        found = read_headers(tmp_path, names, tmp_path / "log", bar=None)
        return found, sorted(os.path.basename(call.args[0]) for call in opened.call_args_list)

    first = scan()[0]
    assert scan() == (first, [])
    change(tmp_path)
    found, again = scan()
    assert again == [read] and scan() == (found, again * (read == "3.wav"))  # tried each time
    assert [n for n in names if found[n] != first[n]] == [read] * (read in ("1.wav", "3.wav"))


@pytest.fixture
def corpora(tmp_path):
    """Two prepared folders of three files each."""
    for name in ("mine", "yours"):
        for file in ("0, 0.wav", "1, 1.wav", "2.wav"):
            wav(tmp_path / "music" / name / file)
        files = [tmp_path / name / f"{split}.csv" for split in SPLITS]
        prepare_folder(tmp_path / "music" / name, *files[:2])
    return [tmp_path / "mine", tmp_path / "yours"]


def test_other_settings_replace_what_was_there(tree, out, caplog):
    root = tree("fma")
    prepare("fma", root, out)
    assert len(tables(out)) == 3
    prepare("fma", root, out, split="artist", valid_share=0.4)
    assert list(tables(out)) == ["train", "valid"] and not (out / "test.csv").exists()
    assert "'split': 'official'" in caplog.text
    (out / "report.json").unlink()
    with refused("an unknown folder"):
        prepare("fma", root, out)


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_shares_that_are_none(share, tree, out):
    with refused(f"valid_share is {share}"):
        prepare("music4all", tree("music4all"), out, valid_share=share)


def test_artists_are_held_out_whole_and_not_more_than_the_share():
    rows = [{"ID": f"{index:02d}"} for index in range(20)]
    artists = ["many"] * 12 + ["some"] * 4 + ["few"] * 2 + ["", ""]
    for seed in range(5):
        sides = hold_out(rows, 0.25, seed, artists)
        sizes = [len(sides["train"]), len(sides["valid"])]
        assert sum(sizes) == 20 and 1 <= sizes[1] <= 5
        held = [artists[int(row["ID"])] for row in sides["valid"]]
        assert all(held.count(name) == artists.count(name) for name in set(held) if name)
    assert len(hold_out(rows[:6], 0.1, 0, ["a"] * 5 + ["b"])["valid"]) == 1


def test_corpora_are_merged_with_weights(corpora, out, tmp_path):
    mine, yours = corpora
    lines = (mine / "train.csv").read_text().splitlines()
    lines = [f"{lines[0]},weight", *(f"{line},2" for line in lines[1:])]
    (mine / "train.csv").write_text("\n".join(lines))
    assert main(["merge", f"{mine}=1.5", str(yours), "--out", str(out)]) == 0
    root = json.loads((out / "report.json").read_text())["data_folder"]
    assert root == str(tmp_path / "music")
    for split, table in tables(out, root).items():
        own = 2 if split == "train" else 1
        weights = dict(zip(table["corpus"], table["weight"], strict=True))
        assert weights == {"mine": 1.5 * own, "yours": 1.0} and len(table) == 2 * own
        for row in table.itertuples():
            assert row.wav == f"{root}/{row.ID}" and os.path.isfile(row.wav)
            assert row.ID.startswith(f"{row.corpus}/")


def test_what_cannot_be_merged(corpora, out, tmp_path, capsys):
    mine, yours = corpora
    for weight in (0, -1.0, float("nan"), float("inf")):
        with refused("The weight of", mine, weight, "must be above 0"):
            merge.merge({mine: weight, yours: 1.0}, out)
    assert main(["merge", f"{mine}=two", "--out", str(out)]) == 2
    assert "'two' is not a weight; write FOLDER=2" in capsys.readouterr().err
    with refused("music holds no prepared corpus", "prepare it first"):
        merge.merge({mine: 1.0, tmp_path / "music": 1.0}, out)
    with refused("holds a corpus of its own"):
        merge.merge({mine: 1.0}, yours)
    with refused("Name at least one"):
        merge.merge({}, out)
    (tmp_path / "again").mkdir()
    yours.rename(tmp_path / "again" / "mine")
    with refused("the same name"):
        merge.merge({mine: 1.0, tmp_path / "again" / "mine": 1.0}, out)
    assert not out.exists()


@by_name
def test_a_record_says_what_the_help_and_the_report_say(name, tree, out, capsys):
    record = DATA_SETS[name]
    assert (record.name, set(TEXTS)) == (name, set(DATA_SETS))
    assert record.licence and record.reference and "@" in record.bibtex
    assert list(inspect.signature(record.prepare).parameters)[2:] == list(record.options)
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and "Expected tree" in shown
    texts = [
        record.licence,
        record.home_page,
        *inspect.getmodule(record.prepare).__doc__.split("\n"),
    ]
    for text in [*texts, "--out", *(f"--{option}" for option in record.options)]:
        assert text in shown
    report = prepare(name, tree(name), out)
    assert list(report["splits"]) == list(record.splits)
    for key in ("reference", "home_page", "licence", "bibtex"):
        assert report[key] == getattr(record, key)


def test_the_command_lists_the_data_sets_and_refuses_other_names(capsys):
    for argv, code, words in (
        (["--help"], 0, [*DATA_SETS, "folder", "labelled_folder", "merge", "shards"]),
        (["gtzam", "x"], 2, ["invalid choice: 'gtzam'", "gtzan"]),
        (["vocalset", "x", "--out", "y"], 2, ["required: --task"]),
    ):
        with pytest.raises(SystemExit) as left:
            main(argv)
        shown = "".join(capsys.readouterr())
        assert left.value.code == code and all(word in shown for word in words)


def test_the_command_imports_nothing_heavy():
    code = (
        "import sys, speechbrain_music.data_prep.cli\n"
        "print(sorted({'torch', 'pandas', 'speechbrain', 'torchaudio'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
