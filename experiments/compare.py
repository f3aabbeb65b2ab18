"""Pre-train variants of the method with several seeds and compare them in one table.

python experiments/compare.py demo
python experiments/compare.py study [--soundtracks FOLDER] [--seeds 1 2 3] [--system brn_sum_tiny]
    [--tasks gtzan_genre ...] [--evaluate "--quick True ..."]

NAME.yaml in compare/ says what is varied; README.md lists them. All variants have the same targets
(quantizer_seed) and are compared by probes of frames, on composed music by other artists than
those trained on; those that the yaml names as `finalists` also by recipes/marble.py, and with
--soundtracks (fetched if they are not there) by retrieval on recordings of other albums than those
trained on. Further options (--number_of_epochs 10 ...) go to every pre-training. The same command
continues after an interruption, also on another machine, with the work folder copied.
"""

import json
import logging
import shlex
import shutil
import sys
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.data_prep.replica.mixture import merged_data, prepare_mixture, prepare_speech
from speechbrain_music.evaluation.frame_probe import CHORD, PITCH, FrameProbe
from speechbrain_music.evaluation.tasks import TASKS, existing_tasks
from speechbrain_music.metrics.pretraining import HELD_OUT
from speechbrain_music.metrics.resampling import LEVEL, holm
from speechbrain_music.models.export import load_export
from speechbrain_music.models.frozen import untrained
from speechbrain_music.models.safe_folder import RUN_RESULT
from speechbrain_music.models.targets import QUANTIZER
from speechbrain_music.reporting.pages import render
from speechbrain_music.reporting.pictures import picture
from speechbrain_music.reporting.run_log import read_rows
from speechbrain_music.utils.arguments import make_parser
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.environment import where_it_ran
from speechbrain_music.utils.errors import UserError, run_command
from speechbrain_music.utils.processes import run_recipes

HERE = Path(__file__).parent / "compare"
ROOT = HERE.parents[1]
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))
# Of each recording; mel statistics have the deviation, too.
EXCERPTS = ["--max_seconds", "60", "--pooling", "mean_std"]
# Of composed tracks to probe, by other artists than those of the training corpus.
PROBED = CorpusPlan(seed=1000, longest=30.0)
DATA = ("data_folder", "train_csv", "valid_csv")  # options of all recipes that train
UNTRAINED = "untrained"


def load(name):
    """A comparison's yaml as a dict.

    question; arguments (defaults of the command line); options (of all pre-trainings); variants
    (name -> options of its own, among them `system`; `tokenizer`, a yaml of recipes/tokenizer, with
    `teacher`, VARIANT:LAYER, of that layer of another variant; `init_from`, also another variant;
    `speech`, its percentage of the training audio); finalists (variants that are compared on
    tasks). The other variants are compared with the first: by probes, and by the figures in `also`
    (of the held-out loss only where all variants have the same targets and mask).
    """
    if name not in NAMES:
        raise UserError(f"there is no comparison {name!r}: choose {', '.join(NAMES)}")
    stored = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return {"arguments": {}, "options": {}, "finalists": [], "also": []} | stored


class Runs:
    """Trainings, one folder per set of options and seed; `common` are options of all variants."""

    def __init__(self, args, common):
        self.args, self.common = args, common

    def system(self, options):
        """The yaml of a variant, of the size of `--system`."""
        name = options.get("system", self.args.system)
        return name if self.args.system.endswith("_tiny") else name.removesuffix("_tiny")

    def folders(self, options):
        """A variant's folders, one per seed."""
        everything = {key: str(value) for key, value in (self.common | options).items()}
        if "tokenizer" in everything:
            everything["tokenizer_options"] = self.args.tokenizer
        if self.args.speech:
            everything["speech_corpus"] = str(self.args.speech)
        name = f"{self.system(options)}-{_digest(everything)}"
        return [self.args.work / f"{name}-{seed}" for seed in self.args.seeds]

    def exports(self, options):
        """A variant's exports, one per seed."""
        return [folder / RUN_RESULT for folder in self.folders(options)]

    def train(self, variants):
        """Trains what has not finished: the first seed of all variants, then the second ..."""
        chains = [
            self.chain(options, variants, place)
            for place in range(len(self.args.seeds))
            for options in variants.values()
        ]
        for steps in zip_longest(*chains):
            commands = dict(filter(None, steps))  # several variants may share a step
            run_recipes(commands.values(), commands.keys())

    def chain(self, options, variants, place):
        """The trainings that a variant needs, in order, as (folder, command); the last is its own.

        Before it come the variants of `teacher` and `init_from`, and between them the `tokenizer`.
        """
        chain, own = [], self.common | options | {"seed": self.args.seeds[place]}
        _, tokenizer, teacher = (own.pop(k, None) for k in ("system", "tokenizer", "teacher"))
        if share := own.pop("speech", None):
            corpora = {self.args.speech: share, Path(own["train_csv"]).parent: 100 - share}
            own |= merged_data(corpora, self.args.work / "manifests" / f"speech_{share}")
        if tokenizer:
            data = {key: own[key] for key in DATA if key in own}
            if teacher:
                variant, _, layer = teacher.rpartition(":")
                chain = self.chain(variants[variant], variants, place)
                data["features_from"] = f"{chain[-1][0] / RUN_RESULT}:{layer}"
            made = self.args.work / f"{tokenizer}-{_digest([self.args.tokenizer, data])}"
            command = _command("tokenizer", tokenizer, made, data)
            chain.append((made, command + shlex.split(self.args.tokenizer)))
            own["targets"] = made / QUANTIZER
        if own.get("init_from") in variants:
            chain += self.chain(variants[own["init_from"]], variants, place)
            own["init_from"] = chain[-1][0] / RUN_RESULT
        folder = self.folders(options)[place]
        return [*chain, (folder, _command("pretrain", self.system(options), folder, own))]


