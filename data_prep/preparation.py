"""What all preparations share: where data lie, which are of use, manifests, report, command line.

A preparation reads annotations into `Item`s and hands them to `prepare_items`, which reads the
headers, checks the counts and writes, all or nothing:

    train.csv valid.csv test.csv   manifests (`manifest.py`)
    report.json                    counts per split and class, hours, what is missing and why
    skipped.csv                    every piece that is in no manifest, with the reason
    headers.jsonl                  what a second run need not read again
"""

import argparse
import csv
import difflib
import functools
import hashlib
import json
import logging
import os
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.headers import read_headers
from speechbrain_music.dataio import audio
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
REPLICA = "replica.json"  # at the root of a replica: what made it, and the counts it has
SEVERAL = "|"  # between the values of a label that has several
MIN_SECONDS = 0.8  # two mask blocks: shorter music cannot be trained on
_SHOWN = 20  # examples in the report; skipped.csv has them all


class PreparationError(UserError):
    """Data that cannot be prepared. The message is one sentence with the remedy."""


class Item(NamedTuple):
    """A piece as its annotations tell it.

    `wav` is relative to the data folder; `split` is one of `SPLITS`, or None where a share is to
    be held out; `labels` are the values of the data set's columns.
    """

    id: str
    wav: str
    split: str
    labels: tuple


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before looking at it.

    Arguments
    ---------
    title, source, licence, bibtex : str
        Name, where it comes from, what its licence allows, whom to cite.
    labels : tuple of str
        The manifest's columns after the first five.
    classes : tuple of str
        Those of them whose values are counted in the report.
    unreadable : frozenset of str
        IDs known to be damaged in the published copies: reported, but no deviation.
    clip_seconds : float, optional
        Cuts each piece into clips of this length, the rest is dropped; a column `track` tells
        whose clip it is.
    """

    title: str
    source: str
    licence: str
    bibtex: str
    labels: tuple = ()
    classes: tuple = ()
    unreadable: frozenset = frozenset()
    clip_seconds: float = None


def in_one_sentence(prepare):
    """Makes a preparation say in a sentence what the disk or a damaged text file did to it."""

    @functools.wraps(prepare)
    def guarded(*args, **kwargs):
        try:
            return prepare(*args, **kwargs)
        except OSError as error:
            raise PreparationError(
                f"{error.filename or 'The output'} cannot be read or written "
                f"({error.strerror or error}); check the disk, its room and its permissions, then "
                "give the same command again."
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise PreparationError(
                f"An annotation file is damaged ({error}); fetch it again."
            ) from error

    return guarded


def existing_folder(data_folder):
    """The folder as an absolute path, or an error that names the nearest one."""
    folder = Path(data_folder)
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise PreparationError(f"{folder} is a file; give the folder that holds it.")
    parent = next(p for p in folder.absolute().parents if p.is_dir())
    missing = folder.absolute().relative_to(parent).parts[0]
    siblings = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    close = difflib.get_close_matches(missing, siblings, n=1)
    hint = f"did you mean {parent / close[0]}?" if close else f"{parent} is as far as it goes."
    raise PreparationError(f"There is no folder {folder}; {hint}")


def locate(root, title, marker, places=("",)):
    """Where in a data set's folder something lies.

    Arguments
    ---------
    root : Path
        The folder.
    title : str
        The data set's name, for the error.
    marker : str
        A glob pattern that only the right place matches.
    places : sequence of str
        The places where releases have it, relative to `root`.

    Returns
    -------
    str
        The first place that matches.

    Raises
    ------
    PreparationError
        If none does; it says whether the place is two levels above or three below.
    """

    def holds(folder):
        return next(folder.glob(marker), None) is not None

    for place in places:
        if holds(root / place):
            return place
    looked = " or ".join(sorted(str(PurePath(place, marker)) for place in places))
    for above in root.parents[:2]:
        if any(holds(above / place) for place in places):
            raise PreparationError(
                f"{root} is not {title} ({looked} is not there); this looks like a part of it: "
                f"did you mean {above}?"
            )
    for below in _folders(root, 3):
        if any(holds(below / place) for place in places):
            raise PreparationError(
                f"{root} is not {title} ({looked} is not there); this looks like the parent of "
                f"{title}: did you mean {below}?"
            )
    raise PreparationError(
        f"{root} is not {title}: {looked} is not there; see --help for the tree."
    )


def _folders(root, levels, most=1000):
    """Folders below one, the near ones first."""
    level = [root]
    for _ in range(levels):
        level = [
            Path(entry.path)
            for folder in level
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
            if entry.is_dir() and not entry.name.startswith(".")
        ][:most]
        yield from level


def find_audio(root, below=""):
    """Audio files in a folder of `root` and below it, hidden ones aside, by their extension.

    Returns
    -------
    names : list of str
        Relative to `root`, each folder in the order of its names.
    unlisted : list of (str, str)
        Folders that cannot be listed, and that they cannot.
    others : collections.Counter
        Extension -> files that are no audio.
    """
    names, others, unlisted, seen = [], Counter(), [], set()
    top = os.path.join(root, below)
    for folder, subfolders, files in os.walk(top, onerror=unlisted.append, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link in a circle, or to a folder we had
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if extension in audio.AUDIO_EXTENSIONS or extension in audio.FOREIGN_EXTENSIONS:
                names.append(PurePath(folder, name).relative_to(root).as_posix())
            else:
                others[extension or "no extension"] += 1
    skipped = [(os.path.relpath(error.filename, root), "cannot be listed") for error in unlisted]
    return names, skipped, others


def read_table(path, columns, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    """Reads an annotation table: line ends of any kind, quoted line breaks, a byte order mark.

    Arguments
    ---------
    path : str | Path
        The file; its first row names the columns.
    columns : sequence of str
        Those that must be there.
    delimiter : str
        What separates cells.
    quoting : int
        As `csv.reader` has it.

    Yields
    ------
    dict
        Column -> cell, both without the white space around them.

    Raises
    ------
    PreparationError
        If the file or a column is missing, or a row is short, as in a file that was cut off.

    Example
    -------
    >>> path = getfixture("tmp_path") / "table.csv"
    >>> _ = path.write_text('id,key\\r\\n7,"A ""flat"" major"\\r\\n', newline="")
    >>> list(read_table(path, ["id", "key"]))
    [{'id': '7', 'key': 'A "flat" major'}]
    """
    if not Path(path).is_file():
        raise PreparationError(f"{path} is not there; complete the data set's annotations.")
    csv.field_size_limit(2**31 - 1)  # biographies are longer than the default
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting)
        header = [name.strip() for name in next(rows, [])]
        lacking = [name for name in columns if name not in header]
        if lacking:
            raise PreparationError(
                f"{path} lacks the column(s) {', '.join(lacking)}; fetch it again."
            )
        for row in rows:
            if not row:
                continue
            if len(row) < len(header):
                raise PreparationError(
                    f"{path} ends or breaks off at line {rows.line_num}; fetch it again."
                )
            yield {name: cell.strip() for name, cell in zip(header, row, strict=False)}


def hold_out(rows, share, seed, groups=None):
    """Holds out a share of the rows, whole groups at a time.

    The order depends on the groups' names and the seed alone, so that few rows change sides when
    a corpus grows.

    Arguments
    ---------
    rows : list of dict
        Rows of a manifest, two or more.
    share : float
        Of the rows, in (0, 1); at least one is held out and one is not.
    seed : int
        Chooses which.
    groups : list of str, optional
        Whose each row is; "" is a group of its own, as is every row where none are given.

    Returns
    -------
    dict
        `train` and `valid`: rows.

    Example
    -------
    >>> rows = [{"ID": name} for name in "abcd"]
    >>> {split: len(part) for split, part in hold_out(rows, 0.25, 0, [1, 1, 2, 2]).items()}
    {'train': 2, 'valid': 2}
    """
    if not 0 < share < 1:
        raise PreparationError(f"valid_share is {share}; it must lie between 0 and 1.")
    if groups is None or len(set(groups)) < 2:
        groups = [""] * len(rows)
    members = defaultdict(list)
    for row, group in zip(rows, groups, strict=True):
        members[group or row["ID"]].append(row)
    wanted = min(max(1, round(share * len(rows))), len(rows) - 1)
    order = sorted(members, key=lambda name: hashlib.sha1(f"{seed}:{name}".encode()).digest())
    valid = []
    while len(valid) < wanted and len(order) > 1:
        valid += members[order.pop(0)]
    return {"train": [row for name in order for row in members[name]], "valid": valid}


def check_output(*files):
    """Refuses a place that cannot be written to; said before a scan that may take an hour."""
    for path in map(Path, files):
        place = next(p for p in path.absolute().parents if p.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise PreparationError(f"{path} cannot be written; choose another folder for it.")


def manifest_row(key, name, header):
    """The manifest's row of a whole file."""
    return {
        "ID": key,
        "duration": header.seconds,
        "wav": name,
        "start": 0,
        "stop": header.frames,
    }


