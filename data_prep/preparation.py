"""Annotated pieces -> manifests with the right counts; music without a split -> a held-out share.

A data set's module reads its annotations into `Item`s and hands them to `prepare_items`, which
reads the headers, checks the counts and writes, all or nothing:

    train.csv valid.csv test.csv   manifests (`manifest.py`)
    report.json                    counts per split and class, hours, what is missing and why
    skipped.csv                    pieces of a split that are in no manifest, with the reason
    headers.jsonl                  what a second run need not read again
"""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from speechbrain_music.data_prep import manifest
from speechbrain_music.data_prep.disk import PreparationError, check_output, find_audio
from speechbrain_music.data_prep.headers import read_headers
from speechbrain_music.data_prep.report import counted, refuse_others, save, summary

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
REPLICA = "replica.json"  # at the root of a replica: what made it, and the counts it has
SEVERAL = "|"  # between the values of a label that has several
MIN_SECONDS = 0.8  # two mask blocks: shorter music cannot be trained on
_SHOWN = 20  # examples in the report; skipped.csv has them all


class Item(NamedTuple):
    """A piece as its annotations tell it.

    `wav` is relative to the data folder; `split` is one of `SPLITS`, or None where a share is to
    be held out; `labels` are the values of the data set's columns.

    Example
    -------
    >>> Item("a", "audio/a.mp3", None, ("Ann",))._replace(split="valid")
    Item(id='a', wav='audio/a.mp3', split='valid', labels=('Ann',))
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
    min_seconds : float
        Shorter files are skipped.

    Example
    -------
    >>> from speechbrain_music.data_prep.gtzan import GTZAN
    >>> GTZAN.labels, GTZAN.clip_seconds, sorted(GTZAN.unreadable)
    (('genre',), None, ['jazz.00054'])
    """

    title: str
    source: str
    licence: str
    bibtex: str
    labels: tuple = ()
    classes: tuple = ()
    unreadable: frozenset = frozenset()
    clip_seconds: float = None
    min_seconds: float = 0.0


