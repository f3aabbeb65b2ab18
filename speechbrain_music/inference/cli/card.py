"""Write the model card of an export.

sbmusic card results/brn_sum/1234/export USER/NAME --licence cc-by-4.0 \\
    --results results/*/brn_sum/results.json > results/brn_sum/1234/export/README.md
hf upload USER/NAME results/brn_sum/1234/export    # by huggingface_hub: the export with its card

The card lists the configuration, corpora, hours, steps, results of tasks with intervals (those on
composed music in a table of their own), licence, limits and usage.
"""

from pathlib import Path

from speechbrain_music.utils.errors import UserError


def add_arguments(parser):
    """Add the options of `sbmusic card`."""
    parser.add_argument("export", metavar="EXPORT", type=Path, help="folder of the export")
    parser.add_argument("hub_id", metavar="HUB_ID", help="USER/NAME on the Hugging Face hub")
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


def run(args):
    """Print the card."""
    from speechbrain_music.inference.hub import HUB_ID
    from speechbrain_music.reporting.model_card import model_card

    if not HUB_ID.fullmatch(args.hub_id):
        raise UserError(f"{args.hub_id!r} is not a name on the hub: write USER/NAME")
    print(model_card(args.export, args.hub_id, args.results, args.licence), end="")
