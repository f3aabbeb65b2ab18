"""Read the Free Music Archive: the tracks of a subset, by their split, artists or licences."""

from collections import Counter

from speechbrain_music.data_prep import data_set, files

SUBSETS = ("small", "medium", "large", "full")  # each within the next
SPLIT_NAMES = {"training": "train", "validation": "valid", "test": "test"}
AUDIO = ("[0-9][0-9][0-9]", *files.AUDIO)
PLACES = ("fma_{0}", "fma_{0}/fma_{0}")


def find_subsets(data_folder, subset=None):
    """Subset -> the place of its audio, smallest first, of those that have audio.

    Audio at the top is of `subset`, or of the subset that the folder is named after.
    """
    places = {name: [place.format(name) for place in PLACES] for name in SUBSETS}
    if (top := subset or data_folder.name.removeprefix("fma_")) in places:
        places[top].append(".")
    found = {name: files.first_place(data_folder, AUDIO, p) for name, p in places.items()}
    return {name: place for name, place in found.items() if place is not None}


def licence_kind(text):
    """ "public domain", "CC BY", "CC BY-SA" or "other", from a track's licence in words.

    Clauses against commercial use (NC) or changes (ND) make it another one.
    """
    words = text.lower().replace("-", "").replace(" ", "")
    if "publicdomain" in words or "cc0" in words:
        return "public domain"
    if "attribution" not in words or "noncommercial" in words or "noderiv" in words:
        return "other"
    return "CC BY-SA" if "sharealike" in words else "CC BY"


def read_fma(data_folder, out=None, subset=None, split="official", licence="any"):
    """Tracks of a subset with the artist's ID and the top genre ("" if none).

    Their audio may lie in a larger subset's folder; None takes the largest that has audio.
    """
    if subset is not None:
        data_set.check_option("subset", subset, SUBSETS)
    table = files.locate(data_folder, "FMA", (("tracks.csv",), ("fma_metadata", "")))[0]
    path = data_folder / table / "tracks.csv"
    places = find_subsets(data_folder, subset)
    if not (places or subset) and files.first_place(data_folder, AUDIO, (".",)):
        raise files.PreparationError(
            f"{data_folder} has the audio of a subset that its name does not tell: pass --subset, "
            f"one of {', '.join(SUBSETS)}."
        )
    subset = subset or (list(places) or SUBSETS)[-1]
    size = SUBSETS.index(subset)
    audio = next((places[n] for n in SUBSETS[size:] if n in places), f"fma_{subset}")
    columns = ("track_id", "artist id", "track genre_top", "set split", "set subset")
    columns += ("track license",) if licence == "free" else ()
    items, kinds = [], Counter()
    for row in files.read_table(path, columns, header_rows=3):
        track, artist, genre, part, smallest, *named = (row[column] for column in columns)
        if not track.isdigit() or part not in SPLIT_NAMES or smallest not in SUBSETS:
            raise files.damaged(path, f"is damaged at the track {track!r}")
        if SUBSETS.index(smallest) <= size:
            kinds.update(map(licence_kind, named))
            if "other" in map(licence_kind, named):
                continue
            number = f"{int(track):06d}"
            wav = f"{audio}/{number[:3]}/{number}.mp3"
            split_name = SPLIT_NAMES[part] if split == "official" else None
            items.append(data_set.Item(number, wav, split_name, (artist, genre)))
    variant = subset if (split, licence) == ("official", "any") else f"{split} {licence}"
    settings = {"subset": subset, "split": split} | ({"licence": licence} if kinds else {})
    extra = {"licences": dict(sorted(kinds.items()))} if kinds else {}
    return data_set.Annotations(items, settings=settings, variant=variant, extra=extra)
