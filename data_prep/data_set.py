"""A data set's record, and its annotated pieces turned into manifests.

`data_sets.yaml` has the record of each, and its module reads the annotations into `Item`s;
`DataSet.prepare` reads the audio headers, checks the counts and writes, all or nothing:

    train.csv valid.csv test.csv   manifests (`manifest.py`)
    report.json                    counts per split and class, hours, what is missing and why
    skipped.csv                    pieces of a split that are in no manifest, with the reason
    headers.jsonl                  headers, so that a second run reads only new or changed files
"""

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from speechbrain_music.data_prep import files, manifest, output
from speechbrain_music.data_prep.headers import read_headers

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
ALL = "the data set"  # the key of a count of all pieces, where splits are folds
REPLICA_JSON = "replica.json"  # at the root of a replica: its generator and its counts
SEVERAL = "|"  # between the values of a label that has several
_SHOWN = 20  # examples in the report; skipped.csv has all

# Options of `prepare_items`, which some data sets have.
_COMMON = ("allow_missing", "valid_share", "seed")


class Item(NamedTuple):
    """A piece as its annotations describe it.

    `wav` is relative to the data folder; `split` is one of `SPLITS`, or None where a share is to
    be held out; `labels` are the values of the data set's label columns.
    """

    id: str
    wav: str
    split: str
    labels: tuple


class Annotations(NamedTuple):
    """The annotations of a data set: all pieces that belong to a split.

    `settings` (the options chosen) and `extra` go into the report; `variant` names the record's
    counts, several joined by `+`; `record` has fields of the `DataSet` that only these files tell;
    `texts` (file name -> text) are written beside the manifests.
    """

    items: list
    settings: dict = {}
    variant: str = "published"
    extra: dict = {}
    record: dict = {}
    texts: dict = {}


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before its files are read."""

    title: str
    reference: str = "not stated"  # who published it
    licence: str = "not stated"
    home_page: str = ""
    bibtex: str = ""
    description: str = ""  # for --help: what it is, the expected tree, the splits
    labels: tuple = ()  # the manifest's columns after the first five
    classes: tuple = ()  # those whose values are counted in the report
    counts: dict = field(default_factory=dict)  # variant -> split (or `ALL`) -> published pieces
    assert_counts: bool = True  # whether other counts are refused; otherwise they are reported
    known_unreadable: tuple = ()  # IDs that are damaged in the published copies
    clip_seconds: float | None = None  # cuts pieces into clips; the column `track` has their IDs
    min_seconds: float = 0.0  # shorter files are skipped
    endings: tuple = ()  # of the audio's stems, which some copies have and others have not
    fetches: bool = False  # whether `read` downloads what is missing: the folder is made
    valid_share: float = 0.05  # of the pieces, to hold out where there are no splits, by default
    own: bool = False  # a user's table: nothing was published, and nothing can be downloaded again
    # `read(data_folder, out, **options)` returns `Annotations`; `out` is the folder of the
    # manifests, for files that it downloads or caches.
    read: Callable | None = None
    # Option of `prepare` -> its allowed values, or a help text.
    options: dict = field(default_factory=dict)

    def prepare(self, data_folder, out, **options):
        """Write the data set's manifests to the folder `out`, and return the report.

        The same data give the same bytes. `options` are those of the record, by name.

        Raises PreparationError if the folder is another one, the annotations are damaged, the
        counts differ, an ID stands for two different pieces, no piece can be used, or `out` has the
        manifests of another data folder; no manifest is written then.
        """
        if self.fetches and not (made := Path(data_folder).expanduser()).exists():
            made.mkdir(parents=True)
        root, out = files.existing_folder(data_folder), Path(out)
        files.check_output(out / "report.json")  # also before anything is fetched
        own = [name for name in options if name in self.options]  # any other is a TypeError below
        for name in own:
            if not isinstance(allowed := self.options[name], str):
                check_option(name, options[name], allowed)
        common = {name: options.pop(name) for name in own if name in _COMMON}
        annotations = self.read(root, out, **options)
        return prepare_items(replace(self, **annotations.record), root, out, annotations, **common)


def check_option(name, value, allowed):
    """Raise a `PreparationError` for an option's value that is not allowed."""
    if value not in allowed:
        raise files.PreparationError(f"{name} is {value!r}; choose one of {', '.join(allowed)}.")


def sha1(text):
    """The SHA-1 of a text as a whole number: an order, or a share, that depends on it alone."""
    return int(hashlib.sha1(text.encode()).hexdigest(), 16)


