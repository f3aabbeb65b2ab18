"""Read GiantSteps key: the keys of two repositories, split by artists."""

import csv
import re

from speechbrain_music.data_prep import data_set, files

TONICS = tuple("C Db D Eb E F Gb G Ab A Bb B".split())
KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)
KEY_SET, MTG_SET = "giantsteps-key-dataset", "giantsteps-mtg-key-dataset"
_STEPS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))


def one_of_24(text):
    """A key with its tonic among `TONICS`, however it was spelled; None if it is not a key."""
    match = re.fullmatch(r"([A-G])([#b]?)\s+(major|minor)", text.strip().capitalize())
    if match is None:
        return None
    letter, accidental, mode = match.groups()
    step = _STEPS[letter] + {"#": 1, "b": -1, "": 0}[accidental]
    return f"{TONICS[step % 12]} {mode}"


def artist_splits(credits):
    """Artist -> `train` or `valid`, from the artists of each track in the table's order."""
    splits = {
        artist: "train" if data_set.sha1(artist.lower()) % 116 < 100 else "valid"
        for artists in credits
        for artist in artists
    }
    for _ in range(2):  # the published rule looks no further than two steps
        for artists in credits:
            if any(splits[artist] == "valid" for artist in artists):
                splits |= dict.fromkeys(artists, "valid")
    return splits


def _folders(data_folder):
    """Of each set the folder, and the folder of its audio relative to `data_folder`."""
    markers = [f"{name}*/annotations" for name in (KEY_SET, MTG_SET)]
    files.locate(data_folder, "GiantSteps key", *(((marker,), ("",)) for marker in markers))
    for marker in markers:
        folder = min(data_folder.glob(marker)).parent
        places = (f"{folder.name}/audio", "audio", folder.name)
        yield folder, files.first_place(data_folder, files.AUDIO, places) or places[0]


def read_giantsteps(data_folder, out=None):
    """Tracks with key and artist ("" in the test set, which names none).

    `left_out` of the report counts the tracks of the second set without a split, by reason.
    """
    items = []
    (tests, test_audio), (mtg, mtg_audio) = _folders(data_folder)
    for path in sorted((tests / "annotations" / "key").glob("*.key")):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        track = path.name.partition(".")[0]
        key = one_of_24(text)
        if key is None:
            what = f"holds {text.strip()!r}, which is not a key like 'Eb minor'"
            raise files.damaged(path, what)
        items.append(data_set.Item(track, f"{test_audio}/{track}.LOFI.mp3", "test", (key, "")))

    names = mtg / "annotations" / "beatport_metadata.txt"
    table = files.read_table(names, ("ID", "ARTIST"), "\t", csv.QUOTE_NONE)
    credits = {row["ID"]: [artist.strip() for artist in row["ARTIST"].split(",")] for row in table}
    splits = artist_splits(credits.values())
    left_out = {"confidence under 2": 0, "no key or several": 0}
    path = mtg / "annotations" / "annotations.txt"
    for row in files.read_table(path, ("ID", "MANUAL KEY", "C"), "\t", csv.QUOTE_NONE):
        track, key = row["ID"], one_of_24(row["MANUAL KEY"])
        if row["C"] != "2":
            left_out["confidence under 2"] += 1
        elif key is None:
            left_out["no key or several"] += 1
        elif track not in credits:
            what = f"has no track {track}, which {path} has"
            raise files.damaged(names, what, "download both again")
        else:
            wav = f"{mtg_audio}/{track}.LOFI.mp3"
            split = splits[credits[track][0]]
            items.append(data_set.Item(track, wav, split, (key, ", ".join(credits[track]))))
    extra = {"left_out": left_out, "marble_paper": {"train and valid": 1077}}
    return data_set.Annotations(items, extra=extra)
