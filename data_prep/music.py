"""Music to pre-train on: a folder's manifests, or composed music where there is no folder."""

import logging

from speechbrain_music.data_prep.disk import PreparationError
from speechbrain_music.data_prep.folder import prepare_folder
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import make_corpus

logger = logging.getLogger(__name__)

REPLICA = "data/replica/corpus_{:g}h"  # music composed for who has none
# What `prepare_music` takes of a recipe's yaml.
MUSIC = ("data_folder", "replica_hours", "train_csv", "valid_csv", "valid_share", "seed")


def prepare_music(
    data_folder, replica_hours, train_csv, valid_csv, valid_share, seed, own_manifests=False
):
    """Writes and reads a folder's manifests; without a folder composes music first, and says so.

    Arguments
    ---------
    data_folder : str | Path | None
        A folder of music; None for composed music.
    replica_hours : float
        Of composed music.
    train_csv, valid_csv, valid_share, seed
        As `folder.prepare_folder`.
    own_manifests : bool
        Whether the manifests are the user's: nothing is written then.

    Returns
    -------
    folder : str | Path
        Stands for `$data_root`.
    train, valid : pandas.DataFrame
        Tracks to train on, and held-out ones, as `manifest.read_manifest` gives them.

    Raises
    ------
    PreparationError
        If own manifests have no folder, or as `folder.prepare_folder`.
    ManifestError
        As `manifest.read_manifest`.

    Example
    -------
    >>> prepare_music(None, 1.0, "mine.csv", "held_out.csv", 0.1, 0, own_manifests=True)
    Traceback (most recent call last):
    ...
    speechbrain_music.data_prep.disk.PreparationError: data_folder is not set: pass what stands \
for $data_root
    """
    if own_manifests and data_folder is None:
        raise PreparationError("data_folder is not set: pass what stands for $data_root")
    if data_folder is None:
        data_folder = REPLICA.format(replica_hours)
        logger.warning(
            f"No data_folder: {replica_hours:g} hours of composed music in {data_folder} stand in"
        )
        make_corpus(data_folder, replica_hours)
    if not own_manifests:
        prepare_folder(data_folder, train_csv, valid_csv, valid_share, seed)
    return data_folder, *(read_manifest(path, data_folder) for path in (train_csv, valid_csv))
