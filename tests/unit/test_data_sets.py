"""The data sets: what is read, refused, counted and split."""

import csv
import hashlib
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from small_trees import (
    MTG,
    PIECES,
    SOUNDS,
    TEXTS,
    assert_whole,
    pieces,
    prepare,
    refused,
    splits_of,
    tables,
    wav,
    write,
)

from speechbrain_music.data_prep import emomusic, files, fma, giantsteps, gtzan, mtg_tagging
from speechbrain_music.data_prep.data_set import SPLITS, hold_out
from speechbrain_music.data_prep.magnatagatune import TAGS
from speechbrain_music.data_prep.registry import DATA_SETS

ANNOTATIONS = Path(
    os.environ.get("SBMUSIC_ANNOTATIONS", Path(__file__).parents[3] / "shared/data/annotations")
)
real = pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the real annotations are not here")
by_name = pytest.mark.parametrize("name", TEXTS)


@by_name
def test_small_trees(name, tree, out, opened):
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


@by_name
def test_line_ends_byte_order_marks_and_missing_annotations(name, tree, out, tmp_path):
    for change in ("CRLF", "byte order mark"):
        texts = {path: text.replace("\r\n", "\n") for path, text in TEXTS[name].items()}
        for path, text in texts.items():
            if change == "CRLF":
                texts[path] = text.replace("\n", "\r\n")
            elif not path.endswith((".json", ".key")):
                texts[path] = "\ufeff" + text
        prepare(name, root := tree(name, texts), out)
        assert_whole(name, out)
    for path in texts:
        (root / path).unlink()
        if path.endswith(".key"):  # may be missing
            continue
        with refused("raw*.tsv" if name == "mtg_jamendo" else os.path.basename(path)):
            new = tmp_path / "new"
            prepare(name, root, new, **{"lists": root} if name == "gtzan" else {})
        assert not new.exists()
        write(root / path, TEXTS[name][path])


CUT = object()  # the file ends after the old text
LONE = 'yzzy\nd\tD\t"Heroes\tx\ne\tE\ty\tx\nf\tF\t"Q"\tx'
ANNOTATION_FAULTS = [
    ("emomusic", "songs_info.csv", "Artist", "Band", "lacks", "Artist"),
    ("emomusic", "songs_info.csv", "\n7,", "\n8,", "song '8'", "static_annotations.csv must"),
    ("emomusic", "songs_info.csv", "evaluation", "Evaluation", "'Evaluation'"),
    ("emomusic", "static_annotations.csv", "5.2", "nan", "'nan', which is not 1 to 9"),
    ("magnatagatune", "annotations_final.csv", '"c/c.mp3"', '""', "the path ''"),
    ("nsynth", "examples.json", "25\n    }\n}", "25\n", "damaged or cut off"),
    ("fma", "tracks.csv", "genre_top", "genre", "lacks", "track genre_top"),
    ("fma", "tracks.csv", "training", "trainin", "damaged at the track '2'"),
    ("fma", "tracks.csv", "always", CUT, "is cut off at line 5"),
    ("giantsteps", "1.LOFI.key", "Eb", "H", "'H minor'"),
    ("giantsteps", "annotations.txt", "\tC\n", "\tD\n", "lacks", " C, it has"),
    ("giantsteps", "beatport_metadata.txt", "\n6\t", "\n66\t", "has no track 6"),
    ("gtzan", "test_filtered.txt", "pop/", "folk/", "folk/", "reggae"),
    ("gtzan", "test_filtered.txt", "pop/", "", "'pop.2.wav'"),
    ("magnatagatune", "annotations_final.csv", '"choral"', '"choir "', "lacks", "choral"),
    ("magnatagatune", "annotations_final.csv", "c/c.mp3", "g/c.mp3", "'g/c.mp3'", "0 to f"),
    ("mtg_jamendo", "raw_30s.tsv", "15/215", CUT, "is cut off at line 3"),
    ("nsynth", "examples.json", '"pitch": 60', '"pitch": 128', "train-1", "128", "0 to 127"),
    ("nsynth", "examples.json", '"bass"', '"kazoo"', "'kazoo'", "synth_lead"),
    ("nsynth", "examples.json", "velocity", "speed", "damaged", "velocity"),
    ("mtg_tagging", "top50tags-test.tsv", "\tTAGS", "\tTAG", "lacks the column(s) TAGS"),
    ("mtg_tagging", "top50tags-train.tsv", "\t14/214", CUT, "is cut off at line 2"),
    ("music4all", "id_information.csv", "yzzy", LONE, "an unclosed quotation mark"),
]


