"""The CSV manifests of SpeechBrain: one row a piece of audio, paths relative to `$data_root`.

Columns: `ID`, `duration` (seconds of the piece), `wav`, `start` and `stop` (samples at the file's
own rate), then the label columns, all text, and optionally `weight` (a factor on how often a piece
is drawn). SpeechBrain's own CSV loader reads them too, unless a name holds another `$word`.
"""

import csv
import io
import os
from pathlib import Path, PurePath

from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError

COLUMNS = ("ID", "duration", "wav", "start", "stop")
DATA_ROOT = "$data_root"


class ManifestError(UserError):
    """A manifest that cannot be used. The message is one sentence with the remedy.

    Example
    -------
    >>> try:
    ...     manifest_text([{"ID": "a", "wav": "/music/a.wav"}])
    ... except ManifestError as error:
    ...     print(error)
    '/music/a.wav' must be a path relative to the data folder.
    """


def csv_text(rows, columns):
    """The CSV text of rows (sequences) under a header.

    Example
    -------
    >>> print(csv_text([("a, b.wav", "too short")], ("path", "reason")), end="")
    path,reason
    "a, b.wav",too short
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def printable(name):
    """A path as text that every format can hold: bytes that are no UTF-8 get backslashes.

    Example
    -------
    >>> printable("caf\\udce9.wav"), printable("café.wav")
    ('caf\\\\xe9.wav', 'café.wav')
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def manifest_text(rows, extra_columns=()):
    """The text of a manifest; `write_manifest` says what the rows are, and what is refused.

    Example
    -------
    >>> row = {"duration": 1, "start": 0, "stop": 24000}
    >>> print(manifest_text(row | {"ID": key, "wav": f"{key}.wav"} for key in "ba"), end="")
    ID,duration,wav,start,stop
    a,1.000000,$data_root/a.wav,0,24000
    b,1.000000,$data_root/b.wav,0,24000
    """
    lines = {}
    for row in rows:
        wav = PurePath(row["wav"]).as_posix()
        if wav.startswith(("/", DATA_ROOT)):
            raise ManifestError(f"{wav!r} must be a path relative to the data folder.")
        if row["ID"] in lines:
            raise ManifestError(f"Two rows have the ID {row['ID']!r}; an ID must be unique.")
        place = (f"{row['duration']:.6f}", f"{DATA_ROOT}/{wav}", row["start"], row["stop"])
        lines[row["ID"]] = (row["ID"], *place, *(row[column] for column in extra_columns))
    return csv_text((lines[key] for key in sorted(lines)), (*COLUMNS, *extra_columns))


def write_manifest(path, rows, extra_columns=()):
    """Writes a manifest atomically, sorted by ID: the same rows give the same bytes.

    Arguments
    ---------
    path : str | Path
        The CSV file; its folder is made if missing.
    rows : iterable of dict
        Keys `ID` (str), `duration` (float, seconds), `wav` (path relative to the data folder),
        `start`, `stop` (int, samples at the file's own rate), and `extra_columns`.
    extra_columns : sequence of str
        The label columns, and `weight` if there is one, in their order.

    Raises
    ------
    ManifestError
        If an ID comes twice or a path is not relative.
    OSError
        If the file cannot be written.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "train.csv")
    >>> row = {"ID": "007", "duration": 2.5, "wav": "bond.wav", "start": 0, "stop": 110250}
    >>> write_manifest(path, [row | {"genre": "film"}], ["genre"])
    >>> print(path.read_text(), end="")
    ID,duration,wav,start,stop,genre
    007,2.500000,$data_root/bond.wav,0,110250,film
    >>> read_manifest(path, "/music").loc[0, ["ID", "wav"]].tolist()
    ['007', '/music/bond.wav']
    """
    write_together({Path(path): manifest_text(rows, extra_columns)})


def read_manifest(path, data_root):
    """Reads and checks a manifest.

    Arguments
    ---------
    path : str | Path
        The CSV file.
    data_root : str | Path
        What stands for `$data_root` at the beginning of the `wav` column; the address of a web
        server for shards.

    Returns
    -------
    pandas.DataFrame
        One row a piece, in the file's order: `duration` and `weight` (1.0 if there is none)
        float64, `start` and `stop` int64, everything else text as it stands in the file.

    Raises
    ------
    ManifestError
        If it is missing or not CSV, lacks a column or has no row, if an ID comes twice, or if a
        number is not one or out of its range.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train.csv"
    >>> _ = path.write_text("ID,duration,wav,start,stop\\n007,1,$data_root/a.wav,0,24000\\n")
    >>> read_manifest(path, "https://server/mine").loc[0, ["ID", "wav"]].tolist()
    ['007', 'https://server/mine/a.wav']
    """
    import pandas as pd  # here, so that preparation's command line answers at once

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        what = str(error).strip().splitlines()[0].rstrip(".")
        raise ManifestError(f"{path} is not a readable manifest ({what}); prepare it again.") from (
            error
        )
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise ManifestError(
            f"{path} lacks the column(s) {', '.join(missing)}; a manifest has "
            f"{', '.join(COLUMNS)}, may have weight, and any label columns."
        )
    if table.empty:
        raise ManifestError(f"{path} has no rows; prepare it again from a folder with music.")
    if "weight" not in table:
        table["weight"] = 1.0
    numbers = ["duration", "start", "stop", "weight"]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    start, stop = table["start"], table["stop"]
    faults = {  # negated, because a comparison with NaN is false
        "an ID that is not unique": table["ID"].duplicated(),
        "a duration that is not a positive number": ~_positive(table["duration"]),
        "a start that is not a whole number >= 0": ~((start >= 0) & (start % 1 == 0)),
        "a stop that is not a whole number > start": ~((stop > start) & (stop % 1 == 0)),
        "a weight that is not a positive number": ~_positive(table["weight"]),
    }
    for fault, rows in faults.items():
        if rows.any():
            key = table.loc[rows.idxmax(), "ID"]
            raise ManifestError(f"{path} has {fault} at ID {key!r}; correct it or prepare again.")
    own = table["wav"].str.startswith(f"{DATA_ROOT}/")
    root = str(data_root).rstrip("/")
    table.loc[own, "wav"] = root + table.loc[own, "wav"].str.removeprefix(DATA_ROOT)
    return table.astype({"duration": float, "start": "int64", "stop": "int64", "weight": float})


def _positive(column):
    return column.between(0, float("inf"), inclusive="neither")