def hold_out(rows, share, seed, groups=None):
    """Holds out a share of the rows, whole groups at a time.

    The order depends on the groups' names and the seed alone, so that few rows change sides when
    a corpus grows.

    Arguments
    ---------
    rows : list of dict
        Rows of a manifest, two or more.
    share : float
        Of the rows, in (0, 1), at most; at least one group is held out and one is not.
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
    chosen, count = set(), 0
    for name in order:
        if count + len(members[name]) <= wanted:
            chosen.add(name)
            count += len(members[name])
    chosen = chosen or {min(order, key=lambda name: len(members[name]))}
    sides = {"train": [], "valid": []}
    for name in order:
        sides["valid" if name in chosen else "train"] += members[name]
    return sides


def manifest_row(key, name, header):
    """The manifest's row of a whole file: its ID, its name in the data folder, its `Header`.

    Example
    -------
    >>> from speechbrain_music.data_prep.headers import Header
    >>> manifest_row("a", "audio/a.wav", Header(66150, 44100))
    {'ID': 'a', 'duration': 1.5, 'wav': 'audio/a.wav', 'start': 0, 'stop': 66150}
    """
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
        Where audio lies: what is in no split is counted.
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

    Example
    -------
    >>> import numpy, soundfile
    >>> root = getfixture("tmp_path")
    >>> soundfile.write(root / "a.wav", numpy.zeros(36000), 24000)
    >>> mine = DataSet("Mine", "me", "CC0", "", labels=("mood",), classes=("mood",))
    >>> items = [Item("a", "a.wav", "test", ("sad|slow",))]
    >>> prepare_items(mine, root, root / "out", items)["splits"]["test"]
    {'files': 1, 'rows': 1, 'hours': 0.000417, 'classes': {'mood': {'sad': 1, 'slow': 1}}}
    """
    out, settings = Path(out), settings or {}
    paths = {split: out / f"{split}.csv" for split in SPLITS}
    check_output(out / "report.json")
    if any(path.exists() for path in (out / "report.json", *paths.values())):
        replaced = refuse_others(out / "report.json", data_folder).get("settings")
        if replaced != settings:
            logger.warning("Replacing the manifests in %s made with %s", out, replaced)
    replica = _replica(data_folder)
    counts = replica["counts"].get(variant) if replica else counts
    items, repeated = _unique(data_set, items)
    headers = read_headers(data_folder, [item.wav for item in items], out / "headers.jsonl")
    shortest = data_set.clip_seconds or data_set.min_seconds
    faults = {item.wav: _fault(headers[item.wav], shortest) for item in items}
    skipped = [(name, fault) for name, fault in sorted(faults.items()) if fault]
    usable = [item for item in items if not faults[item.wav]]
    known_unreadable = [
        item for item in items if faults[item.wav] and item.id in data_set.unreadable
    ]
    unexpected = {item.wav for item in known_unreadable}
    first = [f" (first: {name}: {why})" for name, why in skipped if name not in unexpected]
    first = "".join(first[:1])
    if not usable:
        raise PreparationError(
            f"{data_folder} has none of the {len(items)} pieces of {data_set.title}{first}; "
            "check the folder."
        )
    made_by = {"generator": replica["generator"]} if replica else {}
    rows = {split: [] for split in (*SPLITS, None)}
    for item in usable:
        rows[item.split] += _rows(data_set, item, headers[item.wav], made_by)
    if valid_share is not None:
        rows = _held_out(rows[None], valid_share, seed)
    splits = {split: rows[split] for split in SPLITS if rows.get(split) or split in (counts or {})}
    pieces = Counter(item.split for item in usable)
    known = Counter(item.split for item in known_unreadable)
    deviations = [
        f"{split} has {pieces[split]} of {wanted}"
        for split, wanted in (counts or {}).items()
        if pieces[split] + known[split] != wanted
    ]
    if deviations and not allow_missing:
        raise PreparationError(
            f"{data_set.title} in {data_folder} is not as published: {', '.join(deviations)}"
            f"{first}; complete it, or pass --allow_missing and every result will say so."
        )
    unlisted = [name for place in folders for name in find_audio(data_folder, place)[0]]
    unlisted = [name for name in unlisted if name not in faults]
    report = {
        "data_set": data_set.title,
        "data_folder": str(data_folder),
        "settings": settings,
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
        "unlisted": {"files": len(unlisted), "examples": unlisted[:_SHOWN]},
        "source": data_set.source,
        "licence": data_set.licence,
        "bibtex": data_set.bibtex,
        **(facts or {}),
    }
    columns = data_set.labels + ("track",) * bool(data_set.clip_seconds) + tuple(made_by)
    texts = {paths[split]: manifest.manifest_text(part, columns) for split, part in splits.items()}
    save(out, report, skipped, texts)
    for path in set(paths.values()) - set(texts):  # of other settings
        path.unlink(missing_ok=True)
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


def _rows(data_set, item, header, more):
    """The manifest's rows of a piece: one, or one a clip."""
    labels = dict(zip(data_set.labels, item.labels, strict=True)) | more
    row = manifest_row(item.id, item.wav, header) | labels
    if data_set.clip_seconds is None:
        return [row]
    length = round(data_set.clip_seconds * header.sample_rate)
    row |= {"track": item.id, "duration": data_set.clip_seconds}
    return [
        row | {"ID": f"{item.id}-{k}", "start": k * length, "stop": (k + 1) * length}
        for k in range(header.frames // length)
    ]


def _held_out(rows, share, seed):
    if len(rows) < 2:
        raise PreparationError(
            f"{len(rows)} usable piece(s); two are needed, one to train and one to hold out."
        )
    artists = [row.get("artist", "") for row in rows]
    if len(set(artists)) == 1:
        logger.warning("No artist is told from another: held out by files, not by artists.")
    return hold_out(rows, share, seed, artists)


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


def _classes(rows, column):
    """Value -> rows."""
    values = Counter(value for row in rows for value in str(row[column]).split(SEVERAL) if value)
    return dict(sorted(values.items()))