@pytest.mark.parametrize("fault", ANNOTATION_FAULTS, ids=lambda fault: str(fault[:3]))
def test_faults_of_annotations_are_named(fault, tree, out):
    name, file, old, new, *fragments = fault
    path, text = next(item for item in TEXTS[name].items() if item[0].endswith(file))
    before, after = text.split(old, 1)
    with refused(file, *fragments):
        prepare(name, tree(name, {path: before + (old if new is CUT else new + after)}), out)
    assert not out.exists()


def test_repeated_ids(tree, out, tmp_path):
    [(path, text)] = TEXTS["music4all"].items()
    report = prepare("music4all", tree("music4all", {path: f"{text}c\tC, D\tx\ty\n"}), out)
    assert report["repeated"] == ["c"]
    assert_whole("music4all", out)
    with refused("two different pieces with the ID c"):
        prepare("music4all", tree("music4all", {path: f"{text}c\tC\tx\ty\n"}), tmp_path / "new")


def test_unusable_audio_is_skipped(tree, out):
    root = tree("music4all")
    write(root / "audios/a.mp3", "do re mi " * 99)
    wav(root / "audios/b.mp3", 1.25, 1000, channels=6)
    wav(root / "audios/c.mp3", 1.25, 8000)
    text = TEXTS["music4all"]["id_information.csv"] + "d\tD\tx\tx\ne\tE\tx\tx\n"
    write(root / "id_information.csv", text)
    wav(root / "audios/d.mp3", 0.7)
    report = prepare("music4all", root, out)
    rows = {row.ID: row for table in tables(out).values() for row in table.itertuples()}
    found = {key: (row.duration, row.start, row.stop) for key, row in rows.items()}
    assert found == {"b": (1.25, 0, 1250), "c": (1.25, 0, 10000)}
    reasons = ["is not readable as audio", "shorter than 0.8 s", "does not exist"]
    assert report["skipped"] == 3 and list(report["examples"]) == [
        f"audios/{letter}.mp3" for letter in "ade"
    ]
    listed = (out / "skipped.csv").read_text().splitlines()[1:]
    for reason, line, shown in zip(reasons, listed, report["examples"].values(), strict=True):
        assert shown.startswith(reason) and reason in line


def test_counts_are_asserted(tree, out, tmp_path, monkeypatch):
    counts = {"published": {"train": 2, "valid": 1, "test": 1}}
    monkeypatch.setitem(DATA_SETS, "gtzan", replace(DATA_SETS["gtzan"], counts=counts))
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
        ("emomusic", "clips_45seconds", "wav"),
        ("fma", "fma_metadata", "."),
        ("fma", "fma_large", "fma_large/fma_large"),
        ("gtzan", "genres/blues", "genres/Blues"),
        ("gtzan", "genres/blues", "genres"),
        ("magnatagatune", "mp3", "wav"),
        ("magnatagatune", "mp3/c", "mp3"),
        ("mtg_jamendo", "audio", "audios"),
        ("nsynth", "nsynth-train", "nsynth-train/nsynth-train"),
        ("nsynth", "nsynth-valid", "valid"),
        ("emomusic", "clips_45seconds", "clips_45sec"),
        ("giantsteps", MTG, f"{MTG}-master"),
        ("gtzan", "genres", "genres_original"),
        ("gtzan", "genres", "Data/genres_original"),
        ("gtzan", "genres", "."),
        ("magnatagatune", "mp3", "."),
        ("mtg_jamendo", "audio", "raw_30s/audio-low"),
        ("mtg_tagging", "audio-low", "raw_30s/audio"),
        ("mtg_tagging", "data/splits/split-0", "split-0"),
        ("nsynth", ".", "nsynth-data"),
        ("vocalset", "FULL", "data_by_singer"),
        ("librispeech", "dev-clean", "dev-clean-2"),
    ],
)
def test_layouts_of_other_releases(name, old, new, tree, out):
    root = tree(name)
    for path in list((root / old).iterdir()):
        (root / new).mkdir(parents=True, exist_ok=True)
        path.rename(root / new / path.name)
    if old not in (".", *map(str, Path(new).parents)):
        (root / old).rmdir()
    prepare(name, root, out)
    assert_whole(name, out)


