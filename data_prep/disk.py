"""What lies on disk: where a data set is, which audio it has, its tables; errors in a sentence."""

import csv
import difflib
import functools
import os
from collections import Counter
from pathlib import Path, PurePath

from speechbrain_music.dataio import audio
from speechbrain_music.utils.errors import UserError


class PreparationError(UserError):
    """Data that cannot be prepared. The message is one sentence with the remedy.

    Example
    -------
    >>> from speechbrain_music.data_prep.shards import pack
    >>> pack(["train.csv"], "/my/music", "shards", shard_mb=0)
    Traceback (most recent call last):
    ...
    speechbrain_music.data_prep.disk.PreparationError: shard_mb is 0; it must be above 0.
    """


def as_user_error(prepare):
    """Makes a preparation say in a sentence what the disk or a damaged text file did to it.

    An `OSError`, `UnicodeDecodeError` or `csv.Error` becomes a `PreparationError`.

    Example
    -------
    >>> try:
    ...     as_user_error(open)("/nowhere/tracks.csv")
    ... except PreparationError as error:
    ...     print(str(error).partition(";")[0])
    /nowhere/tracks.csv cannot be read or written (No such file or directory)
    """

    @functools.wraps(prepare)
    def guarded(*args, **kwargs):
        try:
            return prepare(*args, **kwargs)
        except OSError as error:
            raise PreparationError(
                f"{error.filename or 'A file'} cannot be read or written "
                f"({error.strerror or error}); check the disk, its room and its permissions, then "
                "give the same command again."
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise PreparationError(f"An annotation file is damaged ({error}).") from error

    return guarded


def existing_folder(data_folder):
    """The folder as an absolute path, or a `PreparationError` that names the nearest one.

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "music").mkdir()
    >>> try:
    ...     existing_folder(root / "musik")
    ... except PreparationError as error:
    ...     print(str(error).replace(str(root), "/data"))
    There is no folder /data/musik; did you mean /data/music?
    """
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

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> (root / "Data" / "genres_original" / "blues").mkdir(parents=True)
    >>> locate(root, "GTZAN", "blues", ("genres", "Data/genres_original"))
    'Data/genres_original'
    """

    def holds(folder):
        return next(folder.glob(marker), None) is not None

    for place in places:
        if holds(root / place):
            return place
    looked = " or ".join(sorted(str(PurePath(place, marker)) for place in places))
    for above in reversed(root.parents[:2]):
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

    Example
    -------
    >>> root = getfixture("tmp_path")
    >>> for name in ("b.mp3", "a.WAV", ".hidden.wav", "cover.jpg"):
    ...     (root / name).touch()
    >>> find_audio(root)
    (['a.WAV', 'b.mp3'], [], Counter({'.jpg': 1}))
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
            if extension in audio.AUDIO_EXTENSIONS or extension in audio.UNSUPPORTED_EXTENSIONS:
                names.append(PurePath(folder, name).relative_to(root).as_posix())
            else:
                others[extension or "no extension"] += 1
    skipped = [(os.path.relpath(error.filename, root), "cannot be listed") for error in unlisted]
    return names, skipped, others


def no_audio(root, others):
    """The error for a folder where `find_audio` found none but `others`.

    Example
    -------
    >>> error = no_audio("/my/scores", Counter({".txt": 1, ".pdf": 30}))
    >>> str(error).partition(", ")[2]
    'found .pdf (30), .txt (1); give the folder that holds the music.'
    """
    found = ", ".join(f"{ext} ({n})" for ext, n in others.most_common(8)) or "no files at all"
    return PreparationError(
        f"{root} holds no audio: looked for {' '.join(sorted(audio.AUDIO_EXTENSIONS))}, "
        f"found {found}; give the folder that holds the music."
    )


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
        try:
            header = [name.strip() for name in next(rows, [])]
            lacking = [name for name in columns if name not in header]
            if lacking:
                raise PreparationError(
                    f"{path} lacks the column(s) {', '.join(lacking)}; fetch it again."
                )
            for row in filter(None, rows):
                if len(row) < len(header):
                    raise PreparationError(
                        f"{path} ends or breaks off at line {rows.line_num}; fetch it again."
                    )
                if delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in row):
                    raise PreparationError(
                        f"{path} has a quotation mark without its fellow some lines before "
                        f"{rows.line_num}; correct it or fetch it again."
                    )
                yield {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        except (UnicodeDecodeError, csv.Error) as error:
            raise PreparationError(f"{path} is damaged ({error}); fetch it again.") from error


def check_output(*files):
    """Refuses a place that cannot be written to; said before a scan that may take an hour.

    Raises a `PreparationError`.

    Example
    -------
    >>> try:
    ...     check_output("/dev/null/train.csv")
    ... except PreparationError as error:
    ...     print(error)
    /dev/null/train.csv cannot be written; choose another folder for it.
    """
    for path in map(Path, files):
        place = next(p for p in path.absolute().parents if p.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise PreparationError(f"{path} cannot be written; choose another folder for it.")
