"""The command `sbmusic card`."""

from speechbrain_music.inference.hub import HUB_ID
from speechbrain_music.reporting.model_card import model_card
from speechbrain_music.utils.errors import UserError


def run(args):
    """Print the card."""
    if not HUB_ID.fullmatch(args.hub_id):
        raise UserError(f"{args.hub_id!r} is not a name on the hub: write USER/NAME")
    print(model_card(args.export, args.hub_id, args.results, args.licence), end="")
