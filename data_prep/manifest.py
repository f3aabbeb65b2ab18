"""CSV manifests in SpeechBrain's form: one row per piece of audio, paths relative to `$data_root`.

Columns: `ID`, `duration` (seconds of the piece), `wav`, `start` and `stop` (samples at the file's
own rate), then the label columns, all text, and optionally `weight` (a factor on how often a piece
is drawn). SpeechBrain's own CSV loader reads them too, unless a name holds another `$word`.
"""

import csv
import io
import os
from pathlib import PurePath

from speechbrain_music.utils.errors import UserError

COLUMNS = ("ID", "duration", "wav", "start", "stop")
DATA_ROOT = "$data_root"
MAX_FRAMES = 2**43  # more than a year at 192 kHz
RATES = (100, 10_000_000)  # Hz
WEIGHTS = (1e-9, 1e9)  # a sum of larger ones, times durations, can overflow


def csv_text(rows, columns):
    """The CSV text of rows (sequences) under a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def printable(name):
    """A path as text for any format: bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def manifest_text(rows, extra_columns=()):
    """The text of a manifest, sorted by ID: the same rows give the same text.

    A row is a dict with the `COLUMNS` (`wav` relative to the data folder) and `extra_columns`: the
    labels, and `weight` if there is one. Raises UserError if an ID occurs twice or a path is
    not relative.

    Example
    -------
    >>> row = {"ID": "007", "duration": 2.5, "wav": "bond.wav", "start": 0, "stop": 110250}
    >>> print(manifest_text([row | {"genre": "film"}], ["genre"]), end="")
    ID,duration,wav,start,stop,genre
    007,2.500000,$data_root/bond.wav,0,110250,film
    """
    lines = {}
    for row in rows:
        wav = PurePath(row["wav"]).as_posix()
        if wav.startswith(("/", DATA_ROOT)):
            raise UserError(f"{wav!r} must be a path relative to the data folder.")
        if row["ID"] in lines:
            raise UserError(f"Two rows have the ID {row['ID']!r}; an ID must be unique.")
        place = (f"{row['duration']:.6f}", f"{DATA_ROOT}/{wav}", row["start"], row["stop"])
        lines[row["ID"]] = (row["ID"], *place, *(row[column] for column in extra_columns))
    return csv_text((lines[key] for key in sorted(lines)), (*COLUMNS, *extra_columns))


def read_manifest(path, data_root):
    """Read and check a manifest; `data_root` (a folder) is put before its paths.

    Returns a DataFrame, one row per piece in the file's order: `duration` and `weight` (1.0 if
    there is none) float64, `start` and `stop` int64, everything else text as it stands in the file.
    Raises UserError if the file is missing or not CSV, lacks a column or has no row, if an ID
    occurs twice, or if a number is invalid or out of range.
    """
    import pandas as pd  # here, because preparation's command line does not need it

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        what = str(error).strip().splitlines()[0].rstrip(".")
        fault = f"{path} is not a readable manifest ({what}); prepare it again."
        raise UserError(fault) from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(
            f"{path} lacks the column(s) {', '.join(missing)}; a manifest has "
            f"{', '.join(COLUMNS)}, may have weight, and any label columns."
        )
    if table.empty:
        raise UserError(f"{path} has no rows; prepare it again from a folder with music.")
    if "weight" not in table:
        table["weight"] = 1.0
    numbers = ["duration", "start", "stop", "weight"]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    start, stop, seconds = table["start"], table["stop"], table["duration"]
    rate = (stop - start) / seconds
    faults = {  # negated, because a comparison with NaN is false
        "an ID that is not unique": table["ID"].duplicated(),
        "no path": table["wav"] == "",
        "a duration that is not a positive number": ~((seconds > 0) & (seconds < float("inf"))),
        "a start that is not a whole number >= 0": ~((start >= 0) & (start % 1 == 0)),
        "a stop that is not a whole number > start": ~((stop > start) & (stop % 1 == 0)),
        f"a stop over {MAX_FRAMES} samples": ~(stop <= MAX_FRAMES),
        "a duration that does not fit its start and stop ({} to {} samples per second)".format(
            *RATES
        ): ~rate.between(*RATES),
        "a weight that is not {:g} to {:g}".format(*WEIGHTS): ~table["weight"].between(*WEIGHTS),
    }
    for fault, rows in faults.items():
        if rows.any():
            key = table.loc[rows.idxmax(), "ID"]
            raise UserError(f"{path} has {fault} at ID {key!r}; fix it or prepare again.")
    root = str(data_root).rstrip("/")
    for column in set(table) - {"ID", *numbers}:  # also paths of annotations
        own = table[column].str.startswith(f"{DATA_ROOT}/")
        table.loc[own, column] = root + table.loc[own, column].str.removeprefix(DATA_ROOT)
    return table.astype({"duration": float, "start": "int64", "stop": "int64", "weight": float})
