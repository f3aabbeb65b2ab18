"""Loading a model, as several commands do."""

from pathlib import Path


def load_model(source, device=None):
    """A `MusicEncoder` from a folder or a hub id, with a hint if the folder is a run's.

    Raises UserError for what is no export.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "hyperparams.yaml").touch()
    ...     load_model(folder)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: ... is the folder of a run, not an export: make one \
with `sbmusic export ...`
    """
    from speechbrain_music.inference.encoder import MusicEncoder
    from speechbrain_music.inference.runs import EXPORT, RUN_YAML
    from speechbrain_music.models.safe_folder import CONFIG
    from speechbrain_music.utils.errors import UserError

    folder = Path(source)
    if (folder / RUN_YAML).is_file() and not (folder / CONFIG).exists():
        inside = folder / EXPORT
        remedy = f"give {inside}" if inside.is_dir() else f"make one with `sbmusic export {folder}`"
        raise UserError(f"{folder} is the folder of a run, not an export: {remedy}")
    return MusicEncoder.from_export(source, device=device)
