"""What several commands need: loading a model, naming it."""

from pathlib import Path


def load_model(source, device=None):
    """A `MusicEncoder` from a folder or a hub id, with a hint if the folder is a run's."""
    from speechbrain_music.inference.encoder import MusicEncoder
    from speechbrain_music.utils.errors import UserError

    folder = Path(source)
    if (folder / "hyperparams.yaml").is_file() and not (folder / "config.json").exists():
        inside = folder / "export"
        remedy = f"give {inside}" if inside.is_dir() else f"make one with `sbmusic export {folder}`"
        raise UserError(f"{folder} is the folder of a run, not an export: {remedy}")
    return MusicEncoder.from_export(source, device=device)