def prepare_items(
    data_set,
    data_folder,
    out,
    items,
    settings=None,
    counts=None,
    variant="published",
    allow_missing=False,
    folders=(),
    valid_share=None,
    seed=0,
    facts=None,
):
    """Annotated pieces -> manifests and a report; the same data give the same bytes.

    Arguments
    ---------
    data_set : DataSet
        What is known of it.
    data_folder : Path
        What `wav` is relative to.
    out : str | Path
        The folder to write to. What another data folder was prepared into is not overwritten.
    items : list of Item
        All pieces that belong to a split.
    settings : dict, optional
        The choices made, for the report.
    counts : dict, optional
        Split -> pieces it must have; a replica's own counts take their place.
    variant : str
        Which counts of a replica these are.
    allow_missing : bool
        Whether other counts are reported and not refused.
    folders : sequence of str
        Where audio lies: what no annotation names is counted.
    valid_share : float, optional
        Holds out this share, by the label `artist` if there is one, where items have no split.
    seed : int
        Chooses the held-out.
    facts : dict, optional
        Goes into the report as it is.

    Returns
    -------
    dict
        What `report.json` holds.

    Raises
    ------
    PreparationError
        If the counts are others, an ID stands for two different pieces, nothing is of use, or
        the disk fails. Nothing is written then, except for the remembered headers.
    """
    out = Path(out)
    check_output(out / "report.json")
    if (out / "report.json").exists():
        refuse_others(out / "report.json", data_folder)
    replica = _replica(data_folder)
    counts = replica["counts"].get(variant) if replica else counts
    items, repeated = _unique(data_set, items)
    headers = read_headers(data_folder, [item.wav for item in items], out / "headers.jsonl")
    shortest = data_set.clip_seconds or (MIN_SECONDS if valid_share else 0)
    faults = {item.wav: _fault(headers[item.wav], shortest) for item in items}
    skipped = [(name, fault) for name, fault in sorted(faults.items()) if fault]
    usable = [item for item in items if not faults[item.wav]]
    first = "".join(f" (first: {name}: {fault})" for name, fault in skipped[:1])
    if not usable:
        raise PreparationError(
            f"{data_folder} has none of the {len(items)} pieces of {data_set.title}{first}; "
            "check the folder."
        )
    made_by = {"generator": replica["generator"]} if replica else {}
    rows = {split: [] for split in (*SPLITS, None)}
    for item in usable:
        labels = dict(zip(data_set.labels, item.labels, strict=True)) | made_by
        clips = _clips(item, headers[item.wav], data_set.clip_seconds)
        rows[item.split] += [clip | labels for clip in clips]
    if valid_share:
        rows = _held_out(rows[None], valid_share, seed)
    splits = {split: rows[split] for split in SPLITS if rows.get(split) or split in (counts or {})}
    pieces = Counter(item.split for item in usable)
    excused = Counter(i.split for i in items if faults[i.wav] and i.id in data_set.unreadable)
    deviations = [
        f"{split} has {pieces[split]} of {wanted}"
        for split, wanted in (counts or {}).items()
        if pieces[split] + excused[split] != wanted
    ]
    if deviations and not allow_missing:
        raise PreparationError(
            f"{data_set.title} in {data_folder} is not as published: {', '.join(deviations)}"
            f"{first}; complete it, or pass --allow_missing and every result will say so."
        )
    unannotated = [name for place in folders for name in find_audio(data_folder, place)[0]]
    unannotated = [name for name in unannotated if name not in faults]
    report = {
        "data_set": data_set.title,
        "data_folder": str(data_folder),
        "settings": settings or {},
        "replica": replica,
        "counts": counts,
        "deviations": deviations,
        "splits": {
            split: counted(part, pieces[split] or len(part))
            | {"classes": {name: _classes(part, name) for name in data_set.classes}}
            for split, part in splits.items()
        },
        **summary(skipped),
        "examples": dict(skipped[:_SHOWN]),
        "repeated": repeated[:_SHOWN],
        "unannotated": {"files": len(unannotated), "examples": unannotated[:_SHOWN]},
        "source": data_set.source,
        "licence": data_set.licence,
        "bibtex": data_set.bibtex,
        **(facts or {}),
    }
    columns = data_set.labels + ("track",) * bool(data_set.clip_seconds) + tuple(made_by)
    texts = {
        out / f"{split}.csv": manifest.manifest_text(part, columns)
        for split, part in splits.items()
    }
    save(out, report, skipped, texts)
    return report


