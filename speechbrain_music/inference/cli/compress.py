"""The command `sbmusic compress`."""

import shlex
from pathlib import Path

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.inference.hub import find_export
from speechbrain_music.models.compression import compress
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frozen import ExportEncoder
from speechbrain_music.reporting.model_card import model_card
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, escaped


def run(args):
    """Write the compressed export and its card."""
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
    print(f"wrote {escaped(args.out)}")