@by_name
def test_converted_audio_is_found_by_its_stem(name, tree, out):
    root = tree(name)
    for path in map(root.joinpath, SOUNDS[name]):
        stem = path.stem.removesuffix(".LOFI").removesuffix(".low")
        path.rename(path.with_name(f"{stem}{'.FLAC' if path.suffix == '.wav' else '.wav'}"))
    assert prepare(name, root, out)["skipped"] == 0
    assert_whole(name, out)
    if name == "vocalset":  # its files are its annotations
        return
    path = Path(tables(out, root)["train"]["wav"][0])
    shutil.copy(path, path.with_suffix(".ogg"))
    with refused(path.name, path.with_suffix(".ogg").name, "remove all but one"):
        prepare(name, root, out)


def test_tables_that_were_exported_again(tree, out, caplog):
    caplog.set_level("INFO")
    path, text = next(iter(TEXTS["emomusic"].items()))
    root = tree("emomusic")
    (root / path).write_text(text.replace("Mö-O", "Mé-O"), "latin-1")
    prepare("emomusic", root, out / "1")
    assert (
        pieces(out / "1")[1] == {"3": "Mé-O  2"} and "is not UTF-8: read as latin-1" in caplog.text
    )
    [(path, text)] = TEXTS["magnatagatune"].items()
    rows, commas = csv.reader(io.StringIO(text), delimiter="\t"), io.StringIO()
    csv.writer(commas).writerows(rows)
    prepare("magnatagatune", tree("magnatagatune", {path: commas.getvalue()}, "mtt"), out / "2")
    assert_whole("magnatagatune", out / "2")
    assert "is separated by ',', not '\\t'" in caplog.text


@pytest.mark.parametrize(
    "files, message",
    [
        (["mp3.zip.001", "mp3.zip.002"], "2 parts of an archive (`cat FILE.zip.* >"),
        (["nsynth-test.jsonwav.tar.gz"], "1 archives (unpack them with `tar -xf FILE`"),
        (["data/train-0.parquet"], "a converted copy, which is not read"),
        (["wav/0/b.wav", "wav/0/a.wav"], "it holds 2 audio files, for example wav/0/a.wav;"),
    ],
)
def test_what_is_there_instead_is_said(files, message, out, tmp_path):
    for name in files:
        write(tmp_path / "data" / name, "x")
    for name in set(DATA_SETS) - {"vocalset", "soundtracks"}:
        with refused(tmp_path / "data", message):
            prepare(name, tmp_path / "data", out)


def test_only_folders_that_can_be_read_are_suggested(tree, out):
    root = tree("magnatagatune")
    (root / "mp3").rename(root.parent / "mp3")
    nsynth = tree("nsynth", folder="notes")
    (nsynth / "nsynth-test" / "examples.json").unlink()
    for name, folder, missing in [
        ("magnatagatune", root, "mp3/[0-9a-f]"),
        ("nsynth", nsynth, "nsynth-test/examples.json"),
        ("nsynth", nsynth.parent, "nsynth-train/examples.json"),
    ]:
        with refused(f"{missing}", "is not there; ", "--help shows"):
            prepare(name, folder, out)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("Attribution", "CC BY"),
        ("Attribution-Share Alike 3.0 United States", "CC BY-SA"),
        ("Creative Commons Attribution-ShareAlike 4.0", "CC BY-SA"),
        ("Attribution-NonCommercial-ShareAlike 3.0 International", "other"),
        ("Attribution-Noncommercial-No Derivative Works 3.0", "other"),
        ("Attribution-NoDerivatives 4.0", "other"),
        ("CC0 1.0 Universal", "public domain"),
        ("Public Domain Mark 1.0", "public domain"),
        ("FMA-Limited: Download Only", "other"),
        ("", "other"),
    ],
)
def test_kinds_of_licences_in_fma(text, kind):
    assert fma.licence_kind(text) == kind


def test_free_tracks_of_fma(tree, out):
    root = tree("fma")
    table = root / "fma_metadata/tracks.csv"
    texts = ["track", "license", "", "Attribution", "Attribution-NonCommercial", "CC0 1.0"]
    with open(table, newline="") as file:
        rows = [[*row, text] for row, text in zip(csv.reader(file), texts, strict=True)]
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = prepare("fma", root, out, split="artist", licence="free")
    assert report["licences"] == {"CC BY": 1, "other": 1, "public domain": 1}
    assert sum(split["files"] for split in report["splits"].values()) == 2
    assert report["settings"]["licence"] == "free"


def test_subsets_of_fma_that_are_empty_or_at_the_top(tree, out, tmp_path):
    root = tree("fma")
    (root / "fma_large").rename(root / "fma_medium")
    (root / "fma_large").mkdir()
    assert prepare("fma", root, out)["settings"]["subset"] == "medium"
    for path in [*(root / "fma_medium").iterdir()]:
        path.rename(root / path.name)
    with refused("pass --subset, one of small"):
        prepare("fma", root, tmp_path / "new")
    prepare("fma", root, out, subset="large")
    assert_whole("fma", out)


