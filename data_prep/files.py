"""A data set's files: find the folder, its audio, copies and tables; errors in one sentence."""

import codecs
import csv
import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter, defaultdict
from contextlib import suppress
from fnmatch import fnmatch
from itertools import chain, islice
from pathlib import Path, PurePath

from speechbrain_music.dataio import audio
from speechbrain_music.utils.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

EXTENSIONS = audio.AUDIO_EXTENSIONS | audio.UNSUPPORTED_EXTENSIONS
AUDIO = tuple(f"*{e}" for end in sorted(audio.AUDIO_EXTENSIONS) for e in (end, end.upper()))
ARCHIVES = ("*.tar.gz", "*.tgz", "*.tar", "*.zip", "*.tar.bz2")
CONVERTED = ("*.parquet", "*.arrow", "*.tfrecord*")
JUNK = re.compile(  # names of what systems and programs put among music
    r"\._.*|__MACOSX|@eaDir|#recycle|\$RECYCLE\.BIN|System Volume Information|"
    r"\.(AppleDouble|Trash.*|Spotlight-V100|fseventsd|TemporaryItems|thumbnails|snapshots?|"
    r"st(versions|folder)|git|hg|svn|cache|config|local|venv|ipynb_checkpoints)",
    re.IGNORECASE,
)
_LOOKED = 1000  # folders of a level that `locate` looks into for a data set
DOWNLOAD = "download it again"  # what to do about a damaged file of a published data set


class PreparationError(UserError):
    """Data that cannot be prepared; the message is one sentence with the remedy."""


def damaged(path, what, remedy=DOWNLOAD):
    """The error for a file of a data set that cannot be right."""
    return PreparationError(f"{path} {what}; {remedy}.")


def existing_folder(data_folder):
    """The folder as an absolute path, or a `PreparationError` that names the nearest one."""
    folder = Path(data_folder).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise PreparationError(f"{folder} is a file; pass the folder that holds it.")
    parent = next(p for p in folder.absolute().parents if p.is_dir())
    missing = folder.absolute().relative_to(parent).parts[0]
    hint = did_you_mean(parent / missing, f"{parent} is the last that exists.", "*/")
    raise PreparationError(f"There is no folder {folder}; {hint}")


def locate(root, title, *needs):
    """Where the parts of a data set are: for each need the first of its places, relative to `root`.

    A need is (patterns, places): one of the glob patterns must match in the place. Raises a
    `PreparationError` with the title if one is not met; it also looks two levels above and three
    below for a folder that meets all, and says what is there instead.
    """
    found = [first_place(root, *need) for need in needs]
    if None not in found:
        return found
    patterns, places = needs[found.index(None)]
    looked = " or ".join(sorted({str(PurePath(place, patterns[0])) for place in places})[:4])
    levels = (sorted(islice(root.glob("*/" * depth), _LOOKED)) for depth in (1, 2, 3))
    for folder in chain(reversed(root.parents[:2]), chain.from_iterable(levels)):
        if all(first_place(folder, *need) is not None for need in needs):
            relation = "a part of it" if folder in root.parents else f"the parent of {title}"
            raise PreparationError(
                f"{root} is not {title} ({looked} is not there); this looks like {relation}: "
                f"did you mean {folder}?"
            )
    raise PreparationError(
        f"{root} is not {title}: {looked} is not there; {describe(root)}"
        "--help shows the expected tree."
    )


def first_place(root, patterns, places):
    """The first of `places`, relative to `root`, in which a glob pattern matches, or None."""
    matches = (p for p in places if any(True for name in patterns for _ in (root / p).glob(name)))
    return next(matches, None)


def describe(root, most=100_000):
    """What a folder holds, for messages: audio, archives to unpack, copies in other formats."""
    kinds = {
        "audio files": AUDIO,
        "archives (unpack them with `tar -xf FILE` or `unzip FILE`)": ARCHIVES,
        "parts of an archive (`cat FILE.zip.* > FILE.zip`, then `unzip FILE.zip`)": ("*.zip.0*",),
        "files of a converted copy, which is not read (get the data set as published)": CONVERTED,
    }
    walked = (Path(folder, name) for folder, _, names in os.walk(root) for name in sorted(names))
    paths, said = list(islice(walked, most)), []
    for kind, patterns in kinds.items():
        found = [path for path in paths if any(fnmatch(path.name.lower(), p) for p in patterns)]
        if found:
            said.append(f"{len(found)} {kind}, for example {found[0].relative_to(root)}")
    return f"it holds {' and '.join(said)}; " if said else ""


