"""Make a smaller or faster export of an export.

sbmusic compress results/brn_sum/1234/export --method int8 --out brn_sum-int8
sbmusic compress --method layers:2 --out small    # of the small encoder that this package ships

int8: weights of linear layers in 8 bits, a quarter of the bytes, faster on CPUs with int8
instructions (AVX-512 VNNI). bf16: weights in bfloat16, half of the bytes, computed in float32.
layers:K: the first K blocks. prune:SHARE: narrower blocks. The result has a card (README.md).
"""

import shlex
from pathlib import Path

from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError


def run(args):
    """Write the compressed export and its card."""
    from speechbrain_music.data_prep.files import check_output
    from speechbrain_music.inference.hub import find_export
    from speechbrain_music.models.compression import compress
    from speechbrain_music.models.export import load_export, save_export
    from speechbrain_music.models.frozen import ExportEncoder
    from speechbrain_music.reporting.model_card import model_card

    if args.out.exists():
        raise UserError(f"out is {args.out}, which exists: choose a new folder")
    check_output(args.out)
    model = load_export(find_export(args.export), classes=args.classes)
    encoder = compress(model, args.method)
    names = [Path(args.export).resolve().name] if args.export else []
    command = ["sbmusic", "compress", *names, "--method", args.method, "--out", args.out.name]
    source = ExportEncoder(model, "").identity
    done = f"{args.method}, by `{shlex.join(command)}`, of the encoder with fingerprint {source}"
    training = model.config["training"]  # an export may say anything
    known = training if isinstance(training, dict) else {}
    save_export(args.out, encoder, model.features, **known | {"compression": done})
    card = model_card(args.out, f"USER/{args.out.resolve().name}", classes=args.classes)
    write_together({args.out / "README.md": card})