def _digest(options):
    key = json.dumps(options, sort_keys=True, default=str)
    return blake2b(key.encode(), digest_size=5).hexdigest()


def _command(recipe, name, folder, options):
    pairs = [part for key, value in options.items() for part in (f"--{key}", value)]
    train = [ROOT / f"recipes/{recipe}/train.py", ROOT / f"hparams/{name}.yaml"]
    return [*train, *pairs, "--output_folder", folder]


def probe_all(runs, variants):
    """Name -> one dict of figures per seed, of the variants and of untrained encoders."""
    folder = runs.args.work / "probed"
    tracks = read_manifest(make_corpus(folder, runs.args.probe_hours, PROBED), folder)
    held_out = tracks["artist"].isin(sorted(set(tracks["artist"]))[::3])
    probe = FrameProbe(tracks["wav"][~held_out], tracks["wav"][held_out])
    found = {}
    for name, options in variants.items():
        found[name] = []
        for run, export in zip(runs.folders(options), runs.exports(options), strict=True):
            model = load_export(export)
            step = model.config["training"]["step"]
            rows = list(read_rows(run, "valid"))
            figures = next(row for row in rows if row["step"] == step)
            del figures["kind"]
            gain = figures["cross_entropy_unigram"] - figures["cross_entropy"]
            figures["nats below unigram"] = gain
            if "init_from" in options:  # the first step at which it is as good as the first variant
                goal = found[next(iter(variants))][len(found[name])]["cross_entropy"]
                figures["steps"] = [row["step"] for row in rows if row["cross_entropy"] <= goal][:1]
            found[name].append(figures | _summary(probe(model.features, model.encoder.eval())))
            if len(found.setdefault(UNTRAINED, [])) < len(runs.args.seeds):
                new = untrained(model, runs.args.seeds[len(found[UNTRAINED])]).model
                found[UNTRAINED].append(_summary(probe(new.features, new.encoder)))
    return found


def _summary(figures):
    """With the best of the layers after the front-end, for each kind of probe."""
    for kind in (PITCH, CHORD):
        blocks = [v for k, v in figures.items() if k.startswith(f"{kind}_layer") and k[-2:] != "_0"]
        figures[kind] = max(blocks)
    return figures


def compare(found, key):
    """Variant -> what it has over the first, with a 95% interval and Holm-adjusted p; the spread.

    The spread (sd over seeds) is pooled over the variants; `resolves` is half the width of the
    interval of a difference, the smallest that so many seeds can show.
    """
    first, *others = [name for name in found if name != UNTRAINED]
    values = np.array([[figures[key] for figures in found[name]] for name in (first, *others)])
    variants, seeds = values.shape
    if seeds < 2 or not others:
        return {}, None
    error = max(float(np.sqrt(values.var(axis=1, ddof=1).mean() * 2 / seeds)), 1e-12)
    student = stats.t(variants * (seeds - 1))
    half = float(student.isf(LEVEL / 2) * error)
    means = dict(zip(others, (values[1:].mean(1) - values[0].mean()).tolist(), strict=True))
    adjusted = holm({name: float(2 * student.sf(abs(m) / error)) for name, m in means.items()})
    return {
        name: {"difference": m, "low": m - half, "high": m + half, "p": adjusted[name]}
        for name, m in means.items()
    }, half


def draw(path, runs):
    """Draws what variants (name -> folders, one per seed) predict of held-out tracks, by step."""
    with picture(path) as figure:
        axes = figure.subplots()
        for name, folders in runs.items():
            rows = pd.DataFrame([row for run in folders for row in read_rows(run, "valid")])
            gain = rows["cross_entropy_unigram"] - rows["cross_entropy"]
            axes.plot(gain.groupby(rows["step"]).mean(), marker=".", label=name)
        axes.set(xlabel="step", ylabel="held-out tracks, nats below unigram; mean over seeds")
        axes.legend()
        axes.grid(alpha=0.3)


