"""Make a smaller or faster export of an export.

sbmusic compress results/brn_sum/1234/export --method int8 --out brn_sum-int8
sbmusic compress USER/NAME --method layers:6 --out first_six
sbmusic compress --method bf16 --out small    # the small encoder that this package ships

Methods:
  int8      weights of linear layers in 8 bits: a quarter of the bytes, faster on CPUs with int8
            instructions (AVX-512 VNNI)
  bf16      all weights in bfloat16: half of the bytes, computed in float32
  layers:K  the front-end and the first K blocks

The result is an export with a model card (README.md), for all commands that take one; int8 cannot
become ONNX, be trained, or be computed in half precision.
"""

import shlex
from pathlib import Path

from speechbrain_music.inference.cli.embed import add_classes
from speechbrain_music.utils.errors import UserError


def add_arguments(parser):
    """Add the options of `sbmusic compress`."""
    parser.add_argument(
        "export", nargs="?", metavar="EXPORT", help="folder of an export, or its hub id"
    )
    parser.add_argument("--method", required=True, help="int8, bf16 or layers:K")
    parser.add_argument("--out", required=True, type=Path, help="new folder for the result")
    add_classes(parser)


def run(args):
    """Write the compressed export and its card."""
    from speechbrain_music.data_prep.files import check_output
    from speechbrain_music.inference.hub import find_export
    from speechbrain_music.models.compression import compress, compression_metadata
    from speechbrain_music.models.export import load_export, save_export
    from speechbrain_music.models.safe_folder import CARD, WEIGHTS
    from speechbrain_music.reporting.model_card import model_card
    from speechbrain_music.utils.atomic import write_together

    if args.out.exists():
        raise UserError(f"out is {args.out}, which exists: choose a new folder")
    check_output(args.out)
    source = find_export(args.export)
    model = load_export(source, classes=args.classes)
    encoder = compress(model, args.method)
    names = [Path(args.export).resolve().name] if args.export else []
    command = ["sbmusic", "compress", *names, "--method", args.method, "--out", args.out.name]
    metadata = compression_metadata(model, args.method, shlex.join(command))
    save_export(args.out, encoder, model.features, **metadata)
    card = model_card(args.out, f"USER/{args.out.resolve().name}", classes=args.classes)
    write_together({args.out / CARD: card})
    before, after = ((folder / WEIGHTS).stat().st_size for folder in (source, args.out))
    print(f"{args.out}: {after:,} bytes of weights, {after / before:.1%} of {before:,}")
