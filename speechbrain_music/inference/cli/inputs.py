"""Which files a command is about: files, folders, and lists of both."""

import os

from speechbrain_music.data_prep.files import find_audio, no_audio
from speechbrain_music.utils.errors import UserError

LIST = "-"


def gather(places, listed):
    """Files, each once, in the order in which they are named; a folder's by name.

    Arguments
    ---------
    places : list of str
        Files, folders (searched to the bottom, by extension), and "-" for what is listed.
    listed : iterable of str
        Files and folders, one a line.

    Returns
    -------
    paths : list of str
        Beginning as their places do.
    faults : dict
        Path of a folder or listed file that is of no use -> why.

    Raises
    ------
    UserError
        If a place does not exist, or there is no file at all.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("b.wav", "a.mp3", "notes.txt"):
    ...     (folder / name).touch()
    >>> paths, faults = gather([str(folder), str(folder / "a.mp3")], [])
    >>> [os.path.basename(path) for path in paths], faults
    (['a.mp3', 'b.wav'], {})
    """
    found, faults = {}, {}
    for place in places:
        lines = filter(None, (line.rstrip("\r\n") for line in listed)) if place == LIST else [place]
        for path in lines:
            paths = [path]
            if os.path.isdir(path):
                names, unlisted, others = find_audio(path)
                paths = [os.path.join(path, name) for name in names]
                faults |= {os.path.join(path, name): reason for name, reason in unlisted}
                if not names and not unlisted:
                    faults[path] = str(no_audio(path, others))
            elif place != LIST and not os.path.exists(path):
                raise UserError(f"{path} does not exist: give audio files, folders, or - for stdin")
            for path in paths:
                found.setdefault(os.path.abspath(path), path)
    if not found:
        first = next((f"{path}: {reason}" for path, reason in faults.items()), "the list is empty")
        raise UserError(f"there is nothing to read: {first}")
    return list(found.values()), faults