def test_a_table_of_tags_serves_as_the_table_of_artists(tree, out):
    root = tree("mtg_jamendo")
    head, *rows = (root / "data/raw_30s.tsv").read_text().splitlines(keepends=True)
    (root / "data/raw_30s.tsv").unlink()
    write(root / "data" / "autotagging_moodtheme.tsv", "".join([head, *rows]))
    write(root / "data" / "autotagging_genre.tsv", head + rows[0])
    write(root / "data" / "tag_map.tsv", "tag\tname\n" * 99)
    prepare("mtg_jamendo", root, out)
    assert_whole("mtg_jamendo", out)


def test_lists_are_downloaded_once_and_checked(tree, out, monkeypatch):
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
    found = gtzan.read_gtzan(root, lists=ANNOTATIONS / "gtzan")
    assert found.extra["official_lists"] and splits_of(found.items) == [443, 197, 290]
    assert ("jazz.00054", "genres/jazz/jazz.00054.wav", "train", ("jazz",)) in found.items
    assert not gtzan.read_gtzan(root).extra["official_lists"]


@real
def test_real_tags(tree):
    """Two tasks of four, without audio."""
    root = tree("mtg_tagging")
    shutil.copytree(ANNOTATIONS / "mtg_jamendo" / "split-0", root / "split-0")
    shutil.rmtree(root / "data")
    record = DATA_SETS["mtg_tagging"]
    for task in ("instrument", "moodtheme"):
        items = record.read(root, task=task).items
        assert splits_of(items) == list(record.counts[task].values())
        assert len({item.id for item in items}) == len(items)
        for split in SPLITS:
            used = {tag for i in items if i.split == split for tag in i.labels[0].split("|")}
            assert used == set(mtg_tagging.TAGS[task])
        artists = [{i.labels[1] for i in items if i.split == split} for split in SPLITS]
        assert not artists[0] & (artists[1] | artists[2])
    assert items[0][1:] == ("audio-low/48/948.mp3", "train", ("background", "artist_000087"))


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


def test_emotions_are_standardised_and_artists_split_by_their_plain_names(tree, out):
    assert emomusic.plain_name("Motörhead & The  2 Friends") == "motrhead the friends"
    assert emomusic.artist_split("Motörhead & The  2 Friends") == "valid"  # sha1sum: 8 modulo 10
    assert emomusic.artist_split("\tSo, 'So' ") == "train"  # "so so": 7
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


def test_subsets_of_librispeech(tree, out):
    root, record = tree("librispeech"), DATA_SETS["librispeech"]
    with refused("train has 2 of 28539, valid has 1 of 2703, test has 1 of 2939"):
        record.prepare(root, out)
    wav(root / "train-other-500/20/205/20-205-0000.flac")
    report = record.prepare(root, out, allow_missing=True)
    assert report["counts"] == {"train": 28539 + 148688, "valid": 2703, "test": 2939}
    assert report["splits"]["train"]["classes"]["subset"] == {
        "train-clean-100": 2,
        "train-other-500": 1,
    }
    (root / "train-other-500").rename(root / "train-clean-5")  # of which no counts are known
    assert record.prepare(root, out)["counts"] is None
    wav(root / "dev-clean/84/9/84-9-0000.flac")
    with refused("dev-clean has speaker 84 of another split"):
        record.prepare(root, out)


def test_options_that_leave_pieces_out(tree, out):
    prepare("emomusic", tree("emomusic"), out / "1", split="artist_disjoint")
    assert pieces(out / "1") == [{"5": "AC/DC"}, *PIECES["emomusic"][1:]]
    prepare("magnatagatune", tree("magnatagatune", folder="mtt"), out / "2", tagged_only=True)
    assert pieces(out / "2") == PIECES["magnatagatune"][:2]
    sizes = [len(set(tags)) for tags in mtg_tagging.TAGS.values()]
    assert sizes == [87, 40, 56, 50] and mtg_tagging.MOODS == mtg_tagging.TAGS["moodtheme"]
    assert len(TAGS) == len(set(TAGS)) == 50 and TAGS[:2] == ("guitar", "classical")


