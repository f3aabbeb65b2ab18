"""Read EmoMusic: the emotions of its clips, raw and standardised, split by artists."""

import statistics
from contextlib import suppress

from speechbrain_music.data_prep import data_set, files

EMOTIONS = ("arousal", "valence")
CLIPS = ("clips_45seconds", "clips_45sec", "clips", "audio", "wav", "mp3", "flac", ".")


def plain_name(artist):
    """An artist's name as the split hashes it."""
    kept = (c for c in artist.lower() if c.isascii() and (c.isalpha() or c.isspace()))
    return " ".join("".join(kept).split())


def artist_split(artist):
    """`train` or `valid`, by the published rule for artists of the development set."""
    return "train" if data_set.sha1(plain_name(artist)) % 10 < 8 else "valid"


def _parse_emotion(text, path):
    with suppress(ValueError):
        if 1 <= float(text) <= 9:
            return float(text)
    raise files.damaged(path, f"has the emotion {text!r}, which is not 1 to 9")


def read_emomusic(data_folder, out=None, split="published"):
    """Clips with artist, arousal and valence (1 to 9), and both standardised.

    `scale` of the report has for each emotion the `mean` and `std` (of the population) over the
    development set: value = mean + std * standardised value.
    """
    place = files.locate(data_folder, "EmoMusic", (("songs_info.csv",), ("annotations", "")))[0]
    clips = files.first_place(data_folder, files.AUDIO, CLIPS) or CLIPS[0]
    static = data_folder / place / "static_annotations.csv"
    info = data_folder / place / "songs_info.csv"
    emotions, songs = {}, {}
    means = [f"mean_{name}" for name in EMOTIONS]
    for row in files.read_table(static, ("song_id", *means)):
        emotions[row["song_id"]] = [_parse_emotion(row[mean], static) for mean in means]
    for row in files.read_table(info, ("song_id", "Artist", "Mediaeval 2013 set")):
        song, artist, part = row["song_id"], row["Artist"], row["Mediaeval 2013 set"]
        if song not in emotions or part not in ("development", "evaluation"):
            remedy = f"and {static.name} must have each song: download both again"
            what = f"has a song {song!r} of the set {part!r}; sets are development and evaluation"
            raise files.damaged(info, what, remedy)
        songs[song] = artist, "test" if part == "evaluation" else artist_split(artist)
    developed = [emotions[song] for song, (_, part) in songs.items() if part != "test"]
    if not developed:
        raise files.damaged(info, "has no song of the development set")
    scale = {
        name: {"mean": statistics.fmean(values), "std": statistics.pstdev(values) or 1.0}
        for name, values in zip(EMOTIONS, zip(*developed, strict=True), strict=True)
    }
    tested = {plain_name(artist) for artist, part in songs.values() if part == "test"}
    items = []
    for song, (artist, part) in songs.items():
        if split == "artist_disjoint" and part != "test" and plain_name(artist) in tested:
            continue
        values = emotions[song]
        standard = [
            f"{(value - scale[name]['mean']) / scale[name]['std']:.6f}"
            for name, value in zip(EMOTIONS, values, strict=True)
        ]
        items.append(data_set.Item(song, f"{clips}/{song}.mp3", part, (artist, *values, *standard)))
    return data_set.Annotations(items, {"split": split}, split, {"scale": scale})