def evaluate(args, exports, music):
    """Compares encoders (name -> exports) on tasks and on recordings; returns title -> page."""
    first = next(iter(exports.values()))[0]
    encoders = [f"{name}={','.join(map(str, paths))}" for name, paths in exports.items()]
    encoders = ["--encoders", *encoders, "mel", f"untrained=random:{first}"]
    pages = {}

    def publish(title, folder, kind):
        name = f"{args.name}-{folder.name}"
        for source in sorted(folder.glob(f"{kind}.*")):
            shutil.copyfile(source, args.out / f"{name}{source.suffix}")
        pages[title] = f"{name}.md"

    folder = args.work / "evaluated" / args.name
    if args.soundtracks:
        for same in ("recording", "album"):
            out = folder / f"same-{same}"
            command = [ROOT / "experiments/retrieval.py", args.soundtracks, "--out", out]
            command += ["--manifest", music / "recordings/test.csv", *EXCERPTS, *encoders]
            command += ["--features", args.work / "features/retrieval"]
            run_recipes([command + (["--same", same] if same == "album" else [])])
            publish(f"excerpts of the same {same}, on recordings", out, "retrieval")
    if not args.tasks:
        return pages
    command = [ROOT / "recipes/marble.py", "--out", folder / "tasks", *encoders]
    command += ["--features", args.work / "features", *shlex.split(args.evaluate)]
    command += ["--data", *args.data] if args.data else []
    run_recipes([[*command, "--no_table", "--tasks", task] for task in args.tasks])
    run_recipes([[*command, "--tasks", *args.tasks]])
    publish("tasks", folder / "tasks", "marble")
    return pages


def parse(argv):
    """The command line: arguments, and options of all pre-trainings."""
    parser = make_parser(__file__, __doc__)
    name = parser.parse_known_args(argv)[0].name
    parser.set_defaults(**{"tasks": list(TASKS)} | load(name)["arguments"])
    args, others = parser.parse_known_args(argv)
    existing_tasks(args.tasks, ROOT)
    if len(set(args.seeds)) < len(args.seeds):
        raise UserError(f"seeds are {args.seeds}: give each once")
    if args.soundtracks and "--data_folder" in others:
        raise UserError("--soundtracks adds to composed music: leave out --data_folder")
    if len(others) % 2 or not all(key.startswith("--") for key in others[::2]):
        raise UserError(f"{shlex.join(others)}: options of the pre-training are --key value")
    return args, {key[2:]: value for key, value in zip(others[::2], others[1::2], strict=True)}


def main(argv):
    """Runs a comparison; see the head of this file."""
    args, others = parse(argv)
    comparison = load(args.name)
    check_output(args.out / "page", args.work / "run")
    music, mixes = {}, any("speech" in options for options in comparison["variants"].values())
    if "data_folder" not in others:
        music = prepare_mixture(args.hours, args.work / "manifests", args.soundtracks)
    elif mixes and not (args.speech and "train_csv" in others):
        raise UserError(f"{args.name} mixes corpora: pass --train_csv, --valid_csv and --speech")
    if mixes and not args.speech:
        args.speech = prepare_speech(args.hours, args.work / "manifests")
    runs = Runs(args, {"quantizer_seed": 1} | music | comparison["options"] | others)
    variants = comparison["variants"]
    runs.train(variants)
    folders = {name: runs.folders(each) for name, each in variants.items()}
    found = probe_all(runs, variants)
    differences = {kind: compare(found, kind) for kind in (PITCH, CHORD, *comparison["also"])}
    stored = comparison | vars(args)
    stored |= {
        "command": shlex.join(["python", "experiments/compare.py", *argv]),
        "machine": where_it_ran(),
        "data_folder": others.get("data_folder"),
        "runs": {name: list(map(str, each)) for name, each in folders.items()},
        "figures": found,
        "differences": {kind: pair[0] for kind, pair in differences.items()},
        "resolves": {kind: pair[1] for kind, pair in differences.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    exports = {name: runs.exports(variants[name]) for name in comparison["finalists"]}
    stored["pages"] = evaluate(args, exports, args.work / "manifests") if exports else {}
    names = {"pitch": PITCH, "chord": CHORD, "untrained": UNTRAINED, "held_out": HELD_OUT}
    text = render(HERE.with_name("templates") / "compare.md", level=LEVEL, **names, **stored)
    dump = json.dumps(stored, indent=1, default=str) + "\n"
    draw(args.out / f"{args.name}.png", folders)
    write_together({args.out / f"{args.name}.md": text, args.out / f"{args.name}.json": dump})
    print(text)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(run_command(lambda: main(sys.argv[1:])))
