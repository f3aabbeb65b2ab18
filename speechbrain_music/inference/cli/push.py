"""Upload an export to the Hugging Face hub, with a model card.

sbmusic push results/brn_sum/1234/export USER/NAME --licence cc-by-4.0 \\
    --results results/*/brn_sum/results.json
sbmusic push results/brn_sum/1234/export USER/NAME --dry_run        # prints the card
sbmusic push results/brn_sum/1234/export USER/NAME --dry_run FOLDER # writes it there

The card lists the configuration, corpora, hours, steps, results of tasks with intervals (those on
composed music in a table of their own), licence, limits and usage. Log in first: `hf auth login`.
"""

from pathlib import Path


def add_arguments(parser):
    """Add the options of `sbmusic push`."""
    parser.add_argument("export", metavar="EXPORT", type=Path, help="folder of the export")
    parser.add_argument("hub_id", metavar="HUB_ID", help="USER/NAME on the hub")
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="results.json of tasks on which this export was evaluated",
    )
    parser.add_argument(
        "--licence", "--license", metavar="ID", help="of the weights, such as cc-by-4.0"
    )
    parser.add_argument("--private", action="store_true", help="visible only to you")
    parser.add_argument(
        "--dry_run",
        nargs="?",
        const="-",
        metavar="FOLDER",
        help="print the card, or write it to a folder; nothing is uploaded",
    )


def run(args):
    """Upload the export's two files and the card in one commit."""
    from speechbrain_music.inference.hub import HUB_ID, upload_export
    from speechbrain_music.reporting.model_card import TAGS, model_card
    from speechbrain_music.utils.atomic import write_together
    from speechbrain_music.utils.errors import UserError

    if not HUB_ID.fullmatch(args.hub_id):
        raise UserError(f"{args.hub_id!r} is not a name on the hub: write USER/NAME")
    card = model_card(args.export, args.hub_id, args.results, args.licence)
    if args.dry_run == "-":
        print(card, end="")
    elif args.dry_run:
        path = Path(args.dry_run, "README.md")
        if path.exists() and TAGS not in path.read_text("utf-8", "replace"):
            raise UserError(
                f"{path} would be overwritten, and is no model card: choose a new folder"
            )
        write_together({path: card})
        print(f"{path}: nothing was uploaded")
    else:
        print(upload_export(args.export, args.hub_id, card, args.private))