def hold_out(rows, share, seed, groups):
    """Hold out a share of manifest rows, whole groups at a time; a dict with `train` and `valid`.

    `groups` holds the group of each row; "" is a group of its own, as is each row if all are equal.
    At most `share` is held out, but at least one group; at least one is not. The order depends on
    the groups' names and the seed alone, so that few rows change sides when a corpus grows.
    """
    if len(set(groups)) < 2:
        groups = [""] * len(rows)
    members = defaultdict(list)
    for row, group in zip(rows, groups, strict=True):
        members[group or row["ID"]].append(row)
    wanted = min(max(1, round(share * len(rows))), len(rows) - 1)
    wanted = max(wanted, min(map(len, members.values())))  # one group, however large
    sides = {"train": [], "valid": []}
    for name in sorted(members, key=lambda name: sha1(f"{seed}:{name}")):
        fits = len(sides["valid"]) + len(members[name]) <= wanted
        sides["valid" if fits else "train"] += members[name]
    return sides


def prepare_items(
    data_set, data_folder, out, annotations, allow_missing=False, valid_share=None, seed=0
):
    """Write the manifests and the report of annotated pieces, and return the report.

    With `allow_missing` counts that differ are reported, not refused. Of pieces without a split a
    share is held out, by the label `artist` if there is one, in an order that depends on the names
    and the seed alone, so that few change sides when a folder grows.
    """
    items, repeated = _unique(data_set, annotations.items)
    audio, unlisted_folders, _ = files.find_audio(data_folder)
    names = (item.wav for item in items)
    found = files.find_pieces(data_folder, audio, names, data_set.endings, flat=not data_set.own)
    items = [item._replace(wav=found[item.wav]) for item in items]
    held_out = any(item.split is None for item in items)
    settings = annotations.settings
    if held_out:
        valid_share = data_set.valid_share if valid_share is None else valid_share
        if not 0 < valid_share < 1:
            raise files.PreparationError(
                f"valid_share is {valid_share}; it must lie between 0 and 1."
            )
        settings = settings | {"valid_share": valid_share, "seed": seed}
    paths = {split: out / f"{split}.csv" for split in SPLITS}
    if any(path.exists() for path in (out / "report.json", *paths.values())):
        report = output.refuse_other_source(out / "report.json", data_folder, data_set.title)
        if (replaced := report.get("settings")) != settings:
            logger.warning("Replacing the manifests in %s made with %s", out, replaced)
    replica = _read_replica(data_folder)
    published = replica["counts"] if replica else data_set.counts
    wanted = [published.get(variant) for variant in annotations.variant.split("+")]
    counts = None
    if None not in wanted:
        counts = {s: sum(part.get(s, 0) for part in wanted) for each in wanted for s in each}
    headers = read_headers(data_folder, [item.wav for item in items], out / "headers.jsonl")
    shortest = data_set.clip_seconds or data_set.min_seconds
    faults = {name: header for name, header in headers.items() if isinstance(header, str)}
    for name in headers.keys() - faults.keys():
        if headers[name].seconds < shortest:
            faults[name] = f"shorter than {shortest:g} s"
    copied = []
    if held_out or data_set.own or not data_set.assert_counts:
        copied = _find_copies(data_set, data_folder, items, faults)
    skipped = sorted([*unlisted_folders, *faults.items()])
    usable = [item for item in items if item.wav not in faults]
    deviations = copied + _check_counts(data_set, data_folder, items, faults, counts, allow_missing)
    made_by = {"generator": replica["generator"]} if replica else {}
    rows = {split: [] for split in (*SPLITS, None)}
    for item in usable:
        rows[item.split] += _rows(data_set, item, headers[item.wav], made_by)
    if held_out:
        artists = [row.get("artist", "") for row in rows[None]]
        if artists[0] and len(set(artists)) == 1:
            logger.warning("All pieces have the same artist: single files are held out.")
        rows = hold_out(rows[None], valid_share, seed, artists)
    splits = {split: rows[split] for split in SPLITS if rows.get(split) or split in (counts or {})}
    reasons = Counter(reason for _, reason in skipped)
    unlisted = [name for name in audio if name not in headers]
    report = {
        "data_set": data_set.title,
        "data_folder": str(data_folder),
        "settings": settings,
        "replica": replica,
        "counts": counts,
        "deviations": deviations,
        "splits": {
            split: output.split_counts(part)
            | {"classes": {name: _class_counts(part, name) for name in data_set.classes}}
            for split, part in splits.items()
        },
        "skipped": len(skipped),
        "reasons": dict(sorted(reasons.items())),
        "examples": dict(skipped[:_SHOWN]),
        "repeated": repeated[:_SHOWN],
        "unlisted": {"files": len(unlisted), "examples": unlisted[:_SHOWN]},
        "reference": data_set.reference,
        "home_page": data_set.home_page,
        "licence": data_set.licence,
        "bibtex": data_set.bibtex,
        **annotations.extra,
    }
    columns = data_set.labels + ("track",) * bool(data_set.clip_seconds) + tuple(made_by)
    texts = {paths[split]: manifest.manifest_text(part, columns) for split, part in splits.items()}
    beside = {out / name: text for name, text in annotations.texts.items()}
    output.write_output(out, report, skipped, beside | texts)
    for path in set(paths.values()) - set(texts):  # of other settings
        path.unlink(missing_ok=True)
    return report


