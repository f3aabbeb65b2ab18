"""Manifests of the replica of every data set, and published counts."""

import shutil
from collections import Counter
from unittest.mock import Mock

import pytest
import soundfile
from speechbrain.dataio.dataset import DynamicItemDataset

from speechbrain_music.data_prep import fma, giantsteps, gtzan, magnatagatune, mtg_jamendo, nsynth
from speechbrain_music.data_prep import vocalset as vocal
from speechbrain_music.data_prep.data_set import SPLITS
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica import storage
from speechbrain_music.data_prep.replica.layouts import covers, espeak
from speechbrain_music.data_prep.replica.trees import NAMES, make_replica
from speechbrain_music.dataio.annotations import read_beats
from speechbrain_music.dataio.audio import read_segment, resampled_length
from speechbrain_music.utils.errors import UserError

EMOTIONS = dict.fromkeys(("arousal", "valence"), lambda text: 1 <= float(text) <= 9)
NOTES = {"pitch": lambda text: int(text) in range(128), "family": nsynth.FAMILIES}
SUNG = {"singer": vocal.SINGERS}
TAGS = {"tags": lambda text: set(text.split("|")) <= {"", *magnatagatune.TAGS}}


def tags_of(task):
    return lambda text: set(text.split("|")) <= set(mtg_jamendo.TAGS[task])


BEATS = {"beats": lambda path: len(read_beats(path).times) > 5, "has_downbeats": "1"}
BY_ARTIST = {"split": "artist", "valid_share": 0.3}
# Data set, options, labels with their allowed values, the column that no two splits share.
CASES = [
    ("fma", {}, {"artist": str.isdigit}, "artist"),
    ("fma", BY_ARTIST, {"artist": str.isdigit}, "artist"),
    ("music4all", {}, {"artist": bool}, "artist"),
    ("mtg_jamendo", {}, {"artist": bool}, "artist"),
    ("magnatagatune", {}, TAGS, "wav"),
    ("mtg_tagging", {"task": "genre"}, {"tags": tags_of("genre")}, "artist"),
    ("mtg_tagging", {"task": "top50tags"}, {"tags": tags_of("top50tags")}, "artist"),
    ("gtzan", {}, {"genre": gtzan.GENRES}, "wav"),
    ("giantsteps", {}, {"key": giantsteps.KEYS}, "track"),
    ("emomusic", {}, EMOTIONS, "wav"),
    ("emomusic", {"split": "artist_disjoint"}, EMOTIONS, "artist"),
    ("nsynth", {}, NOTES, "instrument"),
    ("vocalset", {"task": "singer"}, SUNG, "wav"),
    ("vocalset", {"task": "technique"}, SUNG | {"technique": vocal.TECHNIQUES}, "singer"),
    ("beats", {}, BEATS | {"fold": ("", *"01234567")}, "beats"),
    ("beats", {"split": "marble"}, BEATS, "beats"),
    ("rwc", {}, BEATS | {"fold": "01234"}, "artist"),
    ("chords1217", {"fold": 3}, {"fold": "01234", "chords": bool, "beats": {""}}, "chords"),
    ("guitarset", {"player": 2}, BEATS | {"fold": "012345"}, "artist"),
    ("harmonix", {"fold": 5}, BEATS | {"fold": "01234567"}, "artist"),
    ("covers", {}, {"work": bool, "change": covers.CHANGES}, "work"),
    ("librispeech", {}, {"speaker": str.isdigit}, "speaker"),
    ("folder", {}, {}, "wav"),
]
# Sample rate, channels and format, as the data sets have them.
FILES = {
    "beats": (22050, 1, "WAV"),
    "chords1217": (44100, 1, "MP3"),
    "covers": (24000, 1, "FLAC"),
    "emomusic": (44100, 1, "MP3"),
    "espeak": (16000, 1, "FLAC"),
    "fma": (44100, 2, "MP3"),
    "giantsteps": (44100, 1, "MP3"),
    "gtzan": (22050, 1, "WAV"),
    "guitarset": (44100, 1, "WAV"),
    "harmonix": (44100, 1, "MP3"),
    "librispeech": (16000, 1, "FLAC"),
    "magnatagatune": (16000, 1, "MP3"),
    "mtg_jamendo": (44100, 2, "MP3"),
    "mtg_tagging": (44100, 1, "MP3"),
    "music4all": (44100, 2, "MP3"),
    "nsynth": (16000, 1, "WAV"),
    "rwc": (44100, 2, "WAV"),
    "vocalset": (44100, 1, "WAV"),
}
FULL = ("emomusic", "fma", "giantsteps", "gtzan", "magnatagatune", "nsynth")


def state(out):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*.*")}


