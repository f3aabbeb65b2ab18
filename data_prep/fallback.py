"""Data of the user, or without a data folder a composed replica, announced and made once."""

import logging
import os
from pathlib import Path

from speechbrain_music.data_prep import output
from speechbrain_music.data_prep.data_set import SPLITS, check_option
from speechbrain_music.data_prep.files import PreparationError, existing_folder
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.registry import DATA_SETS
from speechbrain_music.data_prep.replica.corpus import make_corpus
from speechbrain_music.data_prep.replica.synth import SOUNDFONT
from speechbrain_music.data_prep.replica.trees import NAMES, make_replica

logger = logging.getLogger(__name__)

REPLICA_FOLDER = "data/replica/{}_{:g}"  # data set, scale
MUSIC_FOLDER = "data/replica/corpus_{:g}h"  # hours


def prepare_or_synthesize(data_set, data_folder, out, replica_scale=None, **options):
    """Prepare a task's data set, or its replica of that scale if there is no data folder.

    `data_set` is a name in `registry.DATA_SETS`, or a function `prepare(data_folder, out,
    **options)`, for which there is no replica. Returns the report, and split -> manifest, see
    `manifest.read_manifest`.
    """
    prepare = data_set
    if not callable(data_set):
        check_option("data_set", data_set, DATA_SETS)
        prepare = DATA_SETS[data_set].prepare
    if data_folder is None:
        if data_set not in NAMES:
            raise PreparationError("data_folder is not set: pass --data_folder")
        data_folder = Path(REPLICA_FOLDER.format(data_set, replica_scale))
        if bank := os.environ.get(SOUNDFONT):
            data_folder = data_folder.with_name(f"{data_folder.name}_{Path(bank).stem}")
        logger.warning(
            f"No data_folder: using a replica of {data_set} in {data_folder}, music composed by "
            "a program; its figures say nothing about recorded music"
        )
        make_replica(data_set, data_folder, replica_scale)
    report = prepare(data_folder, out, **options)
    tables = {s: read_manifest(Path(out, f"{s}.csv"), data_folder) for s in SPLITS}
    return report, tables


def prepare_music(hparams, own_manifests):
    """Prepare a folder of music to pre-train on, or `replica_hours` of composed music without one.

    `hparams` are a recipe's; `valid_share` and `seed` are options of the data set `folder`, whose
    manifests are written to the folder of `train_csv`. With `own_manifests` the CSV files are the
    user's and nothing is written. Returns the folder that `$data_root` stands for, and the
    manifests to train on and to validate with as `manifest.read_manifest` does.
    """
    data_folder, train_csv = hparams["data_folder"], hparams["train_csv"]
    if own_manifests and data_folder is None:
        raise PreparationError("data_folder is not set: pass the folder that $data_root stands for")
    if data_folder is None:
        hours = hparams["replica_hours"]
        data_folder = MUSIC_FOLDER.format(hours)
        logger.warning(f"No data_folder: using {hours:g} hours of composed music in {data_folder}")
        make_corpus(data_folder, hours)
    if not own_manifests:
        options = {name: hparams[name] for name in ("valid_share", "seed")}
        prepare_once(data_folder, Path(train_csv).parent, **options)
    tables = (read_manifest(path, data_folder) for path in (train_csv, hparams["valid_csv"]))
    return data_folder, *tables


def prepare_once(data_folder, out, **settings):
    """Prepare a folder of music; manifests of it that exist stay, as for a run that resumes."""
    folder, report_json = DATA_SETS["folder"], out / "report.json"
    if not all((out / name).exists() for name in ("train.csv", "valid.csv", "report.json")):
        return folder.prepare(data_folder, out, **settings)
    report = output.refuse_other_source(report_json, existing_folder(data_folder), folder.title)
    if changed := [key for key in settings if report["settings"].get(key) != settings[key]]:
        logger.warning(
            "Kept the manifests in %s, made with another %s; delete them to renew them.",
            out,
            ", ".join(changed),
        )
    output.log_report(report)
    return report
