"""The command `sbmusic export`."""

from pathlib import Path

from hyperpyyaml import load_hyperpyyaml

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.inference.encoder import MusicEncoder
from speechbrain_music.models.encoder import Encoder
from speechbrain_music.models.export import save_export
from speechbrain_music.models.frontend import LogMel
from speechbrain_music.models.onnx import export_onnx
from speechbrain_music.models.safe_folder import RUN_RESULT, RUN_YAML
from speechbrain_music.reporting.corpora import describe_run
from speechbrain_music.utils.checkpoints import AtomicCheckpointer
from speechbrain_music.utils.errors import UserError


def run(args):
    """Write an export, an ONNX file, or both."""
    is_run = (args.source / RUN_YAML).is_file()
    if not is_run and (args.out or not args.onnx):
        raise UserError(
            f"{args.source} is not a pre-training run (it has no {RUN_YAML}): give a run's folder, "
            "or an export and --onnx FILE"
        )
    if args.onnx and args.onnx.suffix != ".onnx":
        raise UserError(f"onnx is {args.onnx}: it must end in .onnx")
    folder = (args.out or args.source / RUN_RESULT) if is_run else args.source
    check_output(*filter(None, (folder, args.onnx)))
    if is_run:
        step = export_best(args.source, folder)
        print(f"{folder}: the encoder of step {step}")
    if args.onnx:
        encoder = MusicEncoder.from_export(folder if folder.exists() else str(folder), "cpu")
        chosen, _ = encoder.choose_layers(args.layer, args.pool)
        export_onnx(encoder.model, args.onnx, args.input, chosen, args.pool)
        made = "hidden states" if args.pool == "none" else "embeddings"
        print(f"{args.onnx}: {args.input} to {made}")


def export_best(source, folder):
    """Export a run's checkpoint of the lowest held-out loss to a folder; return its step.

    The run may still be training. Its yaml builds any object: it must be trusted.
    """
    source = Path(source)
    try:
        with open(source / RUN_YAML, encoding="utf-8") as file:
            run = load_hyperpyyaml(file)
    except Exception as error:  # a yaml builds any object, so it may raise any error
        raise UserError(
            f"{source / RUN_YAML} cannot be loaded ({type(error).__name__}: {error}): fix it"
        ) from error
    parts = {name: run.get(name) for name in ("model", "features")}
    if not isinstance(run.get("encoder"), Encoder) or not isinstance(parts["features"], LogMel):
        raise UserError(f"{source} is not a pre-training run: give a folder of recipes/pretrain")
    best, checkpoints = None, source / "save"
    if checkpoints.is_dir():
        best = AtomicCheckpointer(checkpoints, parts).recover_if_possible(min_key="loss")
    if best is None:
        raise UserError(f"{source} has no checkpoint with a held-out loss yet: train on")
    manifests = source / "manifests"  # in the run's folder now; the yaml's paths may be relative
    csvs = [manifests / name for name in ("train.csv", "valid.csv")]
    if not all(path.is_file() for path in csvs):
        csvs = [run["train_csv"], run["valid_csv"]]
    training = describe_run(run, best.meta, *csvs)
    save_export(folder, run["encoder"], parts["features"], **training)
    return best.meta["step"]
