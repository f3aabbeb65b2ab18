"""An export to the Hugging Face hub, with a model card.

sbmusic push results/brn_sum/1234/export USER/NAME --licence cc-by-4.0 \\
    --results results/*/brn_sum/results.json
sbmusic push results/brn_sum/1234/export USER/NAME --dry_run        # prints the card
sbmusic push results/brn_sum/1234/export USER/NAME --dry_run FOLDER # writes it there

The card has the configuration, corpora, hours and steps, the tasks' figures with intervals, those
on composed music apart, licence, limits and how to use it. Log in first: `hf auth login`.
"""

from pathlib import Path

CARD = "README.md"


def add_arguments(parser):
    """The options of `sbmusic push`.

    Example
    -------
    >>> from argparse import ArgumentParser
    >>> add_arguments(parser := ArgumentParser())
    >>> parser.parse_args(["results/mine/export", "me/mine", "--dry_run"]).dry_run  # print it
    '-'
    """
    parser.add_argument("export", metavar="EXPORT", type=Path, help="folder of the export")
    parser.add_argument("hub_id", metavar="HUB_ID", help="USER/NAME on the hub")
    parser.add_argument(
        "--results",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="results.json of tasks by which this export was judged",
    )
    parser.add_argument(
        "--licence", "--license", metavar="ID", help="of the weights, such as cc-by-4.0"
    )
    parser.add_argument("--private", action="store_true", help="for you alone")
    parser.add_argument(
        "--dry_run",
        nargs="?",
        const="-",
        metavar="FOLDER",
        help="print the card, or write it to a folder; nothing is uploaded",
    )


def run(args):
    """Uploads the export's two files and the card in one commit.

    Raises UserError if the card cannot be made, or the hub refuses or cannot be reached.

    Example
    -------
    >>> from argparse import Namespace
    >>> run(Namespace(export=Path("export"), hub_id="me/mine", results=[], licence="CC BY"))
    Traceback (most recent call last):
    ...
    speechbrain_music.inference.model_card.CardError: 'CC BY' is no licence's identifier: write \
cc-by-4.0, apache-2.0 ...
    """
    from speechbrain_music.inference.model_card import model_card
    from speechbrain_music.models.safe_folder import CONFIG, WEIGHTS
    from speechbrain_music.utils.atomic import write_together

    card = model_card(args.export, args.hub_id, args.results, args.licence)
    if args.dry_run == "-":
        print(card, end="")
    elif args.dry_run:
        write_together({Path(args.dry_run) / CARD: card})
        print(f"{Path(args.dry_run) / CARD}: nothing was uploaded")
    else:
        files = {name: args.export / name for name in (CONFIG, WEIGHTS)}
        print(_upload(args.hub_id, files | {CARD: card.encode()}, args.private))


def _upload(hub_id, files, private):
    """Makes the repository if need be, and one commit of the files (name -> path or bytes).

    Returns its address; raises UserError if the hub refuses or cannot be reached.
    """
    import huggingface_hub as hub

    from speechbrain_music.utils.errors import UserError

    api = hub.HfApi()
    additions = [
        hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
        for name, content in files.items()
    ]
    try:
        address = api.create_repo(hub_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(hub_id).private:
            raise UserError(f"{hub_id} is there already and public: choose another name")
        api.create_commit(hub_id, additions, commit_message="Encoder from speechbrain_music")
    except UserError:
        raise
    except (OSError, ValueError) as error:  # the hub's own errors are among these
        raise UserError(
            f"{hub_id} was not uploaded ({type(error).__name__}: {error}): log in with "
            "`hf auth login`, and see that the name is yours"
        ) from error
    return address
