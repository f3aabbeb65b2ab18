"""Write the model card of an export.

sbmusic card results/brn_sum/1234/export USER/NAME --licence cc-by-4.0 \\
    --results results/*/brn_sum/results.json > results/brn_sum/1234/export/README.md
hf upload USER/NAME results/brn_sum/1234/export    # by huggingface_hub: the export with its card

The card lists the configuration, corpora, hours, steps, results of tasks with intervals (those on
composed music in a table of their own), licence, limits and usage.
"""

from speechbrain_music.utils.errors import UserError


def run(args):
    """Print the card."""
    from speechbrain_music.inference.hub import HUB_ID
    from speechbrain_music.reporting.model_card import model_card

    if not HUB_ID.fullmatch(args.hub_id):
        raise UserError(f"{args.hub_id!r} is not a name on the hub: write USER/NAME")
    print(model_card(args.export, args.hub_id, args.results, args.licence), end="")
