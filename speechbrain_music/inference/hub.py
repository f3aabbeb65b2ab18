"""Find exports: a local folder, or a model on the Hugging Face hub; upload one to the hub."""

import re
from pathlib import Path
from textwrap import shorten

from speechbrain_music.models.safe_folder import CONFIG, WEIGHTS, ExportError
from speechbrain_music.utils.errors import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def find_export(source, revision=None):
    """Return the folder of an export: `source` itself, or the hub's cache after a download.

    Only if no such path exists is `source` a hub id such as "user/name", with a branch, tag or
    commit as `revision`; the configuration and the weights alone are downloaded.
    """
    folder = Path(source)
    if folder.exists():
        if revision is not None:
            raise ExportError(f"revision is {revision!r}, but {source} is a folder: leave it out")
        return folder
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise ExportError(
            f"{source} is neither the folder of an export nor a hub id such as user/name: check "
            "the name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # the hub's, its HTTP library's or the network's
        fault = shorten(f"{type(error).__name__}: {error}", 300)
        raise ExportError(
            f"{source} is no folder, and could not be downloaded from the Hugging Face hub "
            f"({fault}): check the name, the revision, the network, and for a private model your "
            "login"
        ) from error


def upload_export(folder, hub_id, card, private=False):
    """Upload an export's two files and its card (text) in one commit; return the address.

    The repository is created if it does not exist. Raises a UserError if the hub refuses or cannot
    be reached, and if a repository that should be private is public.
    """
    import huggingface_hub as hub

    api = hub.HfApi()
    files = {name: Path(folder) / name for name in (CONFIG, WEIGHTS)}
    files["README.md"] = card.encode()
    additions = [
        hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
        for name, content in files.items()
    ]
    try:
        address = api.create_repo(hub_id, private=private or None, exist_ok=True)
        is_public = private and not api.repo_info(hub_id).private
        if not is_public:
            api.create_commit(hub_id, additions, commit_message="Encoder from speechbrain_music")
    except Exception as error:  # the hub's, its HTTP library's or the network's
        fault = shorten(f"{type(error).__name__}: {error}", 300)
        raise UserError(
            f"{hub_id} was not uploaded ({fault}): check the network, log in with `hf auth login`, "
            "and check that the name is yours"
        ) from error
    if is_public:
        raise UserError(f"{hub_id} already exists and is public: choose another name")
    return address