def find_pieces(root, audio_files, names, endings=(), flat=True):
    """Where annotated pieces are: name -> its file, both relative to `root`; the name if nowhere.

    A piece is the file of that name, or else the only one of `audio_files` with its stem.
    Names match in any Unicode form, folders in any case, stems with and without one of `endings`.
    With `flat`, pieces of a folder without audio may lie in the one above.
    """

    def key(path):
        ending = next((end for end in endings if path.stem.lower().endswith(end.lower())), "")
        folder = composed(path.parent.as_posix()).casefold()
        return folder, composed(path.stem[: len(path.stem) - len(ending)])

    found = group_files(audio_files, key)
    folders = {folder for folder, _ in found}

    def find(path):
        name, (folder, stem) = path.as_posix(), key(path)
        while flat and folder not in folders and folder != ".":
            folder = str(PurePath(folder).parent)
        same = found.get((folder, stem), [])
        if not same or name in same or (root / name).is_file():
            return name
        return only_one(root, same, name)

    return {name: find(PurePath(name)) for name in names}


def composed(text):
    """A name in the Unicode form NFC: some systems store another."""
    return unicodedata.normalize("NFC", text)


def group_files(names, key):
    """Key of a path -> the names that have it; `key` is a function of a `PurePath`."""
    groups = defaultdict(list)
    for name in names:
        groups[key(PurePath(name))].append(name)
    return groups


def by_stem(root, below="", extensions=EXTENSIONS):
    """Stem -> the only file that has it, relative to `root`, anywhere in `root/below`."""
    found = group_files(find_audio(root, below, extensions)[0], lambda path: path.stem)
    return {stem: only_one(root, names, stem) for stem, names in found.items()}


def only_one(root, names, piece):
    """The only one of the files of a piece, or a `PreparationError`."""
    if len(names) > 1:
        raise PreparationError(
            f"{root} has {' and '.join(names[:3])} for the piece {piece}: remove all but one of "
            "them."
        )
    return names[0]


