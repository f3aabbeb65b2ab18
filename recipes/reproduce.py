"""Published figures of an encoder measured on your data: published, measured, difference.

python recipes/reproduce.py mert-95m gtzan_genre giantsteps_key --trust_remote_code True \\
    --data gtzan=/data/GTZAN giantsteps=/data/GiantSteps --marble_compat True
python recipes/reproduce.py MuQ gtzan_genre --encoder muq:FOLDER --data gtzan=/data/GTZAN

With --encoder any model of a recipe's published.csv can be named. Further options are those of
recipes/marble.py, which evaluates the encoder; finished results are reused.
"""

import json
import logging
import sys
from importlib import import_module
from pathlib import Path

import yaml

from speechbrain_music.evaluation.protocol import MARBLE, RESULTS
from speechbrain_music.evaluation.results import read_published
from speechbrain_music.evaluation.tasks import find_task
from speechbrain_music.reporting.pages import TEMPLATES, render
from speechbrain_music.utils.arguments import make_parser
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import UserError, run_command

ROOT = Path(__file__).parents[1]


def main(argv):
    """Evaluates the encoder and writes reproduce.md; see the head of this file."""
    args, others = make_parser(__file__, __doc__).parse_known_args(argv)
    known = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    entry = known.get(args.model.lower(), {"models": [args.model], "encoder": None})
    encoder = args.encoder or entry["encoder"]
    if encoder is None:
        raise UserError(f"model is {args.model!r}: choose {', '.join(known)}, or add --encoder")
    published = {}
    for task in map(find_task, args.tasks):
        path = ROOT / "recipes" / task.folder / "published.csv"
        rows = read_published(path, task.name)
        published[task.name] = [row for row in rows if row["model"] in entry["models"]]
        if not published[task.name]:
            names = ", ".join(dict.fromkeys(row["model"] for row in rows)) or "another task"
            raise UserError(f"{path} has no {args.model} on {task.name}: choose {names}")
    sys.path.insert(0, str(ROOT))  # for the recipes
    command = [*others, "--encoders", f"{args.model}={encoder}", "--tasks", *args.tasks]
    command += ["--out", str(args.out), "--no_table"]
    import_module("recipes.marble").main(command)
    cells = []
    for task, rows in published.items():
        results = json.loads((args.out / task / args.model / RESULTS).read_text(encoding="utf-8"))
        for metric, figure in results["figures"].items():
            name = metric.split()[-1]  # of a frame task it comes after the head
            cells += [(results, metric, figure, row) for row in rows if row["metric"] == name]
    page = render(TEMPLATES / "reproduce.md", encoder=encoder, cells=cells, marble=MARBLE)
    write_together({args.out / "reproduce.md": page})
    print(page)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(run_command(lambda: main(sys.argv[1:])))
