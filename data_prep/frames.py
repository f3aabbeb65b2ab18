"""Data sets of frame tasks: pieces with annotation files, in folds.

Their manifests have the same columns: `beats`, `chords` and `segments` name files (as `wav` does,
"" for none) that `dataio.annotations` reads; `fold`; `artist`; and `has_downbeats`, 1 or 0, or ""
without beats.
"""

import re
from collections import defaultdict
from pathlib import PurePath

import numpy as np

from speechbrain_music.data_prep import data_set, files
from speechbrain_music.data_prep.manifest import DATA_ROOT
from speechbrain_music.dataio.annotations import read_beats, read_intervals

COLUMNS = ("beats", "chords", "segments")
KINDS = (".csv", ".txt", ".lab", ".jams")  # of annotation files
FOLDS = {"chords1217": 5, "guitarset": 6, "harmonix": 8, "rwc": 5}  # of GuitarSet the players
HARMONIX = {"segments": "segments", "beats": "beats_and_downbeats"}  # column -> folder
HARMONIX_PLACES = ("", "dataset", "harmonixset/dataset")
RWC = {"beats": "CGJPR", "chords": "P", "segments": "CGJPR"}  # task -> collections
RWC_PLACES = ("", "annotations", "rwc_v2")


def read_chords1217(data_folder, out=None, fold=0):
    """The songs in the lists of Humphrey and Bello; of those that train a quarter validates.

    It is the quarter of Jiang et al. (ISMIR 2019), who permute the lists of all folds in turn.
    """
    needs = (("train04.csv",), ("data", "")), (("*.lab",), ("chordlab", ""))
    lists, labels = files.locate(data_folder, "Chords1217", *needs)
    folds = range(FOLDS["chords1217"])

    def songs(path):
        return [row["song"] for row in files.read_table(path, ["song"], header_rows=0)]

    tests = [songs(data_folder / lists / f"test{number:02d}.csv") for number in folds]
    fold_of = {song: number for number in folds for song in tests[number]}
    rng, valid = np.random.RandomState(20190326), set()
    for number in folds:
        path = data_folder / lists / f"train{number:02d}.csv"
        train = songs(path)
        if set(train) != fold_of.keys() - set(tests[number]):
            raise files.damaged(path, "does not have the songs of the other folds")
        order = rng.permutation(len(train))
        if str(number) == str(fold):
            valid = {train[place] for place in order[len(train) - len(train) // 4 :]}
    found = {"chords": files.by_stem(data_folder, labels, (".lab",))}
    artists = dict.fromkeys(fold_of, "")  # unknown
    items = fold_items(data_folder, found, fold_of, fold, len(folds), artists, valid=valid)
    return data_set.Annotations(items, settings={"fold": fold})


def read_guitarset(data_folder, out=None, player=0):
    """Excerpts, recorded by the microphone; a JAMS has beats and chords."""
    needs = (("0[0-5]_*.jams",), ("annotation", "annotations", ""))
    place = files.locate(data_folder, "GuitarSet", needs)[0]
    found = files.by_stem(data_folder, place, (".jams",))
    fold_of = {key: int(key[:2]) for key in found if key[:2].isdigit()}
    artists = {key: key[:2] for key in found}
    found = {"chords": found, "beats": found}
    folds = FOLDS["guitarset"]
    items = fold_items(data_folder, found, fold_of, player, folds, artists, stem="{}_mic")
    return data_set.Annotations(items, settings={"player": player})


def read_harmonix(data_folder, out=None, fold=0):
    """Songs with segments, and beats."""
    needs = [((name,), HARMONIX_PLACES) for name in ("segments/*.txt", "metadata.csv")]
    place = files.locate(data_folder, "Harmonix", *needs)[0]
    table = files.read_table(data_folder / place / "metadata.csv", ("File", "Artist"))
    artists = {row["File"]: row["Artist"] for row in table}
    found = {c: files.by_stem(data_folder, PurePath(place, f), KINDS) for c, f in HARMONIX.items()}
    fold_of = artist_folds(artists, FOLDS["harmonix"])
    items = fold_items(data_folder, found, fold_of, fold, FOLDS["harmonix"], artists)
    return data_set.Annotations(items, settings={"fold": fold})


def read_rwc(data_folder, out=None, task="beats", fold=0):
    """Pieces that have the annotation of a task, with all annotations that they have."""
    needs = [(("metadata.csv",), RWC_PLACES), ((f"{task}/*",), RWC_PLACES)]
    place = files.locate(data_folder, "RWC", *needs)[0]
    artists, works = {}, {}
    path = data_folder / place / "metadata.csv"
    for row in files.read_table(path, ("CollID", "PieceNo", "Artist", "Title"), ";"):
        number = row["PieceNo"].rstrip("ABCDE")
        key = f"RWC_{row['CollID']}{number:0>3}{row['PieceNo'].removeprefix(number)}"
        if row["CollID"] in RWC[task]:
            artists[key], works[key] = row["Artist"], row["Title"].partition(" (")[0]
    fold_of = artist_folds(artists, FOLDS["rwc"], works)
    columns = sorted(COLUMNS, key=lambda column: column != task)
    found = {c: files.by_stem(data_folder, PurePath(place, c), KINDS) for c in columns}
    items = fold_items(data_folder, found, fold_of, fold, FOLDS["rwc"], artists)
    return data_set.Annotations(items, settings={"task": task, "fold": fold}, variant=task)


def audio_finder(root):
    """A function: possible stems of a piece -> its audio file anywhere in `root`, or else STEM.wav.

    Stems match in any case and Unicode form, and with `_` for dots.
    """

    def plain(stem):
        return files.composed(stem).casefold().replace(".", "_")

    found = files.group_files(files.find_audio(root)[0], lambda path: plain(path.stem))

    def find(*stems):
        names = next(filter(None, (found.get(plain(s)) for s in stems)), [f"{stems[-1]}.wav"])
        return files.only_one(root, names, stems[0])

    return find


def make_item(root, key, wav, split, fold, artist, annotations):
    """A piece; its `annotations` (column -> path) are read, so that a damaged one is refused."""
    downbeats = ""
    for column, path in annotations.items():
        if column == "beats":
            downbeats = int(1 in read_beats(root / path).positions)
        else:
            read_intervals(root / path)
    paths = [f"{DATA_ROOT}/{annotations[c]}" if c in annotations else "" for c in COLUMNS]
    return data_set.Item(key, wav, split, (*paths, fold, artist, downbeats))


def fold_items(root, found, fold_of, test, folds, artists, stem="{}", valid=None):
    """Pieces of the first of the annotations `found` (column -> piece -> path), split by folds.

    `stem` is that of a piece's audio, with the piece's name in braces. `valid` are the pieces that
    validate, of those that do not test; None: the fold after the one to test on.
    """
    audio, items = audio_finder(root), []
    for key, path in next(iter(found.values())).items():
        if key not in fold_of:
            raise files.PreparationError(f"No table names the piece of {path}; {files.DOWNLOAD}.")
        fold, wav = fold_of[key], audio(stem.format(key))
        paths = {column: paths[key] for column, paths in found.items() if key in paths}
        split = split_of(fold, test, folds)
        if valid is not None and split != "test":
            split = "valid" if key in valid else "train"
        items.append(make_item(root, key, wav, split, fold, artists[key], paths))
    return items


def split_of(fold, test, folds):
    """The split of one of so many folds, if `test` is the fold to test on."""
    data_set.check_option("the fold to test on", str(test), [str(n) for n in range(folds)])
    return {int(test): "test", (int(test) + 1) % folds: "valid"}.get(fold, "train")


def artist_folds(artists, folds, works=()):
    """Piece -> its fold, from piece -> artists ("A & B Trio") and piece -> work, if given.

    Pieces that share an artist or a work, or a chain of them, stay together. The largest such
    families come first, each into the smallest fold.
    """
    family, names, members = {}, {}, defaultdict(list)
    for piece, text in artists.items():
        own = re.split(r"\s*(?:&|\bfeat(?:uring|\.)|\bft\.)\s*", text.casefold())
        own = {re.sub(r"\W+(trio|quartet|quintet)$", "", name).strip() for name in own}
        names[piece] = own | ({("work", works[piece])} if piece in works else set())
        joined = names[piece].union(*(family.get(name, ()) for name in names[piece]))
        family |= dict.fromkeys(joined, joined)
    for piece, own in names.items():
        members[min(map(str, family[own.pop()]))].append(piece)
    sizes, fold_of = [0] * folds, {}
    for name in sorted(members, key=lambda name: (-len(members[name]), name)):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(members[name])
        fold_of |= dict.fromkeys(members[name], fold)
    return fold_of
