"""Exports that live on the Hugging Face hub."""

import re
from pathlib import Path
from textwrap import shorten

from speechbrain_music.models.export import ExportError
from speechbrain_music.models.safe_folder import CONFIG, WEIGHTS

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def find_export(source, revision=None):
    """The folder of an export: the one that is named, or one fetched into the hub's cache.

    Arguments
    ---------
    source : str | Path
        A folder, or, if there is none of this name, a hub id such as "user/name", of which two
        files are fetched: the configuration and the weights.
    revision : str, optional
        Branch, tag or commit on the hub.

    Returns
    -------
    Path

    Raises
    ------
    ExportError
        If there is no such folder, and the hub has no such model or cannot be reached.

    Example
    -------
    >>> find_export(getfixture("tmp_path")) == getfixture("tmp_path")
    True
    """
    if Path(source).exists():
        if revision is not None:
            raise ExportError(f"revision is {revision!r}, but {source} is a folder: leave it out")
        return Path(source)
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise ExportError(
            f"{source} is no folder of an export, nor a hub id such as user/name: check its name"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(source, revision=revision, allow_patterns=[CONFIG, WEIGHTS])
    except Exception as error:  # of the hub's, of its HTTP library's, of the network's
        fault = shorten(f"{type(error).__name__}: {error}", 300)
        raise ExportError(
            f"{source} is no folder, and could not be fetched from the Hugging Face hub ({fault}): "
            "check the name, the revision, the network, and for a private model your login"
        ) from error
    return Path(folder)