@pytest.mark.parametrize(
    "name, options, labels, apart", CASES, ids=[f"{name} {options}" for name, options, *_ in CASES]
)
def test_manifests(name, options, labels, apart, replica, tmp_path):
    def prepare(root, out):
        if name == "folder":
            return DATA_SETS["folder"].prepare(root, out)
        return DATA_SETS[name].prepare(root, out, **options)

    root, out = replica("music4all" if name == "folder" else name), tmp_path / "out"
    report = prepare(root, out)
    splits = {split: out / f"{split}.csv" for split in report["splits"]}
    assert {"train", "valid"} <= set(splits) <= set(SPLITS)
    assert not report.get("deviations") and report["skipped"] == 0
    seen = {}
    for split, path in splits.items():
        table = read_manifest(path, root)
        assert len(table) == report["splits"][split]["rows"] > 0
        hours = report["splits"][split]["hours"]
        assert sum(table["duration"]) / 3600 == pytest.approx(hours, abs=1e-6)
        for column, allowed in labels.items():
            allows = allowed if callable(allowed) else allowed.__contains__
            assert all(map(allows, table[column])), column
        seen[split] = set(table[apart])
        # The last row is read as recipes read it, and by SpeechBrain.
        row = table.iloc[-1]
        rate = soundfile.info(row["wav"]).samplerate
        start, stop = (resampled_length(row[key], rate) for key in ("start", "stop"))
        assert abs(len(read_segment(row["wav"], start, stop - start)) - (stop - start)) <= 1
        data = DynamicItemDataset.from_csv(path, replacements={"data_root": str(root)})
        data.set_output_keys(["id", "wav", *labels])
        assert len(data) == len(table)
        expected = {"id": row["ID"], "wav": row["wav"]} | {key: row[key] for key in labels}
        assert data[len(data) - 1] == expected
    assert sum(map(len, seen.values())) == len(set.union(*seen.values()))

    before = state(out)
    assert prepare(root, out) == report and state(out) == before
    prepare(root, tmp_path / "other")
    for path in out.glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_formats_and_continuing_a_replica(name, replica):
    if name == "espeak" and not shutil.which(espeak.PROGRAM):
        pytest.skip("espeak-ng is not installed")
    root = replica(name)
    audio = [p for p in sorted(root.rglob("*.*")) if p.suffix in (".mp3", ".wav", ".au", ".flac")]
    audio = [path for path in audio if path.stat().st_size]  # but the damaged ones of a data set
    for path in audio:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format) == FILES[name]
    lost = audio[len(audio) // 2]
    content = lost.read_bytes()
    lost.unlink()
    (lost.parent / f".{lost.name}.tmp").write_bytes(content[:100])  # what a kill leaves
    before = state(root)
    assert replica(name) == root
    after = state(root)
    assert after.pop(lost)[1] == content and after.items() <= before.items()


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_annotations_give_the_published_counts(name, tmp_path, monkeypatch):
    published = DATA_SETS[name].counts["full" if name == "fma" else "published"]
    monkeypatch.setattr(storage, "render_all", Mock())
    root = make_replica(name, tmp_path / name, scale=1.0)
    counts, ids = dict.fromkeys(SPLITS, 0), set()
    for item in DATA_SETS[name].read(root).items:
        counts[item.split] += 1
        ids.add(item.id)
    assert counts == published and len(ids) == sum(published.values())
    if name == "magnatagatune":
        items = DATA_SETS[name].read(root).items
        tagged = Counter(item.split for item in items if item.labels[0])
        assert tagged == DATA_SETS[name].counts["tagged"]
    if name == "fma":
        for subset in ("small", "medium"):
            found = Counter(item.split for item in fma.read_fma(root, subset=subset).items)
            assert found == DATA_SETS[name].counts[subset]


def test_speech_of_espeak_needs_the_program(monkeypatch):
    monkeypatch.setattr(espeak.shutil, "which", lambda program: None)
    with pytest.raises(UserError, match="apt-get install espeak-ng"):
        espeak.render(0, 1, 0)


def test_the_published_counts():
    published = {
        "emomusic": (504, 115, 125),
        "giantsteps": (923, 236, 604),
        "gtzan": (443, 197, 290),
        "magnatagatune": (18706, 1825, 5329),
        "nsynth": (289205, 12678, 4096),
    }
    for name, counts in published.items():
        assert tuple(DATA_SETS[name].counts["published"].values()) == counts
    assert tuple(DATA_SETS["magnatagatune"].counts["tagged"].values()) == (15247, 1529, 4332)
    tags = [tuple(counts.values()) for counts in DATA_SETS["mtg_tagging"].counts.values()]
    genres, top50 = (32572, 11043, 11479), (32136, 10888, 11356)
    assert tags == [genres, (14395, 5466, 5115), (9949, 3802, 4231), top50]
    fma_counts = [tuple(counts.values()) for counts in DATA_SETS["fma"].counts.values()]
    large = (84353, 10958, 11263)
    train, *others = (28539, 104014, 148688), 2703, 2864, 2620, 2939
    speech = [n for counts in DATA_SETS["librispeech"].counts.values() for n in counts.values()]
    assert speech == [*train, *others] and sum(train) == 281241
    assert fma_counts == [(6400, 800, 800), (19922, 2505, 2573), large, large]


def test_another_seed_is_another_replica_of_the_same_size(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "render_all", Mock())
    texts = []
    for seed in (0, 1):
        root = make_replica("emomusic", tmp_path / str(seed), 0.02, seed)
        texts.append((root / "annotations" / "static_annotations.csv").read_text().splitlines())
    assert len(texts[0]) == len(texts[1]) and texts[0] != texts[1]
