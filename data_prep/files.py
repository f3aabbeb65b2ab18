"""A data set's files: find the folder, its audio and its tables; errors in one sentence."""

import csv
import functools
import os
from collections import Counter
from pathlib import Path, PurePath

from speechbrain_music.dataio import audio
from speechbrain_music.utils.errors import UserError, did_you_mean


class PreparationError(UserError):
    """Data that cannot be prepared; the message is one sentence with the remedy."""


def as_user_error(prepare):
    """Turn an `OSError` or a damaged text file inside a preparation into a `PreparationError`."""

    @functools.wraps(prepare)
    def guarded(*args, **kwargs):
        try:
            return prepare(*args, **kwargs)
        except OSError as error:
            raise PreparationError(
                f"{error.filename or 'A file'} cannot be read or written "
                f"({error.strerror or error}); check the disk, its free space and its "
                "permissions, then run the same command again."
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise PreparationError(
                f"An annotation file is damaged ({error}); download it again."
            ) from error

    return guarded


def existing_folder(data_folder):
    """The folder as an absolute path, or a `PreparationError` that names the nearest one."""
    folder = Path(data_folder)
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise PreparationError(f"{folder} is a file; pass the folder that holds it.")
    parent = next(p for p in folder.absolute().parents if p.is_dir())
    missing = folder.absolute().relative_to(parent).parts[0]
    siblings = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    hint = did_you_mean(parent / missing, siblings, f"{parent} is the last that exists.")
    raise PreparationError(f"There is no folder {folder}; {hint}")


def locate(root, title, marker, places=("",)):
    """The first of `places`, relative to `root`, in which the glob pattern `marker` matches.

    Raises a `PreparationError` with the title if none does; it also looks two levels above and
    three below, and names the folder that was probably meant.
    """

    def holds(folder):
        return next(folder.glob(marker), None) is not None

    for place in places:
        if holds(root / place):
            return place
    looked = " or ".join(sorted(str(PurePath(place, marker)) for place in places))
    for relation, folders in (
        ("a part of it", reversed(root.parents[:2])),
        (f"the parent of {title}", _folders_below(root, 3)),
    ):
        for folder in folders:
            if any(holds(folder / place) for place in places):
                raise PreparationError(
                    f"{root} is not {title} ({looked} is not there); this looks like {relation}: "
                    f"did you mean {folder}?"
                )
    raise PreparationError(
        f"{root} is not {title}: {looked} is not there; --help shows the expected tree."
    )


def _folders_below(root, levels, most=1000):
    """Folders below one, the nearest first."""
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
    """Find audio files by extension in `root/below` and its subfolders, except hidden ones.

    Returns their names, relative to `root` and sorted in each folder; folders that cannot be
    listed, with the reason; and a counter of the extensions of other files.
    """
    names, others, unlisted, seen = [], Counter(), [], set()
    top = os.path.join(root, below)
    for folder, subfolders, files in os.walk(top, onerror=unlisted.append, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link in a circle, or to a folder seen before
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
    """The error for a folder in which `find_audio` found only `others`."""
    found = ", ".join(f"{ext} ({n})" for ext, n in others.most_common(8)) or "no files at all"
    return PreparationError(
        f"{root} holds no audio: looked for {' '.join(sorted(audio.AUDIO_EXTENSIONS))}, "
        f"found {found}; pass the folder that holds the music."
    )


def read_table(path, columns, delimiter=",", quoting=csv.QUOTE_MINIMAL, header_rows=1):
    """Yield each row of an annotation table as a dict: column -> cell without outer white space.

    A column of several header rows is named by their cells, joined by spaces.
    Line ends of any kind, line breaks in quotes and a byte order mark are accepted. Raises a
    `PreparationError` if the file or one of `columns` is missing, or a row is short, as in a
    file that was cut off.
    """
    if not Path(path).is_file():
        raise PreparationError(f"{path} does not exist; complete the data set's annotations.")
    csv.field_size_limit(2**31 - 1)  # biographies are longer than the default
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting)
        try:
            heads = [next(rows, []) for _ in range(header_rows)]
            header = [" ".join(cells).strip() for cells in zip(*heads, strict=False)]
            lacking = [name for name in columns if name not in header]
            if lacking:
                raise PreparationError(
                    f"{path} lacks the column(s) {', '.join(lacking)}, it has "
                    f"{', '.join(header)[:200]}; complete it or download it again."
                )
            for row in filter(None, rows):
                if len(row) < len(header):
                    raise PreparationError(
                        f"{path} is cut off at line {rows.line_num}; download it again."
                    )
                if delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in row):
                    raise PreparationError(
                        f"{path} has an unclosed quotation mark some lines before "
                        f"{rows.line_num}; fix it or download the file again."
                    )
                yield {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        except (UnicodeDecodeError, csv.Error) as error:
            raise PreparationError(f"{path} is damaged ({error}); download it again.") from error


def check_output(*files):
    """Raise a `PreparationError` for files that cannot be written; call it before a long scan."""
    for path in map(Path, files):
        place = next(p for p in path.absolute().parents if p.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise PreparationError(f"{path} cannot be written; choose another folder for it.")