def find_audio(root, below="", extensions=EXTENSIONS):
    """Find audio (or other) files by extension in `root/below` and its subfolders, except `JUNK`.

    Returns their names, relative to `root` and sorted in each folder; folders that cannot be
    listed, with the reason; and a counter of the extensions of other files and of names of junk.
    """
    names, others, unlisted, seen = [], Counter(), [], set()
    top = os.path.join(root, below)
    for folder, subfolders, files in os.walk(top, onerror=unlisted.append, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link in a circle, or to a folder seen before
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        others.update(name for name in subfolders if JUNK.fullmatch(name))
        subfolders[:] = sorted(name for name in subfolders if not JUNK.fullmatch(name))
        for name in sorted(files):
            extension = os.path.splitext(name)[1].lower()
            if JUNK.fullmatch(name):
                others[name[:2]] += 1
            elif extension in extensions:
                names.append(PurePath(folder, name).relative_to(root).as_posix())
            else:
                others[extension or "no extension"] += 1
    skipped = [(os.path.relpath(error.filename, root), "cannot be listed") for error in unlisted]
    return names, skipped, others


def equal_files(root, names):
    """Name -> the first of the names, in their order, whose file has the same bytes.

    Files are compared by size, then by a block in their middle, then as a whole: few are read.
    Files that cannot be read are like no other.
    """
    first = {name: name for name in names}
    groups = [list(first)]
    for look in (os.path.getsize, _middle, _digest):
        found = defaultdict(list)
        for group in groups:
            for name in group if len(group) > 1 else ():
                with suppress(OSError):
                    found[group[0], look(os.path.join(root, name))].append(name)
        groups = found.values()
    return first | {name: group[0] for group in groups for name in group}


def _middle(path):
    with open(path, "rb") as file:
        file.seek(os.path.getsize(path) // 2)
        return file.read(4096)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").digest()


def no_audio(root, others):
    """The error for a folder in which `find_audio` found only `others`."""
    found = ", ".join(f"{ext} ({n})" for ext, n in others.most_common(8)) or "no files at all"
    return PreparationError(
        f"{root} holds no audio: looked for {' '.join(sorted(audio.AUDIO_EXTENSIONS))}, "
        f"found {found}; pass the folder that holds the music."
    )


def read_table(
    path, columns, delimiter=",", quoting=csv.QUOTE_MINIMAL, header_rows=1, remedy=DOWNLOAD
):
    """Yield each row of an annotation table as a dict: column -> cell without outer white space.

    A column of several header rows is named by their cells, joined by spaces; without a header row
    `columns` are the first ones.
    Line ends of any kind, line breaks in quotes and a byte order mark are accepted; so are latin-1
    and another delimiter (comma, tab or semicolon), which are logged. Raises a `PreparationError`
    that ends in `remedy` if the file or one of `columns` is missing, a column is there twice, a
    row is short, as in a file that was cut off, or long, as with an unquoted comma. In a table
    without quoting rows may be long, as with the tags of MTG-Jamendo: the last column has the rest
    of the row, with its delimiters.
    """
    if not Path(path).is_file():
        raise damaged(path, "does not exist", remedy)
    csv.field_size_limit(2**31 - 1)  # biographies are longer than the default
    encoding = _encoding(path)
    with open(path, newline="", encoding=encoding) as file:
        found = _delimiter(file, columns, delimiter) if header_rows == 1 else delimiter
        if found != delimiter:
            logger.info("%s is separated by %r, not %r", path, found, delimiter)
            delimiter, quoting = found, csv.QUOTE_MINIMAL
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting)
        try:
            heads = [next(rows, []) for _ in range(header_rows)]
            names = [" ".join(cells).strip() for cells in zip(*heads, strict=False)]
            header = names if header_rows else columns
            lacking = [name for name in columns if name not in header]
            if lacking:
                what = f"lacks the column(s) {', '.join(lacking)}, it has {', '.join(header)[:200]}"
                raise damaged(path, what, f"complete it or {remedy}")
            if twice := [name for name in columns if header.count(name) > 1]:
                raise damaged(path, f"has two columns {twice[0]!r}", remedy)
            for row in filter(None, rows):
                where = f"line {rows.line_num} ({len(row)} cells for {len(header)} columns)"
                if len(row) < len(header):
                    raise damaged(path, f"is cut off at {where}", remedy)
                if any(row[len(header) :]) and quoting != csv.QUOTE_NONE:
                    raise PreparationError(
                        f"{path} has too many cells at {where}: put a cell with {delimiter!r} in "
                        f"double quotes, or {remedy}."
                    )
                if delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in row):
                    what = f"has an unclosed quotation mark some lines before {rows.line_num}"
                    raise damaged(path, what, f"fix it or {remedy}")
                if quoting == csv.QUOTE_NONE:
                    row[len(header) - 1 :] = [delimiter.join(row[len(header) - 1 :])]
                yield {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        except (UnicodeDecodeError, csv.Error) as error:
            raise damaged(path, f"is damaged ({error})", remedy) from error


def _encoding(path):
    """UTF-8, UTF-16 if the file begins with its byte order mark, else latin-1, which is logged."""
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
    try:
        with open(path, encoding="utf-8") as file:
            for _ in file:
                pass
    except UnicodeDecodeError:
        logger.warning("%s is not UTF-8: read as latin-1", path)
        return "latin-1"
    return "utf-8-sig"


def _delimiter(file, columns, expected):
    """The delimiter that gives the first line all columns; the expected one if none does."""
    line = file.readline()
    file.seek(0)
    for delimiter in (expected, ",", "\t", ";"):
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if set(columns) <= {cell.strip() for cell in cells}:
            return delimiter
    return expected


def check_output(*files):
    """Raise a `PreparationError` for files that cannot be written; call it before a long scan."""
    for path in map(Path, files):
        place = next(p for p in path.absolute().parents if p.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise PreparationError(f"{path} cannot be written; choose another folder for it.")