def _fault(header, shortest):
    """Why a file is of no use, or None."""
    if isinstance(header, str):
        return header
    return f"shorter than {shortest:g} s" if header.seconds < shortest else None


def _unique(data_set, items):
    """The items, each once, and the IDs that came twice saying the same."""
    found, repeated = {}, []
    for item in items:
        if found.setdefault(item.id, item) is not item:
            if found[item.id] != item:
                raise PreparationError(
                    f"{data_set.title} has two different pieces with the ID {item.id}; "
                    "correct its annotations."
                )
            repeated.append(item.id)
    return list(found.values()), repeated


def _clips(item, header, seconds):
    whole = manifest_row(item.id, item.wav, header)
    if seconds is None:
        return [whole]
    length = round(seconds * header.sample_rate)
    return [
        whole
        | {"ID": f"{item.id}-{index}", "track": item.id, "duration": seconds}
        | {"start": index * length, "stop": (index + 1) * length}
        for index in range(header.frames // length)
    ]


def _held_out(rows, share, seed):
    if len(rows) < 2:
        raise PreparationError(
            f"{len(rows)} usable piece(s); two are needed, one to train and one to hold out."
        )
    return hold_out(rows, share, seed, [row.get("artist", "") for row in rows])


def _replica(data_folder):
    """What made a replica, or None for data of other origin."""
    path = Path(data_folder, REPLICA)
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {key: facts[key] for key in ("generator", "scale", "seed", "counts")}
    except (ValueError, LookupError, TypeError) as error:
        raise PreparationError(f"{path} is damaged; delete the replica and make it again.") from (
            error
        )


def counted(rows, files=None):
    """How many files and rows a split has, and hours."""
    hours = round(sum(row["duration"] for row in rows) / 3600, 6)
    return {"files": len(rows) if files is None else files, "rows": len(rows), "hours": hours}


def _classes(rows, column):
    """Value -> rows."""
    values = Counter(value for row in rows for value in str(row[column]).split(SEVERAL) if value)
    return dict(sorted(values.items()))


def refuse_others(report_json, data_folder):
    """An error if the report where manifests are is another folder's; otherwise that report."""
    try:
        report = json.loads(report_json.read_text(encoding="utf-8"))
        source = report["data_folder"]
    except (OSError, ValueError, LookupError, TypeError):
        report, source = {}, "an unknown folder"
    if source != str(data_folder):
        raise PreparationError(
            f"The manifests in {report_json.parent} were prepared from {source}, not from "
            f"{data_folder}; delete them or choose another folder for the new ones."
        )
    return report


def summary(skipped):
    """The part of a report that counts what was skipped."""
    reasons = Counter(reason for _, reason in skipped)
    return {"skipped": len(skipped), "reasons": dict(sorted(reasons.items()))}


def save(out, report, skipped, manifests):
    """Writes what has changed, all or nothing, the manifests last; says what there is.

    Arguments
    ---------
    out : Path
        For `skipped.csv` and `report.json`.
    report : dict
        With `splits` (name -> `files`, `hours`) and what `summary` gives.
    skipped : list of (str, str)
        Path and reason.
    manifests : dict
        Path -> text.
    """
    printable = [
        (os.fsencode(name).decode("utf-8", "backslashreplace"), reason)
        for name, reason in sorted(skipped)
    ]
    files = {
        out / "skipped.csv": manifest.csv_text(printable, ("path", "reason")),
        out / "report.json": json.dumps(report, indent=2) + "\n",
        **manifests,
    }
    if not all(path.exists() and path.read_bytes() == files[path].encode() for path in files):
        write_together(files)
    say(report)


def say(report):
    """Logs a report's main figures."""
    for name, split in report["splits"].items():
        logger.info("%s: %d files, %.2f hours", name, split["files"], split["hours"])
    for reason, count in report["reasons"].items():
        logger.info("skipped %d: %s", count, reason)
    for deviation in report.get("deviations", ()):
        logger.warning("not as published: %s", deviation)


def make_parser(module, doc, allow_missing=False, several=None):
    """The options that all preparations have, for the module of this name."""
    parser = argparse.ArgumentParser(
        prog=f"python -m speechbrain_music.data_prep.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if several:
        parser.add_argument(several, nargs="+", help="FOLDER or FOLDER=WEIGHT")
    else:
        parser.add_argument("data_folder", help="where the data are")
    parser.add_argument("--out", required=True, type=Path, help="folder for the manifests")
    if allow_missing:
        parser.add_argument(
            "--allow_missing", action="store_true", help="report other counts, do not refuse them"
        )
    return parser


def answer(prepare, parser, argv):
    """Runs a preparation with a parser's options: 0 if all went well, 2 after one line of error."""
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        prepare(**options)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0
