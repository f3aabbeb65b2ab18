"""A small tree of each data set, and what becomes of it."""

import csv
import io
import json
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.files import PreparationError
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
    "librispeech": {},
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
    "mtg_tagging": {
        f"data/splits/split-0/autotagging_top50tags-{part}.tsv": "TRACK_ID\tARTIST_ID\tALBUM_ID\t"
        f"PATH\tDURATION\tTAGS\r\n{row}\r\n"
        for part, row in (
            (
                "train",
                "track_1\tartist_1\talbum_1\t14/214.mp3\t30.0\tgenre---rock\tinstrument---voice\t"
                "mood/theme---happy",
            ),
            ("validation", "track_2\tartist_2\talbum_2\t15/215.mp3\t30.0\tinstrument---bass"),
            ("test", "track_3\tartist_3\talbum_3\t16/216.mp3\t30.0\tmood/theme---film"),
        )
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
    "librispeech": "train-clean-100/84/121123/84-121123-0000.flac dev-clean/7/1/7-1-0003.flac "
    "train-clean-100/84/12/84-12-0000.flac test-other/367/130732/367-130732-0000.flac".split(),
    "magnatagatune": ["mp3/c/c.mp3", f"mp3/0/{ODD}", "mp3/6/damaged.mp3", "mp3/f/f.mp3"],
    "mtg_jamendo": ["audio/14/214.mp3", "audio/15/215.low.mp3"],
    "mtg_tagging": [f"audio-low/{name}.low.mp3" for name in ("14/214", "15/215", "16/216")],
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
    "librispeech": [
        {"84-121123-0000": "84", "84-12-0000": "84"},
        {"7-1-0003": "7"},
        {"367-130732-0000": "367"},
    ],
    "magnatagatune": [{"2": "guitar|classical|no vocals"}, {"6": "choral"}, {"10": ""}],
    "mtg_jamendo": {"track_1": "artist_1", "track_2": "artist_2"},  # held out by chance
    "mtg_tagging": [{"track_1": "rock|voice|happy"}, {"track_2": "bass"}, {"track_3": "film"}],
    "music4all": {"a": 'The "Who", etc.', "b": 'A 12" B', "c": "C, D"},
    "nsynth": [{f"{split}-{n}": "60" for n in (1, 2)} for split in SPLITS],
    "vocalset": [{"f1_scales_belt_a": "f1"}, {"m4_trill": "m4"}, {"f2_trill": "f2"}],
}


def wav(path, seconds=1.0, rate=1000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))  # no two files are equal
    noise = rng.uniform(-0.1, 0.1, (int(seconds * rate), channels))
    soundfile.write(path, noise, rate, format="AU" if path.suffix == ".au" else "WAV")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def make_tree(root, name, texts=(), folder="data"):
    """Write the small tree of a data set, some of its texts replaced; returns its folder."""
    for path, text in (TEXTS[name] | dict(texts)).items():
        write(root / folder / path, text)
    for path in SOUNDS[name]:
        wav(root / folder / path, 30.5 if name == "giantsteps" else 1.0)
    return root / folder


def prepare(name, root, out, **options):
    """Prepare a data set that may be incomplete."""
    defaults = {"allow_missing": True} if "allow_missing" in DATA_SETS[name].options else {}
    tasks = {"vocalset": "technique", "mtg_tagging": "top50tags"}
    defaults |= {"task": tasks[name]} if name in tasks else {}
    return DATA_SETS[name].prepare(root, out, **defaults | options)


def tables(out, root="/"):
    """Split -> manifest, those without rows aside."""
    paths = [out / f"{split}.csv" for split in SPLITS if (out / f"{split}.csv").exists()]
    return {p.stem: read_manifest(p, root) for p in paths if p.read_text().count("\n") > 1}


def pieces(out):
    """Of each manifest ID -> first label."""
    return [dict(zip(t["ID"], t.iloc[:, 5], strict=True)) for t in tables(out).values()]


def assert_whole(name, out):
    found = pieces(out)
    assert found == PIECES[name] or found[0] | found[1] == PIECES[name]


def splits_of(items):
    return [[item.split for item in items].count(split) for split in SPLITS]


@contextmanager
def refused(*fragments):
    """Expects a `PreparationError` of one line with these fragments."""
    with pytest.raises(PreparationError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message and all(str(part) in message for part in fragments), message