@pytest.mark.parametrize(
    "key", "C B# c/Db C# db/D d/Eb D# d#/E Fb e/F E#/Gb F# gb/G g/Ab G#/A a/Bb A#/B Cb b".split("/")
)
def test_key_names(key):
    for mode in ("major", "minor"):
        for tonic in key.split():
            assert giantsteps.one_of_24(f" {tonic} {mode.title()}\t") == f"{key.split()[0]} {mode}"
    for text in ("", "-", key, f"{key} dorian", f"{tonic} minor / D minor", "H minor"):
        assert giantsteps.one_of_24(text) is None


def test_artists_are_split_by_their_names_and_collaborators():
    names = ["Ann", "Bob", "Cid", "DJ Björk", "MIA", "Lou"]
    numbers = [int(hashlib.sha1(name.lower().encode()).hexdigest(), 16) % 116 for name in names]
    expected = {n: "valid" if k >= 100 else "train" for n, k in zip(names, numbers, strict=True)}
    assert [name for name in names if expected[name] == "valid"] == ["Bob", "MIA"]
    assert giantsteps.artist_splits([[name] for name in names]) == expected
    chain = [["Lou", "Cid"], ["Cid", "Ann"], ["Ann", "Bob"], ["DJ Björk"]]
    two_steps = {"Bob": "valid", "Ann": "valid", "Cid": "valid", "Lou": "train"}
    assert giantsteps.artist_splits(chain) == two_steps | {"DJ Björk": "train"}
    assert giantsteps.artist_splits(chain[::-1])["Lou"] == "valid"  # reached in one sweep


def test_clips_of_tracks(tree, out):
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


def test_subsets(tree):
    root = tree("fma")
    small, large = (fma.read_fma(root, subset=name).items for name in ("small", "large"))
    assert [item.id for item in small] == ["000002", "000003"] and len(large) == 3
    assert small[0].wav == "fma_large/000/000002.mp3" and list(fma.find_subsets(root)) == ["large"]
    assert {item.split for item in fma.read_fma(root, split="artist").items} == {None}


@real
def test_real_tracks(tree):
    path = "fma_metadata/tracks.csv"
    with open(ANNOTATIONS / "fma" / "tracks.csv", newline="", encoding="utf-8") as file:
        lines = file.readlines()
    with refused(f"tracks.csv is cut off at line {len(lines)} ("):
        fma.read_fma(tree("fma", {path: "".join(lines)}))
    rows = csv.reader(lines)
    ends = [rows.line_num for _ in rows]
    root = tree("fma", {path: "".join(lines[: ends[-2]])})
    for subset, counts in (
        ("small", [45, 4, 9]),
        ("medium", [45 + 82, 4 + 5, 9 + 49]),
        ("large", [45 + 82 + 436, 4 + 5 + 39, 9 + 49 + 13]),
    ):
        assert splits_of(fma.read_fma(root, subset=subset).items) == counts


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


def test_failing_disks(tree, out, monkeypatch):
    error = OSError(5, "Input/output error", "static_annotations.csv")
    with monkeypatch.context() as patch:
        patch.setattr(files, "open", Mock(side_effect=error), raising=False)
        with pytest.raises(OSError, match="Input/output error"):
            prepare("emomusic", tree("emomusic", folder="emomusic"), out)
    full = [None, None, OSError(28, "No space left on device")]  # at the third of five files
    monkeypatch.setattr(os, "fsync", Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left on device"):
        prepare("nsynth", tree("nsynth"), out)
    assert [path.name for path in out.iterdir()] == ["headers.jsonl"]


def test_other_settings_replace_manifests(tree, out, caplog):
    root = tree("fma")
    prepare("fma", root, out)
    assert len(tables(out)) == 3
    prepare("fma", root, out, split="artist", valid_share=0.4)
    assert list(tables(out)) == ["train", "valid"] and not (out / "test.csv").exists()
    assert "'split': 'official'" in caplog.text
    (out / "report.json").unlink()
    with refused("an unknown folder"):
        prepare("fma", root, out)


def test_hold_out_of_whole_artists():
    rows = [{"ID": f"{index:02d}"} for index in range(20)]
    artists = ["many"] * 12 + ["some"] * 4 + ["few"] * 2 + ["", ""]
    for seed in range(5):
        sides = hold_out(rows, 0.25, seed, artists)
        sizes = [len(sides["train"]), len(sides["valid"])]
        assert sum(sizes) == 20 and 1 <= sizes[1] <= 5
        held = [artists[int(row["ID"])] for row in sides["valid"]]
        assert all(held.count(name) == artists.count(name) for name in set(held) if name)
    assert len(hold_out(rows[:6], 0.1, 0, ["a"] * 5 + ["b"])["valid"]) == 1
