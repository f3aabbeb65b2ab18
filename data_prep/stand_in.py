"""A task's data: the data set if there is one, else its replica."""

import logging
from pathlib import Path

from speechbrain_music.data_prep.disk import PreparationError
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.preparation import SPLITS
from speechbrain_music.data_prep.replica.trees import make_replica

logger = logging.getLogger(__name__)

REPLICA = "data/replica/{}_{:g}"  # data set, scale


def prepare_or_synthesize(data_set, prepare, data_folder, out, replica_scale, **options):
    """Prepares a data set, or where there is none, a replica, made once and said plainly.

    Arguments
    ---------
    data_set : str | None
        Of the replica, a name of `replica.trees.NAMES`; None if there is no replica.
    prepare : callable
        `prepare(data_folder, out, **options)`, as the data sets' modules have it.
    data_folder : str | Path | None
        Where the data are; None for the replica.
    out : str | Path
        Where the manifests go.
    replica_scale : float
        Share of the published counts.
    **options
        For `prepare`.

    Returns
    -------
    report : dict
        The preparation's.
    tables : dict
        Split -> manifest as `manifest.read_manifest` gives it.

    Raises
    ------
    PreparationError
        If there is neither a folder nor a replica, or as `prepare`.

    Example
    -------
    >>> from speechbrain_music.data_prep.table import prepare_table
    >>> prepare_or_synthesize(None, prepare_table, None, "manifests", 0.1, labels=["quality"])
    Traceback (most recent call last):
    ...
    speechbrain_music.data_prep.disk.PreparationError: data_folder is not set: pass --data_folder
    """
    if data_folder is None and data_set is None:
        raise PreparationError("data_folder is not set: pass --data_folder")
    if data_folder is None:
        data_folder = Path(REPLICA.format(data_set, replica_scale))
        logger.warning(
            f"No data_folder: a replica of {data_set} in {data_folder}, music composed by a "
            "program, stands in; its figures say nothing about recorded music"
        )
        make_replica(data_set, data_folder, replica_scale)
    report = prepare(data_folder, out, **options)
    tables = {s: read_manifest(Path(out, f"{s}.csv"), data_folder) for s in SPLITS}
    return report, tables
