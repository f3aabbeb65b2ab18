"""Read lists of cover songs: a table, SHS100K's lists, or a folder per work."""

import csv
import re
from collections import Counter
from pathlib import PurePath

from speechbrain_music.data_prep import data_set, files, frames

SHS100K = {"train": "SHS100K-TRAIN", "valid": "SHS100K-VAL", "test": "SHS100K-TEST"}
# (tracks, works) of a table, or of SHS100K's list of tests, of which there are two -> its counts.
PUBLISHED = {(164, 80): "covers80", (15000, 3000): "da_tacos"}
PUBLISHED_TESTS = {2983: "shs100k", 10545: "shs100k2"}
LEAST = 2  # works per split that have two tracks or more: otherwise nothing can be retrieved


def read_covers(data_folder, out=None, fold=0):
    """Tracks with the labels work, artist and change; `lists` of the report counts their rows."""
    items, lists, variant = list_versions(data_folder)
    splits = _split_works(items, fold)
    items = [item._replace(split=splits[item.labels[0]]) for item in items]
    present = {item for item in items if (data_folder / item.wav).is_file()}
    works = {}
    for split in data_set.SPLITS:
        tracks = Counter(item.labels[0] for item in present if item.split == split)
        several = sum(count > 1 for count in tracks.values())
        works[split] = {"works": len(tracks), "with_several_tracks": several}
        if several < LEAST:
            raise files.PreparationError(
                f"{data_folder} is not enough for cover songs: {split} has {several} work(s) with "
                f"two or more tracks that have audio, and each split needs {LEAST}; "
                f"{files.describe(data_folder)}add audio, or pass another folder (--help shows "
                "the expected trees)."
            )
    extra = {"lists": lists, "works": works, "published": "all of Covers80"}
    return data_set.Annotations(items, {"fold": fold}, variant, extra)


def list_versions(root):
    """The items of a folder, (rows, works) of each of its lists, and the name of its counts.

    The split is "" where no list has it. No audio is needed, except where folders stand for works.
    """
    if (root / "list").is_file():
        return _read_shs100k(root)
    tables = sorted(root.glob("*.csv"))
    if len(tables) > 1:
        raise files.PreparationError(
            f"{root} has the tables {' and '.join(path.name for path in tables[:3])}: keep one."
        )
    if tables:
        items = list(_read_table(tables[0]))
    else:
        paths = (PurePath(name) for name in files.find_audio(root)[0] if "/" in name)
        items = [_item(str(p.with_suffix("")), str(p), p.parts[0]) for p in paths]
    count = _count(items)
    lists = {tables[0].name if tables else "folders": count}
    return items, lists, PUBLISHED.get(tuple(count.values()), "published")


def _read_table(path):
    """Yield the rows of a table with a header, whose columns are in any order."""
    with open(path, encoding="utf-8", errors="replace") as file:
        header = set(re.findall(r"\w+", file.readline()))
    work, track = (n if n in header else f"{n}_id" for n in ("work", "track"))
    remedy = "name its columns work_id (or work) and track_id (or track)"
    audio = frames.audio_finder(path.parent)
    for row in files.read_table(path, (work, track), remedy=remedy):
        artist, change, split = (row.get(name, "") for name in ("artist", "change", "split"))
        if not (row[work] and row[track]):
            what = f"has a row without a work or a track ({','.join(row.values())})"
            raise files.damaged(path, what, "fix it")
        if "split" in row:
            what = f"the split of {row[track]} in {path} (the column may be left out)"
            data_set.check_option(what, split, data_set.SPLITS)
        yield _item(row[track], audio(row[track]), row[work], artist, change, split)


def _read_shs100k(root):
    """The rows of SHS100K's lists of splits, or all of its `list` if there are none of them."""
    audio, rows, items = frames.audio_finder(root), [], []
    for track, row in _read_list(root / "list", "title", "artist", "url"):
        video = re.findall(r"(?:v=|youtu\.be/)([\w-]{11})", row["url"])[:1]
        rows.append(_item(track, audio(*video, track), row["set_id"], row["artist"]))
    known, lists = {item.id: item for item in rows}, {"list": _count(rows)}
    for split, name in SHS100K.items():
        if (root / name).is_file():
            part = []
            for track, row in _read_list(root / name):
                item = known.get(track, _item(track, audio(track), row["set_id"]))
                part.append(item._replace(split=split))
            lists[name] = _count(part)
            items += part
    variant = PUBLISHED_TESTS.get(lists.get(SHS100K["test"], {}).get("rows"), "published")
    return items or rows, lists, variant


def _read_list(path, *more):
    """Yield track (SET_VER) and row of a table without header and quotes, separated by tabs."""
    columns = ("set_id", "ver_id", *more)
    for row in files.read_table(path, columns, "\t", csv.QUOTE_NONE, header_rows=0):
        yield f"{row['set_id']}_{row['ver_id']}", row


def _item(track, wav, work, artist="", change="", split=""):
    return data_set.Item(track, wav, split, (work, artist, change))


def _count(items):
    return {"rows": len(items), "works": len({item.labels[0] for item in items})}


def _split_works(items, fold):
    """Work -> its split: the lists' own, or else halves by the SHA-1 of the works' names."""
    data_set.check_option("fold", str(fold), ("0", "1"))
    splits = {}
    for item in items:
        work, split = item.labels[0], item.split
        if (other := splits.setdefault(work, split)) != split:
            raise files.PreparationError(
                f"The work {work} is in {other} and in {split}: put all of its tracks into one "
                "split."
            )
    if any(splits.values()):
        if int(fold):
            raise files.PreparationError(
                "fold is 1, but the list has splits: leave fold at 0, or remove the splits."
            )
        return splits
    order = sorted(splits, key=data_set.sha1)
    middle = (len(order) + 1) // 2
    tested, others = order[:middle], order[middle:]
    if int(fold):
        tested, others = others, tested
    held_out = max(LEAST, round(len(others) / 5))
    splits = dict.fromkeys(tested, "test") | dict.fromkeys(others[:held_out], "valid")
    return splits | dict.fromkeys(others[held_out:], "train")