def _unique(data_set, items):
    """The items, each once, and the IDs of those that occurred more than once."""
    counts = Counter(items)
    for key, count in Counter(item.id for item in counts).items():
        if count > 1:
            remedy = "keep one of its rows" if data_set.own else "fix its annotations"
            what = f"has two different pieces with the ID {key}"
            raise files.damaged(data_set.title, what, remedy)
    return list(counts), [item.id for item, count in counts.items() if count > 1]


def _find_copies(data_set, data_folder, items, faults):
    """Deal with files of equal content, which could train and test; returns deviations.

    Where a share is held out, only the first is used: the others get a fault. A split that is given
    stays as it is, with a deviation, but one file in two splits of a user's table is refused.
    """
    splits = {item.wav: item.split for item in items if item.wav not in faults}
    first = files.equal_files(data_folder, sorted(splits))
    apart = [name for name in first if splits[name] != splits[first[name]]]
    for name in first:
        if splits[name] is None and first[name] != name:
            faults[name] = "a copy of another file"
    if not apart:
        return []
    same = [
        name for name in apart if os.path.samefile(data_folder / name, data_folder / first[name])
    ]
    name = (same or apart)[0]
    what = (
        f"{len(apart)} file(s) have a copy in another split, for example {first[name]} "
        f"({splits[first[name]]}) and {name} ({splits[name]})"
    )
    if data_set.own and same:
        raise files.PreparationError(f"{data_set.title}: {what}; put a file into one split.")
    return [what]


def _check_counts(data_set, data_folder, items, faults, counts, allow_missing):
    """Deviations from the counts, one sentence each; refused unless `allow_missing`."""
    unreadable = {item.wav for item in items if item.id in data_set.known_unreadable}
    unexpected = sorted(faults.keys() - unreadable)
    first = f" (first: {unexpected[0]}: {faults[unexpected[0]]})" if unexpected else ""
    usable = Counter(item.split for item in items if item.wav not in faults)
    held_out = any(item.split is None for item in items)
    if usable.total() < 1 + held_out:
        two = "two are needed, one to train and one to hold out; " if held_out else ""
        raise files.PreparationError(
            f"{data_folder} has {usable.total()} usable of {len(items)} pieces of "
            f"{data_set.title}{first}; {two}{files.describe(data_folder)}check the folder."
        )
    known = Counter(i.split for i in items if i.wav in faults and i.wav in unreadable)
    for counter in (usable, known):
        counter[ALL] = counter.total()
    deviations = [
        f"{split} has {usable[split]} of {wanted}"
        for split, wanted in (counts or {}).items()
        if usable[split] + known[split] != wanted
    ]
    if deviations and data_set.assert_counts and not allow_missing:
        raise files.PreparationError(
            f"{data_set.title} in {data_folder} does not have the expected recordings: "
            f"{', '.join(deviations)}{first}; complete it, or pass --allow_missing and every "
            "result will say so."
        )
    return deviations


def _rows(data_set, item, header, more):
    """The manifest rows of a piece: one, or one per clip."""
    labels = dict(zip(data_set.labels, item.labels, strict=True)) | more
    row = {"ID": item.id, "wav": item.wav, "start": 0, "stop": header.frames, **labels}
    if data_set.clip_seconds is None:
        return [row | {"duration": header.seconds}]
    length = round(data_set.clip_seconds * header.sample_rate)
    row |= {"track": item.id, "duration": data_set.clip_seconds}
    return [
        row | {"ID": f"{item.id}-{k}", "start": k * length, "stop": (k + 1) * length}
        for k in range(header.frames // length)
    ]


def _read_replica(data_folder):
    """The generator and the counts of a replica, or None for other data."""
    path, keys = Path(data_folder, REPLICA_JSON), ("generator", "scale", "seed", "counts")
    if not path.exists():
        return None
    if not (made := output.read_json(path)).keys() >= set(keys):
        raise files.PreparationError(f"{path} is damaged; delete the replica and make it again.")
    return {key: made[key] for key in keys}


def _class_counts(rows, column):
    """Value of a label -> rows."""
    values = Counter(value for row in rows for value in values_of(str(row[column])))
    return dict(sorted(values.items()))


def values_of(text):
    """The values of a label, of "a|b" each."""
    return filter(None, map(str.strip, text.split(SEVERAL)))
