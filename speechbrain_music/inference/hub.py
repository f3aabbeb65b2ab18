"""Find exports: a local folder, the shipped one, or a model on the Hugging Face hub."""

import re
from pathlib import Path
from textwrap import shorten

from speechbrain_music.models.export import NAMED, SHIPPED
from speechbrain_music.models.safe_folder import CONFIG, WEIGHTS
from speechbrain_music.utils.errors import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def find_export(source=None, revision=None):
    """Return the folder of an export: `source` itself, or the hub's cache after a download.

    None, or "shipped", is the small encoder that this package ships. Only if no such path exists is
    `source` a hub id such as "user/name", with a branch, tag or commit as `revision`; the
    configuration and the weights alone are downloaded.
    """
    folder = SHIPPED if source is None else Path(NAMED.get(source, source))
    if folder.exists():
        if revision is not None:
            raise UserError(f"revision is {revision!r}, but {source} is a folder: leave it out")
        return folder
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise UserError(
            f"{source} is neither the folder of an export nor a hub id such as user/name: check "
            "the name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # the hub's, its HTTP library's or the network's
        fault = shorten(f"{type(error).__name__}: {error}", 300)
        raise UserError(
            f"{source} is no folder, and could not be downloaded from the Hugging Face hub "
            f"({fault}): check the name, the revision, the network, and for a private model your "
            "login"
        ) from error
