"""An export from a run's folder, or an ONNX file from an export.

sbmusic export results/brn_sum/1234
sbmusic export results/brn_sum/1234/export --onnx brn_sum.onnx

Of a run, the checkpoint with the least held-out loss is taken, also while it is still training.
The run's hyperparams.yaml builds what it names: export runs that you trust.
"""

from pathlib import Path


def add_arguments(parser):
    """The options of `sbmusic export`.

    Example
    -------
    >>> from argparse import ArgumentParser
    >>> add_arguments(parser := ArgumentParser())
    >>> parser.parse_args(["results/mine/export", "--onnx", "mine.onnx"]).onnx.name
    'mine.onnx'
    """
    parser.add_argument("source", metavar="RUN_OR_EXPORT", type=Path, help="folder of either")
    parser.add_argument("--out", type=Path, help="folder of the export (default: RUN/export)")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="also write an ONNX file")


def run(args):
    """Writes an export, an ONNX file, or both.

    Example
    -------
    >>> from argparse import Namespace
    >>> run(Namespace(source=Path("results/mine"), out=None, onnx=None))
    Traceback (most recent call last):
    ...
    speechbrain_music.utils.errors.UserError: results/mine is no pre-training run (it has no \
hyperparams.yaml): give a run's folder, or an export and --onnx FILE
    """
    from speechbrain_music.data_prep.files import check_output
    from speechbrain_music.inference.hub import find_export
    from speechbrain_music.inference.runs import EXPORT, RUN_YAML, export_best
    from speechbrain_music.models.export import load_export
    from speechbrain_music.utils.errors import UserError

    is_run = (args.source / RUN_YAML).is_file()
    if not is_run and (args.out or not args.onnx):
        raise UserError(
            f"{args.source} is no pre-training run (it has no {RUN_YAML}): give a run's folder, or "
            "an export and --onnx FILE"
        )
    folder = (args.out or args.source / EXPORT) if is_run else args.source
    check_output(*filter(None, (folder, args.onnx)))
    if is_run:
        step = export_best(args.source, folder)
        print(f"{folder}: the encoder of step {step}")
    if args.onnx:
        from speechbrain_music.models.onnx import export_onnx

        export_onnx(load_export(find_export(str(folder))), args.onnx)
        print(f"{args.onnx}: normalised log-mel (1, 128, 4 T) to hidden states")
