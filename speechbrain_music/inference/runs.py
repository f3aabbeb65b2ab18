"""The encoder of a pre-training run, from its folder."""

from pathlib import Path

from hyperpyyaml import load_hyperpyyaml

from speechbrain_music.models.export import export_run
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.ssl import BestRQ
from speechbrain_music.reporting.corpora import describe_corpora
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.errors import UserError

# What a run writes into its folder.
RUN_YAML, CHECKPOINTS, EXPORT = "hyperparams.yaml", "save", "export"


def export_best(source, folder):
    """Exports the checkpoint of a run that has the least held-out loss, as the run does at its end.

    The run's yaml builds what it names: it is trusted.

    Arguments
    ---------
    source : path
        The run's folder, also while it trains.
    folder : path
        Of the export, see `save_export`.

    Returns
    -------
    int
        The checkpoint's step.

    Raises
    ------
    UserError
        If the folder is of no pre-training run, or no checkpoint was judged on held-out tracks.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     _ = Path(run, RUN_YAML).write_text("lr: 0.1")
    ...     export_best(run, "export")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: ... is no pre-training run: give a folder of \
recipes/pretrain
    """
    source = Path(source)
    try:
        with open(source / RUN_YAML, encoding="utf-8") as file:
            run = load_hyperpyyaml(file)
    except Exception as error:  # a yaml builds anything, so that it may raise anything
        raise UserError(
            f"{source / RUN_YAML} cannot be loaded ({type(error).__name__}: {error}): mend it"
        ) from error
    parts = {name: run.get(name) for name in ("model", "features")}
    if not isinstance(parts["model"], BestRQ) or not isinstance(parts["features"], LogMel):
        raise UserError(f"{source} is no pre-training run: give a folder of recipes/pretrain")
    best = None
    if (source / CHECKPOINTS).is_dir():
        best = AtomicCheckpointer(source / CHECKPOINTS, parts).recover_if_possible(min_key="loss")
    if best is None:
        raise UserError(f"{source} has no checkpoint with a held-out loss yet: train on")
    own = source / "manifests"  # where the run's folder is now; paths in the yaml may be relative
    csvs = [own / name for name in ("train.csv", "valid.csv")]
    if not all(path.is_file() for path in csvs):
        csvs = [run["train_csv"], run["valid_csv"]]
    export_run(folder, run, best.meta, **describe_corpora(*csvs, run["data_folder"]))
    return best.meta["step"]
